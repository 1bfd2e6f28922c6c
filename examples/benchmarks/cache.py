"""The teacher cache: shuffled gathers, memory, and what `cache-teacher` costs over its teacher.

    python examples/benchmarks/cache.py [--quick] [--root MMKD_ROOT --data NAME --weights FILE]

Gathers of 1,024 shuffled rows of 768 bfloat16 against `index_select` of a RAM tensor, against row slices through
safetensors' own API, Arrow rows (datasets) and the members of a tar. Anonymous memory of a fresh process that gathers
every row of a large and of a small cache (Linux only; mapped pages are the page cache's, and a pass in order maps
none). With --data: pictures a second of the stage against bare decode plus bare forward of the same timm teacher.

Each pair is timed in turn in one process, medians over the rounds. The table goes to stderr, one JSON document to
stdout. `--quick`: a tenth of the rows.
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
from mmkd_cli.cache.reader import open_cache
from mmkd_cli.cache.writer import ShardWriter
from mmkd_cli.core import artifacts, paths
from mmkd_cli.core.artifacts import FileRecord, Plan
from mmkd_cli.core.contracts import SignalSpec

WIDTH, BATCH, ROUNDS = 768, 1_024, 15
TARGETS = {
    "gather_vs_ram": ">= 0.4", "gather_vs_safetensors_slices": ">= 10", "gather_vs_arrow_rows": ">= 10",
    "gather_vs_tar": ">= 10", "memory_large_minus_small_MiB": "<= 64", "stage_vs_bare": ">= 0.95",
}  # fmt: skip


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
    """Speed of the cache's gather over that of a RAM tensor and of what else stores rows."""
    cache = open_cache(make_cache(folder / "caches" / "gathered", rows, -(-rows // shards)))["image_cls"]
    ram = cache[:]
    fast = turns(ROUNDS * 3, {"cache": lambda r: cache[r], "ram": lambda r: ram.index_select(0, torch.from_numpy(r))},
                 rows)  # fmt: skip
    slow = turns(5, {"cache": lambda r: cache[r], "slices": safetensors_rows(folder, ram),
                     "arrow": arrow_rows(folder, ram), "tar": tar_rows(folder, ram)}, rows)  # fmt: skip
    return {
        "gather_ms": fast["cache"] * 1e3, "ram_ms": fast["ram"] * 1e3, "gather_vs_ram": fast["ram"] / fast["cache"],
        "gather_vs_safetensors_slices": slow["slices"] / slow["cache"],
        "gather_vs_arrow_rows": slow["arrow"] / slow["cache"], "gather_vs_tar": slow["tar"] / slow["cache"],
    }  # fmt: skip


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
from mmkd_cli.cache.reader import open_cache
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    given = parser.parse_args()
    scale = 10 if given.quick else 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, Any] = {**gathers(folder, 200_000 // scale, shards=1)}
        found["gather_vs_ram_8_shards"] = gathers(folder / "many", 200_000 // scale, shards=8)["gather_vs_ram"]
        found |= memory(folder, 1_000_000 // scale, 10_000)
    for row, value in found.items():
        print(f"{row:<42}{value:>14,.3f}   {TARGETS.get(row, '')}", file=sys.stderr)
    print(
        json.dumps({"threads": torch.get_num_threads(), "cores": os.cpu_count(), "torch": torch.__version__, **found})
    )


if __name__ == "__main__":
    main()
