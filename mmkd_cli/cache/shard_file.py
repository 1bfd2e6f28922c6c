"""One shard as a safetensors file: written by one pass, mapped without a copy.

Layout: 8 bytes little-endian header length, a JSON header padded with spaces to 8 bytes, then the tensors, widest
item first and by name, as safetensors' own writer lays them out. `__metadata__` holds one key, `mmkd`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor

from mmkd_cli.core.artifacts import FileRecord
from mmkd_cli.core.errors import Refused
from mmkd_cli.core.fingerprints import canonical_json
from mmkd_cli.core.paths import atomic_path

DTYPES: dict[str, tuple[str, torch.dtype]] = {
    "float32": ("F32", torch.float32),
    "bfloat16": ("BF16", torch.bfloat16),
    "float16": ("F16", torch.float16),
    "int64": ("I64", torch.int64),
    "int32": ("I32", torch.int32),
    "uint32": ("U32", torch.uint32),
    "uint16": ("U16", torch.uint16),
    "uint8": ("U8", torch.uint8),
    "bool": ("BOOL", torch.bool),
}
"""Stored kind -> its name in a safetensors header, and in torch."""

_HEADER_NAME = {dtype: name for name, dtype in DTYPES.values()}
_FROM_HEADER = dict(DTYPES.values())
_HEADER_BYTES_MAX = 100_000_000  # safetensors' own bound


def bytes_of(dtype: str) -> int:
    """Bytes of one number of a stored kind."""
    return DTYPES[dtype][1].itemsize


def write_shard(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], expected: str | None = None
                ) -> FileRecord:  # fmt: skip
    """Write contiguous CPU tensors atomically; the same tensors and metadata give the same bytes.

    expected: XXH3-128 that the bytes must have; where they differ the old file stays and Refused is raised.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"mmkd": canonical_json(metadata)}}
    end = 0
    for name in names:
        start, end = end, end + tensors[name].numel() * tensors[name].dtype.itemsize
        header[name] = {
            "dtype": _HEADER_NAME[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    digest = xxhash.xxh3_128()
    with atomic_path(path) as temporary:
        with open(temporary, "wb") as file:
            for part in (struct.pack("<Q", len(text)), text, *(_raw(tensors[name]) for name in names)):
                digest.update(part)
                file.write(part)
        if expected is not None and digest.hexdigest() != expected:
            raise Refused(
                f"{path}: computed again it has other bytes than those recorded ({digest.hexdigest()[:12]}, recorded "
                f"{expected[:12]}): repair it on the kind of machine that made it, or make the cache under another name"
            )
        return FileRecord(8 + len(text) + end, digest.hexdigest())


def _raw(tensor: Tensor) -> Any:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


class MappedShard:
    """The tensors of a shard file, mapped read-only in effect (private pages): nothing is read until it is used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        header, first, size = read_header(path)
        self.metadata: dict[str, Any] = json.loads(header.pop("__metadata__", {}).get("mmkd", "{}"))
        storage = torch.UntypedStorage.from_file(str(path), False, size)
        self.tensors: dict[str, Tensor] = {}
        self._offsets: dict[str, int] = {}
        self._items: dict[tuple[str, int], np.ndarray] = {}
        for name, entry in header.items():
            dtype, shape = _FROM_HEADER[entry["dtype"]], entry["shape"]
            self._offsets[name] = first + entry["data_offsets"][0]
            flat: Tensor = torch.empty(0, dtype=dtype).set_(
                storage, self._offsets[name] // dtype.itemsize, (prod(shape),)
            )  # type: ignore[call-overload]
            self.tensors[name] = flat.view(shape)

    def items(self, name: str, per_row: int = 1) -> np.ndarray:
        """The mapped tensor as [rows * per_row] opaque items, a row (or one of its `per_row` equal parts) each.

        numpy copies such items as they are and on the calling thread: torch's `index_select` of the same rows is
        slower for bfloat16, and shares its threads with whatever the model computes meanwhile.
        """
        if (name, per_row) not in self._items:
            mapped = self.tensors[name]
            item_bytes = mapped.nbytes // (mapped.shape[0] * per_row)
            raw = mapped.reshape(-1).view(torch.uint8).numpy()
            self._items[name, per_row] = raw.view(np.dtype((np.void, item_bytes)))
        return self._items[name, per_row]

    def read(self, name: str, first: int, last: int) -> Tensor:
        """Rows [first, last) of a tensor, read from the file and not through the map.

        A pass over a whole cache so keeps no pages of it resident.
        """
        mapped = self.tensors[name]
        row_bytes = mapped.dtype.itemsize * prod(mapped.shape[1:])
        raw = np.fromfile(
            self.path, np.uint8, count=(last - first) * row_bytes, offset=self._offsets[name] + first * row_bytes
        )
        return torch.from_numpy(raw).view(mapped.dtype).view(last - first, *mapped.shape[1:])


def read_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """Header, where the tensors begin, and the size of a shard file; a truncated or strange one is refused by name."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _HEADER_BYTES_MAX):
                raise ValueError(f"{size} bytes hold no header of {length}")
            header: dict[str, Any] = json.loads(file.read(length))
            end = 0
            for name, entry in header.items():
                if name != "__metadata__":
                    start, stop = entry["data_offsets"]
                    if stop - start != _FROM_HEADER[entry["dtype"]].itemsize * prod(entry["shape"]):
                        raise ValueError(f"{name} has other bytes than its shape")
                    end = max(end, stop)
            if 8 + length + end != size:
                raise ValueError(f"{size} bytes, should be {8 + length + end}")
    except FileNotFoundError:
        raise Refused(f"shard {path} is missing: run the cache's `mmkd cache-teacher` command again") from None
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise Refused(
            f"shard {path} is damaged ({error}): run the cache's `mmkd cache-teacher` command again"
        ) from None
    return header, 8 + length, size
