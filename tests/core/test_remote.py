"""Artifacts behind URLs: copied once, whole or not at all, checked, and never outside the root."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pytest

from mmkd_cli.core import artifacts, lineage, remote
from mmkd_cli.core.errors import MmkdError, Refused, UserError
from tests.core.test_artifacts import make


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A finished cache with a file of 101 bytes, in fsspec's memory."""
    cache = make(tmp_path / "there", "cache", "c")
    place = f"memory://bucket-{uuid.uuid4()}/caches/c"
    system, base = fsspec.url_to_fs(place)
    for file in ("plan.json", "manifest.json", "file.bin"):
        system.pipe_file(f"{base}/{file}", (cache.path / file).read_bytes())
    return place


def rewrite(url: str, file: str, change: Any) -> None:
    system, base = fsspec.url_to_fs(url)
    system.pipe_file(f"{base}/{file}", change(system.cat_file(f"{base}/{file}")))


def test_it_is_copied_once_and_is_the_artifact(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = artifacts.open_artifact(tmp_path, url, "cache")
    original = artifacts.read(tmp_path / "there" / "caches" / "c")
    assert found.fingerprint == original.fingerprint and found.name == "c" and found.check() == {}
    assert (found.path / "file.bin").read_bytes() == (original.path / "file.bin").read_bytes()
    assert found.path.parts[len(tmp_path.parts)] == ".remote" and list(artifacts.every(tmp_path)) == []
    assert lineage.find(tmp_path, found.as_input("cache")) == found  # also by what was made from it
    monkeypatch.setattr(fsspec, "url_to_fs", lambda url: pytest.fail("the URL was asked again"))
    assert artifacts.open_artifact(tmp_path, url + "/", "cache") == found
    with pytest.raises(UserError, match="is a cache, not a run"):
        artifacts.open_artifact(tmp_path, url, "run")


def test_a_copy_that_was_cut_off_goes_on(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    copy = remote._copy

    def cut_off(system: Any, base: str, url: str, folder: Path, name: str, record: Any = None) -> None:
        if name == "file.bin" and not copied.count("file.bin"):
            copied.append(name)
            raise KeyboardInterrupt
        copied.append(name)
        copy(system, base, url, folder, name, record)

    monkeypatch.setattr(remote, "_copy", cut_off)
    with pytest.raises(KeyboardInterrupt):
        artifacts.open_artifact(tmp_path, url, "cache")
    assert not list((tmp_path / ".remote").glob("*/c/file.bin"))
    assert artifacts.open_artifact(tmp_path, url, "cache").check() == {}
    assert not list((tmp_path / ".remote").glob("*.unfinished"))


@pytest.mark.parametrize(
    ("file", "change", "error", "said"),
    [
        ("file.bin", lambda data: data[:-1], Refused, "file.bin has 100 bytes of 101"),
        ("file.bin", lambda data: data[:-1] + b"!", Refused, "file.bin has other bytes"),
        ("manifest.json", lambda data: b"{", UserError, "manifest.json is not JSON"),
        ("manifest.json", lambda data: data.replace(b'"format": 1', b'"format": 99'), Refused, "format 99, newer"),
        ("manifest.json", lambda data: data.replace(b"file.bin", b"../f.bin"), Refused, "outside its folder"),
        ("manifest.json", lambda data: data.replace(b"file.bin", b"/f.bin"), Refused, "outside its folder"),
    ],
)
def test_what_is_wrong_there_is_named_and_nothing_is_opened(
    url: str, tmp_path: Path, file: str, change: Any, error: type[MmkdError], said: str
) -> None:
    rewrite(url, file, change)
    for _ in range(2):  # nor the second time
        with pytest.raises(error, match=said) as raised:
            artifacts.open_artifact(tmp_path / "root", url, "cache")
        assert "\n" not in str(raised.value)
    outside = [p for p in tmp_path.rglob("f.bin") if "there" not in p.parts]
    assert not outside and not Path("/f.bin").exists()


def test_what_is_not_there_or_cannot_be_reached_is_one_line(url: str, tmp_path: Path) -> None:
    system, base = fsspec.url_to_fs(url)
    for wrong, said in (
        (url + "-absent", "is no finished artifact: it holds no manifest.json"),
        ("nosuch://bucket/c", "can't be opened: Protocol not known: nosuch"),
        ("memory://bucket/..", "can't be used"),
    ):
        with pytest.raises(UserError, match=said):
            artifacts.open_artifact(tmp_path, wrong, "cache")
    system.rm_file(f"{base}/file.bin")
    with pytest.raises(Refused, match=r"is damaged: it holds no file.bin"):
        artifacts.open_artifact(tmp_path, url, "cache")


def test_a_file_system_of_another_kind(tmp_path: Path) -> None:
    made = make(tmp_path / "there", "data", "d")
    found = artifacts.open_artifact(tmp_path / "here", f"file://{made.path}", "data")
    assert found.fingerprint == made.fingerprint and found.path != made.path
    assert json.loads((found.path / "manifest.json").read_text()) == made.manifest
