"""The shard format against safetensors itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from mmkd_cli.cache.shard_file import MappedShard, write_shard
from mmkd_cli.core.errors import Refused
from mmkd_cli.core.fingerprints import canonical_json, xxh3_file

TENSORS = {
    "b.values": torch.randn(5, 3).bfloat16(),
    "b.offsets": torch.tensor([0, 2, 5]),
    "a": torch.randn(2, 4),
    "empty": torch.empty(0, 7),
    "ids": torch.tensor([1, 65_535], dtype=torch.uint16),
}
METADATA = {"rows": 2, "split": "train"}


def test_the_bytes_are_those_of_safetensors_own_writer(tmp_path: Path) -> None:
    record = write_shard(tmp_path / "s.safetensors", TENSORS, METADATA)
    written = (tmp_path / "s.safetensors").read_bytes()
    assert written == safetensors.torch.save(TENSORS, {"mmkd": canonical_json(METADATA)})
    assert (record.bytes, record.xxh3_128) == (len(written), xxh3_file(tmp_path / "s.safetensors"))
    with safe_open(tmp_path / "s.safetensors", "pt") as file:
        assert json.loads(file.metadata()["mmkd"]) == METADATA
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]


def test_mapped_and_read_rows_equal_what_was_written(tmp_path: Path) -> None:
    write_shard(tmp_path / "s.safetensors", TENSORS, METADATA)
    shard = MappedShard(tmp_path / "s.safetensors")
    assert shard.metadata == METADATA
    for name, tensor in TENSORS.items():
        assert torch.equal(shard.tensors[name], tensor)
        assert shard.tensors[name].dtype == tensor.dtype
    assert torch.equal(shard.read("b.values", 1, 4), TENSORS["b.values"][1:4])


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "s.safetensors"
    write_shard(path, TENSORS, METADATA)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(Refused, match=r"s\.safetensors is damaged"):
        MappedShard(path)


def test_strange_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(Refused, match=r"s\.safetensors is damaged"):
        MappedShard(tmp_path / "s.safetensors")


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"s\.safetensors is missing"):
        MappedShard(tmp_path / "s.safetensors")


def test_other_bytes_than_recorded_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    record = write_shard(path, TENSORS, METADATA)
    before = path.read_bytes()
    assert write_shard(path, TENSORS, METADATA, record.xxh3_128) == record
    with pytest.raises(Refused, match="other bytes"):
        write_shard(path, {**TENSORS, "a": torch.zeros(2, 4)}, METADATA, record.xxh3_128)
    assert path.read_bytes() == before
