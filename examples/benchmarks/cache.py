"""The teacher cache: shuffled gathers, memory, and what `cache-teacher` costs over its teacher.

    python examples/benchmarks/cache.py [--quick] [--threads N]

Gathers of 1,024 shuffled rows of 768 bfloat16 against `index_select` of a RAM tensor, against row slices through
safetensors' own API, Arrow rows (datasets) and the members of a tar. Anonymous memory of a fresh process that gathers
every row of a large and of a small cache (Linux only; mapped pages are the page cache's, and a pass in order maps
none). The whole stage, start to end, on JPEGs of 256 px with an EfficientNet-lite0 of random weights, against a loop
that decodes the same pictures and a loop of the same teacher's forwards on ready tensors.

Each pair is timed in turn in one process, medians over the rounds. The table goes to stderr, one JSON document to
stdout. `--quick`: a tenth of the rows, half of the pictures.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkd_cli.cache.index import Index
from mmkd_cli.cache.reader import SignalArray, open_cache
from mmkd_cli.cache.writer import ShardWriter
from mmkd_cli.core import artifacts, paths
from mmkd_cli.core.artifacts import FileRecord, Plan
from mmkd_cli.core.contracts import SignalSpec

WIDTH, BATCH, ROUNDS = 768, 1_024, 15
TARGETS = {
    "gather_vs_ram": ">= 0.4",
    "gather_vs_ram_8_shards": ">= 0.4",
    "gather_vs_safetensors_slices": ">= 10",
    "gather_vs_arrow_rows": ">= 10",
    "gather_vs_tar": ">= 10",
    "memory_large_minus_small_MiB": "<= 64",
    "shuffled_anonymous_large_minus_small_MiB": "<= 64",
    "stage_vs_bare": ">= 0.95",
}


def make_cache(folder: Path, rows: int, per_shard: int) -> Path:
    """A finished cache of random `image_cls [768]` in bfloat16, one shard in memory at a time."""
    index = Index({"image_cls": SignalSpec("image_cls", "images", (WIDTH,))}, {"train": {"images": rows}},
                  {"images": per_shard})  # fmt: skip
    _, artifact = artifacts.begin(folder, Plan("cache", "cache-teacher", folder.name, {"rows": rows}, {}))
    paths.write_json(folder / "index.json", index.to_json())
    files = {"index.json": FileRecord.of(folder / "index.json")}
    for shard in index.shards():
        writer = ShardWriter(index, shard)
        values = torch.randn(shard.rows, WIDTH, generator=torch.Generator().manual_seed(shard.number))
        writer.put(np.arange(shard.first, shard.last), {"image_cls": values})
        files[shard.file] = writer.commit(folder, artifact.plan["request"])
    artifacts.finish(artifact, content={"rows": rows}, files=files, hashed={}, started=time.time())
    return folder


def turns(rounds: int, ways: dict[str, Callable[[np.ndarray], Any]], rows: int) -> dict[str, float]:
    """Median seconds of each way, the same shuffled rows for all of them in a round."""
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 2):
        chosen = rng.integers(0, rows, BATCH)
        for name, way in ways.items():
            began = time.perf_counter()
            way(chosen)
            if round_ >= 2:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def gathers(folder: Path, rows: int, shards: int) -> dict[str, float]:
    """The cache's gather and that of a RAM tensor: ms, and the cache's speed over the tensor's."""
    cache, ram = open_rows(folder, rows, shards)
    found = turns(ROUNDS * 3, {"cache": lambda r: cache[r], "ram": lambda r: ram.index_select(0, torch.from_numpy(r))},
                  rows)  # fmt: skip
    return {"gather_ms": found["cache"] * 1e3, "ram_ms": found["ram"] * 1e3,
            "gather_vs_ram": found["ram"] / found["cache"]}  # fmt: skip


def peers(folder: Path, rows: int) -> dict[str, float]:
    """The cache's speed over that of what else stores rows."""
    cache, ram = open_rows(folder, rows, 1)
    ways = {"safetensors_slices": safetensors_rows(folder, ram), "arrow_rows": arrow_rows(folder, ram),
            "tar": tar_rows(folder, ram)}  # fmt: skip
    found = turns(ROUNDS, {"cache": lambda r: cache[r], **ways}, rows)
    return {f"gather_vs_{name}": found[name] / found["cache"] for name in ways}


def open_rows(folder: Path, rows: int, shards: int) -> tuple[SignalArray, Tensor]:
    """A cache whose pages have all been touched once, and the same values in RAM."""
    cache = open_cache(make_cache(folder / "caches" / "rows", rows, -(-rows // shards)))["image_cls"]
    cache[np.random.default_rng(1).permutation(rows)]
    return cache, cache[:]


def safetensors_rows(folder: Path, ram: Tensor) -> Callable[[np.ndarray], Any]:
    from safetensors import safe_open
    from safetensors.torch import save_file

    save_file({"image_cls": ram}, folder / "rows.safetensors")
    handle = safe_open(folder / "rows.safetensors", "pt").__enter__().get_slice("image_cls")
    return lambda rows: torch.stack([handle[row] for row in rows.tolist()])


def arrow_rows(folder: Path, ram: Tensor) -> Callable[[np.ndarray], Any]:
    from datasets import Dataset, Features, List, Value, load_from_disk

    features = Features({"image_cls": List(Value("float16"), length=WIDTH)})
    Dataset.from_dict({"image_cls": ram.half().numpy()}, features=features).save_to_disk(folder / "arrow")
    table = load_from_disk(folder / "arrow").with_format("numpy")
    return lambda rows: table[rows.tolist()]["image_cls"]


def tar_rows(folder: Path, ram: Tensor) -> Callable[[np.ndarray], Any]:
    """Members by name in an open tar: faster than webdataset, which reads a tar from its start."""
    with tarfile.open(folder / "rows.tar", "w") as tar:
        for row, value in enumerate(ram.half().numpy()):
            member = tarfile.TarInfo(f"{row}.bin")
            member.size = value.nbytes
            tar.addfile(member, io.BytesIO(value.tobytes()))
    opened = tarfile.open(folder / "rows.tar")  # noqa: SIM115  (held open, as the cache is)
    members = opened.getmembers()

    def take(rows: np.ndarray) -> Tensor:
        parts = [np.frombuffer(opened.extractfile(members[row]).read(), np.float16) for row in rows]  # type: ignore[union-attr]
        return torch.from_numpy(np.stack(parts))

    return take


_READ = """
import sys, numpy as np
from mmkd_cli.cache.reader import SignalArray, open_cache
signal = open_cache(sys.argv[1])["image_cls"]
for first in range(0, len(signal), 1024): signal[first : first + 1024]
order = np.random.default_rng(0).permutation(len(signal)) if len(sys.argv) > 2 else ()
for first in range(0, len(order), 1024): signal[order[first : first + 1024]]
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(status["RssAnon"].split()[0], status["VmHWM"].split()[0])
"""


def memory(folder: Path, large: int, small: int) -> dict[str, float]:
    """MiB of a fresh process after every row was read: in order (peak, all pages), and shuffled (anonymous)."""
    found: dict[str, tuple[float, float]] = {}
    for rows in (large, small):
        place = make_cache(folder / "caches" / f"rows-{rows}", rows, 80_000)
        found[f"{rows}"] = (read_memory(place)[1], read_memory(place, "shuffled")[0])
    (peak, anonymous), (small_peak, small_anonymous) = found.values()
    return {"rows_large": large, "rows_small": small, "peak_MiB_large": peak, "peak_MiB_small": small_peak,
            "memory_large_minus_small_MiB": peak - small_peak,
            "shuffled_anonymous_large_minus_small_MiB": anonymous - small_anonymous}  # fmt: skip


def read_memory(place: Path, *more: str) -> tuple[float, float]:
    """MiB: anonymous memory at the end, and the highest resident memory."""
    done = subprocess.run([sys.executable, "-c", _READ, str(place.resolve()), *more], capture_output=True, text=True,
                          check=True)  # fmt: skip
    anonymous, peak = done.stdout.split()
    return int(anonymous) / 1024, int(peak) / 1024


def photos(root: Path, rows: int) -> None:
    """Prepared data of `rows` smooth random JPEGs of 256 x 341."""
    import datasets
    from PIL import Image

    rng = np.random.default_rng(0)

    def jpeg() -> bytes:
        out = io.BytesIO()
        coarse = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
        coarse.resize((341, 256), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
        return out.getvalue()

    folder = root / "data" / "photos"
    _, artifact = artifacts.begin(folder, Plan("data", "prepare-data", "photos", {"rows": rows}, {}))
    features = datasets.Features({"image_id": datasets.Value("string"), "image": datasets.Image(decode=False)})
    columns = {"image_id": [str(row) for row in range(rows)], "image": [{"bytes": jpeg()} for _ in range(rows)]}
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(columns, features=features)}).save_to_disk(
        folder / "images"
    )
    artifacts.finish(
        artifact, content={"tables": {"train": {"images": rows}}}, files={}, hashed={}, started=time.time()
    )


def stage(folder: Path, rows: int, threads: int, rounds: int = 5) -> dict[str, float]:
    """Pictures a second of `cache-teacher` over those of bare decode plus bare forward."""
    import timm
    from safetensors.torch import save_file

    from mmkd_cli.core import config
    from mmkd_cli.core.contracts import StageContext
    from mmkd_cli.data.pictures import decode
    from mmkd_cli.data.prepared import open_data
    from mmkd_cli.stages import cache_teacher
    from mmkd_cli.teachers.timm_models import Timm, TimmConfig

    arch, batch_size = "tf_efficientnet_lite0", 64
    photos(folder, rows)
    save_file(timm.create_model(arch).state_dict(), folder / "weights.safetensors")
    table = open_data(folder, "photos").table("images", "train").with_format("arrow")
    pictures = [value.as_py() for value in table[:]["image"].combine_chunks().field("bytes")]
    teacher = Timm(TimmConfig(arch=arch, weights=str(folder / "weights.safetensors")))
    teacher.load("cpu")
    keys = {"data": "photos", "teacher": {"name": "timm", "arch": arch, "weights": str(folder / "weights.safetensors")},
            "cache": {"batch_size": batch_size, "threads": threads}}  # fmt: skip
    resolved = config.resolve(cache_teacher.Config, [config.Layer("benchmark", keys)]).config
    torch.set_num_threads(threads)
    bare, whole = [], []
    for round_ in range(rounds + 1):
        began = time.perf_counter()
        ready = torch.stack([teacher.picture_transform(decode(data)) for data in pictures])
        decoded = time.perf_counter()
        for first in range(0, rows, batch_size):
            teacher({"pixels": ready[first : first + batch_size]}, ["image_cls"])
        forwarded = time.perf_counter()
        cache_teacher.run(resolved, StageContext(folder, f"round-{round_}", "cpu"))
        ended = time.perf_counter()
        bare.append(forwarded - began)
        whole.append(ended - forwarded)
        print(f"round {round_}: decode {decoded - began:.1f} s, forward {forwarded - decoded:.1f} s, "
              f"stage {ended - forwarded:.1f} s", file=sys.stderr)  # fmt: skip
    ratio = statistics.median(b / w for b, w in zip(bare[1:], whole[1:], strict=True))
    return {"stage_pictures_per_s": rows / statistics.median(whole[1:]), "stage_vs_bare": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, half of the pictures")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the teacher's forward")
    given = parser.parse_args()
    scale = 10 if given.quick else 1
    torch.set_num_threads(1)  # a gather on two busy cores measures how threads wait for each other
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, Any] = gathers(folder / "one", 200_000 // scale, shards=1)
        found["gather_vs_ram_8_shards"] = gathers(folder / "eight", 200_000 // scale, shards=8)["gather_vs_ram"]
        found |= peers(folder / "peers", 20_000)
        found |= memory(folder / "memory", 1_000_000 // scale, 10_000)
        found |= stage(folder / "stage", 640 // min(scale, 2), given.threads)
    for row, value in found.items():
        print(f"{row:<42}{value:>14,.3f}   {TARGETS.get(row, '')}", file=sys.stderr)
    seen = {"threads": torch.get_num_threads(), "cores": os.cpu_count(), "torch": str(torch.__version__)}
    print(json.dumps({**seen, **found}))


if __name__ == "__main__":
    main()
