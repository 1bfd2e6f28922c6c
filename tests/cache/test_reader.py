"""Gathers against plain indexing of the array that was stored."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmkd_cli.cache.index import Index
from mmkd_cli.cache.reader import Cache, Ragged, open_cache
from mmkd_cli.cache.shard_file import DTYPES
from mmkd_cli.cache.writer import ShardWriter
from mmkd_cli.core import artifacts, paths
from mmkd_cli.core.artifacts import FileRecord, Plan
from mmkd_cli.core.contracts import SignalSpec
from mmkd_cli.core.errors import Refused, UserError

ROWS = 23


def write_cache(root: Path, signals: dict[str, torch.Tensor | list[torch.Tensor]], per_shard: int, n_views: int = 0,
                rejected: dict[int, str] | None = None) -> Path:  # fmt: skip
    """A cache `made` of ready arrays over ROWS rows of the table `images` of two splits (val holds the negatives)."""
    specs = {}
    for name, value in signals.items():
        ragged = isinstance(value, list)
        first = value[0] if ragged else value
        kind = next(kind for kind, (_, dtype) in DTYPES.items() if dtype == first.dtype)
        shape = (0, *first.shape[1:]) if ragged else first.shape[2 if n_views else 1 :]
        specs[name] = SignalSpec(name, "images", tuple(shape), ragged, kind)
    index = Index(specs, {"val": {"images": ROWS}, "train": {"images": ROWS}}, {"images": per_shard}, n_views,
                  rejected=[{"split": s, "table": "images", "row": r, "reason": why}
                            for s in ("val", "train") for r, why in (rejected or {}).items()])  # fmt: skip
    folder = root / "caches" / "made"
    _, artifact = artifacts.begin(folder, Plan("cache", "cache-teacher", "made", {"what": "test"}, {}))
    paths.write_json(folder / "index.json", index.to_json())
    files = {"index.json": FileRecord.of(folder / "index.json")}
    for shard in index.shards():
        sign = -1 if shard.split == "val" else 1
        writer = ShardWriter(index, shard)
        rows = np.arange(shard.first, shard.last)
        for view in range(max(1, n_views)):
            outputs = {
                name: [sign * item for item in value[shard.first : shard.last]] if isinstance(value, list)
                else sign * (value[shard.first : shard.last, view] if n_views else value[shard.first : shard.last])
                for name, value in signals.items()
            }  # fmt: skip
            writer.put(rows, outputs, torch.full((len(rows),), view) if n_views else None)
        files[shard.file] = writer.commit(folder, artifact.plan["request"])
    artifacts.finish(artifact, content={}, files=files, hashed={}, started=time.time())
    return folder


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.Tensor, Cache]:
    values = torch.randn(ROWS, 3, 2).bfloat16()
    return values, open_cache(write_cache(tmp_path_factory.mktemp("root"), {"image_cls": values}, per_shard=5))


@given(rows=st.lists(st.integers(-ROWS, ROWS - 1), max_size=40))
def test_any_rows_equal_plain_indexing(dense: tuple[torch.Tensor, Cache], rows: list[int]) -> None:
    values, cache = dense
    expected = values[torch.tensor(rows, dtype=torch.int64)]
    for asked in (rows, np.array(rows, dtype=np.int32), torch.tensor(rows, dtype=torch.int64)):
        found = cache["image_cls"][asked]
        assert torch.equal(found, expected)
        assert found.dtype == torch.bfloat16


@given(start=st.integers(-30, 30), stop=st.integers(-30, 30), step=st.sampled_from([1, 2, 7, -1, -3, None]))
def test_any_slice_equals_plain_slicing(
    dense: tuple[torch.Tensor, Cache], start: int, stop: int, step: int | None
) -> None:
    values, cache = dense
    asked = slice(start, stop, step)
    assert torch.equal(cache["image_cls"][asked], values[list(range(ROWS))[asked]])


def test_one_row_a_mask_and_the_other_split(dense: tuple[torch.Tensor, Cache]) -> None:
    values, cache = dense
    assert torch.equal(cache["image_cls"][np.int64(7)], values[7])
    assert torch.equal(cache["image_cls"][-1], values[-1])
    mask = np.arange(ROWS) % 3 == 0
    assert torch.equal(cache["image_cls"][mask], values[torch.from_numpy(mask)])
    assert cache.split == "train" and cache.splits == ("val", "train")
    assert torch.equal(cache.of_split("val")["image_cls"][[3, 22]], -values[[3, 22]])
    assert cache["image_cls"].shape == (ROWS, 3, 2) and len(cache["image_cls"]) == ROWS


def test_rows_beyond_the_table_and_unknown_names_are_errors(dense: tuple[torch.Tensor, Cache]) -> None:
    _, cache = dense
    for rows in (ROWS, [0, -ROWS - 1]):
        with pytest.raises(IndexError, match="which has 23 rows"):
            cache["image_cls"][rows]
    with pytest.raises(TypeError, match="whole numbers"):
        cache["image_cls"][[0.5]]
    with pytest.raises(UserError, match="did you mean 'image_cls'"):
        cache["image_clss"]
    with pytest.raises(UserError, match="no split 'tran'"):
        cache.of_split("tran")


def test_what_is_gathered_may_be_changed_without_changing_the_cache(dense: tuple[torch.Tensor, Cache]) -> None:
    values, cache = dense
    for rows in (4, [4, 9], slice(3, 8)):
        cache["image_cls"][rows].zero_()
    assert torch.equal(cache["image_cls"][:], values)


def test_a_gather_touches_only_the_shards_of_its_rows(tmp_path: Path) -> None:
    values = torch.randn(ROWS, 4)
    folder = write_cache(tmp_path, {"image_cls": values}, per_shard=5)
    cache = open_cache(folder)
    (folder / "train" / "images-00003.safetensors").unlink()
    rows = [0, 24 - 2, 7, 1]
    assert torch.equal(cache["image_cls"][rows], values[rows])
    with pytest.raises(Refused, match=r"images-00003\.safetensors is missing"):
        cache["image_cls"][15]


def test_a_damaged_cache_is_not_opened(tmp_path: Path) -> None:
    folder = write_cache(tmp_path, {"image_cls": torch.randn(ROWS, 4)}, per_shard=5)
    shard = folder / "train" / "images-00001.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-3])
    with pytest.raises(Refused, match=r"train/images-00001\.safetensors"):
        open_cache(folder)
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    damaged = artifacts.read(folder)
    assert list(damaged.check()) == ["train/images-00001.safetensors"]
    with pytest.raises(Refused, match=r"train/images-00001\.safetensors"):
        open_cache("made", root=tmp_path)
    shutil.rmtree(folder)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    folder = write_cache(tmp_path, {"image_cls": torch.randn(ROWS, 4)}, per_shard=50)
    plan = paths.read_json(folder / "plan.json")
    paths.write_json(folder / "plan.json", {**plan, "format": 99})
    with pytest.raises(Refused, match="format 99"):
        open_cache(folder)


def test_rejected_rows_raise_and_the_rest_is_served(tmp_path: Path) -> None:
    values = torch.randn(ROWS, 4)
    folder = write_cache(tmp_path, {"image_cls": values}, per_shard=5, rejected={6: "not a JPEG", 20: "too large"})
    cache = open_cache(folder)
    assert cache.rejected("images").tolist() == [6, 20]
    for rows in (6, [0, 20], slice(0, 10), -3):
        with pytest.raises(Refused, match="was rejected"):
            cache["image_cls"][rows]
    rows = [5, 7, 19, 21]
    assert torch.equal(cache["image_cls"][rows], values[rows])
    stored = cache["image_cls"]._shard(1).tensors["image_cls"]
    assert torch.equal(stored[1], torch.zeros(4)) and torch.equal(stored[2], values[7])


def test_views_are_an_axis_and_one_may_be_picked_a_row(tmp_path: Path) -> None:
    values = torch.randn(ROWS, 3, 4)
    cache = open_cache(write_cache(tmp_path, {"image_cls": values}, per_shard=4, n_views=3))
    assert cache["image_cls"].shape == (ROWS, 3, 4)
    rows, views = np.array([22, 0, 9, 9, 3]), np.array([0, 5, 1, 2, 3])
    targets = cache.targets("train")
    assert torch.equal(targets.gather(["image_cls"], rows, views)["image_cls"], values[rows, views % 3])
    assert torch.equal(targets.gather(["image_cls"], rows)["image_cls"], values[rows])
    one_shard = np.array([2, 1])
    assert torch.equal(
        targets.gather(["image_cls"], one_shard, np.array([1, 2]))["image_cls"], values[one_shard, [1, 2]]
    )


def test_ragged_signals_keep_each_rows_length(tmp_path: Path) -> None:
    lengths = [(7 * row) % 5 for row in range(ROWS)]
    items = [torch.randn(length, 2) for length in lengths]
    ids = [torch.randint(0, 60_000, (length,)).to(torch.int64) for length in lengths]
    cache = open_cache(write_cache(tmp_path, {"layer_mean": items, "topk_ids": ids}, per_shard=6))
    rows = [22, 0, 13, 5, 13]
    found = cache["layer_mean"][rows]
    assert isinstance(found, Ragged)
    assert found.offsets.diff().tolist() == [lengths[row] for row in rows]
    assert torch.equal(found.values, torch.cat([items[row] for row in rows]))
    assert torch.equal(cache["topk_ids"][8], ids[8])
    expected = torch.nn.utils.rnn.pad_sequence([items[row] for row in rows], batch_first=True)
    gathered = cache.targets("train").gather(["layer_mean", "topk_ids"], np.array(rows))
    assert isinstance(gathered["layer_mean"], Ragged) and isinstance(gathered["topk_ids"], Ragged)
    assert torch.equal(gathered["layer_mean"].padded(), expected)
    assert torch.equal(gathered["topk_ids"].padded(9)[:, : expected.shape[1]].bool().sum(1),
                       torch.tensor([int(ids[row].bool().sum()) for row in rows]))  # fmt: skip


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "int32", "bool"])
def test_whole_numbers_of_every_kind_come_back(tmp_path: Path, kind: str) -> None:
    top = {"uint8": 255, "uint16": 65_535, "uint32": 2**32 - 1, "int32": 2**31 - 1, "bool": 1}[kind]
    values = (torch.arange(ROWS * 3, dtype=torch.int64).view(ROWS, 3) * 9_871_234_567) % (top + 1)
    index = Index(
        {"ids": SignalSpec("ids", "images", (3,), dtype=kind), "some": SignalSpec("some", "images", (0,), True, kind)},
        {"train": {"images": ROWS}}, {"images": ROWS},
    )  # fmt: skip
    (shard,) = index.shards()
    writer = ShardWriter(index, shard)
    rows = np.arange(ROWS)
    writer.put(rows, {"ids": values, "some": [row[: place % 4] for place, row in enumerate(values)]})
    found = writer.tensors()
    assert torch.equal(found["ids"].long(), values)
    ragged = Ragged(found["some.values"], found["some.offsets"])
    for place, row in enumerate(ragged.padded(3)):
        assert row.tolist() == [*values[place, : place % 4].tolist(), 0, 0, 0][:3]
