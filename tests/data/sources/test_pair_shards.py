"""Tar shards against what was put into them; members that could do harm, and damaged shards, refused by name."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mmkd_cli.core.errors import UserError
from tests.data.made_pictures import jpeg
from tests.data.sources.reading import rows, source

Member = tuple[str, bytes]


def shard(path: Path, members: list[Member], mode: str = "w") -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def sample(key: str, seed: int, text: str, in_json: bool = False) -> list[Member]:
    caption = (f"{key}.json", json.dumps({"caption": text, "url": "x"}).encode()) if in_json else (
        f"{key}.txt", text.encode())  # fmt: skip
    return [(f"{key}.jpg", jpeg(seed)), caption]


def test_samples_of_all_shards_in_order(tmp_path: Path) -> None:
    shard(tmp_path / "00001.tar", sample("000010", 2, "third"))
    shard(tmp_path / "00000.tar", [*sample("000000", 0, " first\n"), *sample("a/000001", 1, "zweïter", in_json=True)])
    found = source("image-text", annotations=tmp_path)
    pictures = rows(found, "images", step=2)
    assert [row["image_id"] for row in pictures] == ["00000/000000", "00000/a/000001", "00001/000010"]
    assert [row["image"] for row in pictures] == [jpeg(0), jpeg(1), jpeg(2)]
    assert [(r["text"], r["image_row"]) for r in rows(found, "texts", step=1)] == [
        ("first", 0), ("zweïter", 1), ("third", 2)
    ]  # fmt: skip
    assert not list(found.missing())
    one = source("image-text", annotations=tmp_path / "00001.tar")
    assert [row["image"] for row in rows(one, "images")] == [jpeg(2)]
    assert len(rows(source("image-text", annotations=tmp_path, limit=2), "images")) == 2


def test_folders_of_shards_are_splits(tmp_path: Path) -> None:
    shard(tmp_path / "val" / "0.tar", sample("x", 0, "one"))
    shard(tmp_path / "train" / "0.tar", sample("y", 1, "two"))
    found = source("image-text", annotations=tmp_path)
    assert [(t.name, t.split) for t in found.tables()] == [
        ("images", "train"), ("texts", "train"), ("images", "val"), ("texts", "val")
    ]  # fmt: skip


def test_samples_without_picture_or_caption(tmp_path: Path) -> None:
    members = [("a.jpg", jpeg(0)), ("b.txt", b"no picture"), *sample("c", 2, "both"), ("c.npy", b"0")]
    found = source("image-text", annotations=shard(tmp_path / "0.tar", members))
    assert [r["image_row"] for r in rows(found, "texts")] == [1, 2]
    assert rows(found, "images")[1]["image"] is None
    assert list(found.missing()) == ["0/b (no picture in the shard)"]


def test_identity_sees_captions_and_not_paths(tmp_path: Path) -> None:
    first = source("image-text", annotations=shard(tmp_path / "a" / "0.tar", sample("x", 0, "one"))).identity()
    same = source("image-text", annotations=shard(tmp_path / "b" / "0.tar", sample("x", 0, "one"))).identity()
    other = source("image-text", annotations=shard(tmp_path / "c" / "0.tar", sample("x", 0, "two"))).identity()
    assert first == same != other


def linked(kind: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with tarfile.open(path, "w") as archive:
            info = tarfile.TarInfo("x.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)

    return make


def holding(*members: Member, mode: str = "w") -> Callable[[Path], object]:
    return lambda path: shard(path, list(members), mode)


def cut(bytes_left: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        whole = shard(path, [("a.jpg", b"x" * 3000), ("b.jpg", b"y" * 3000)]).read_bytes()
        path.write_bytes(whole[:bytes_left])

    return make


def overwritten(path: Path) -> None:
    whole = bytearray(shard(path, [("a.jpg", b"x" * 600), ("b.jpg", b"y" * 600)]).read_bytes())
    whole[1536:2048] = b"z" * 512
    path.write_bytes(whole)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (holding(("/etc/cron.d/x.jpg", b"1")), "member '/etc/cron.d/x.jpg': its path leaves"),
        (holding(("a/../../x.jpg", b"1")), "its path leaves the archive"),
        (linked(tarfile.SYMTYPE), "member 'x.jpg': a link or a device"),
        (linked(tarfile.LNKTYPE), "a link or a device"),
        (linked(tarfile.CHRTYPE), "a link or a device"),
        (linked(tarfile.FIFOTYPE), "a link or a device"),
        (holding(("x.jpg", b"1"), ("x.pyd", b"2")), "member 'x.pyd': pickled data can run code"),
        (holding(("x.cls.pickle", b"2")), "pickled data can run code"),
        (holding(("x.jpg", b"1"), ("x.png", b"2")), "sample 'x': 2 pictures"),
        (holding(("x.jpg", b"1"), ("x.txt", b"2" * (1 << 20) + b"3")), "are no caption"),
        (holding(("x.jpg", b"1"), mode="w:gz"), "can't be read as an uncompressed tar"),
        (lambda path: path.write_bytes(b"no tar" * 300), "can't be read as an uncompressed tar"),
        (cut(2000), "is cut off inside member 'a.jpg'"),
        (cut(4000), "damaged at byte|cut off|can't be read"),
        (cut(5000), "is cut off inside member 'b.jpg'"),
        (overwritten, "is damaged at byte 1,536"),
    ],
)
def test_hostile_and_damaged_shards_are_refused(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    make(tmp_path / "0.tar")
    with pytest.raises(UserError, match=said):
        source("image-text", annotations=tmp_path / "0.tar")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[" * 100_000, "can't be read"),
        (b'{"capton": "x"}', "field 'caption' is missing, it has 'capton'"),
        (b'{"caption": 3}', "a text is needed"),
        (b"\xff", "can't be read"),
    ],
)
def test_captions_that_are_none_name_their_sample(tmp_path: Path, data: bytes, said: str) -> None:
    found = source("image-text", annotations=shard(tmp_path / "0.tar", [("k.jpg", jpeg(0)), ("k.json", data)]))
    with pytest.raises(UserError, match=rf"sample '0/k'.*{said}"):
        rows(found, "texts")
