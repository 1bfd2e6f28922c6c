"""Pickles are read without running what they name."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest
import torch

from mmkd_cli.core.errors import UserError
from mmkd_cli.core.pickles import StandIn, read_torch


class Runs:
    """Unpickled without care, it makes a file."""

    def __init__(self, function: object, argument: str) -> None:
        self.call = (function, argument)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return self.call[0], (self.call[1],)


@pytest.mark.parametrize("stand_ins", [False, True])
@pytest.mark.parametrize(("function", "name"), [(os.mkdir, r"\w+\.mkdir"), (eval, r"builtins\.eval")])
def test_what_a_file_would_run_is_refused_by_name(tmp_path: Path, function: object, name: str, stand_ins: bool) -> None:
    made = tmp_path / "made"
    argument = str(made) if function is os.mkdir else f"__import__('os').mkdir({str(made)!r})"
    torch.save({"model": {"w": torch.zeros(2)}, "cfg": Runs(function, argument)}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match=rf"evil.pt names {name}, which is not run"):
        read_torch(tmp_path / "evil.pt", stand_ins=stand_ins)
    assert not made.exists()


def test_configuration_objects_are_refused_or_stood_in_for(tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.arange(3)}, "args": argparse.Namespace(lr=1.0, kind=dict)}, tmp_path / "c.pt")
    with pytest.raises(UserError, match=r"names argparse.Namespace"):
        read_torch(tmp_path / "c.pt")
    content = read_torch(tmp_path / "c.pt", stand_ins=True)
    assert content["model"]["w"].tolist() == [0, 1, 2]
    assert isinstance(content["args"], StandIn)
    assert vars(content["args"]) == {}


def test_older_files_that_are_no_archives_are_read(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(3)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert read_torch(tmp_path / "old.pt")["w"].tolist() == [0, 1, 2]


def test_shapes_alone(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(3, 4)}, tmp_path / "w.pt")
    value = read_torch(tmp_path / "w.pt", device="meta")["w"]
    assert value.is_meta and tuple(value.shape) == (3, 4)


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut"])
def test_other_files_are_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"x.pt is no file of weights, or is damaged"):
        read_torch(tmp_path / "x.pt")


def test_a_file_that_was_cut_is_said_to_be_damaged(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1000)}, tmp_path / "w.pt")
    content = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"w.pt is no file of weights, or is damaged"):
        read_torch(tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"missing.pt are not there"):
        read_torch(tmp_path / "missing.pt")
