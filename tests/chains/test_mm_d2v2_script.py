"""chain.sh and thesis.sh of examples/mm-d2v2, run with an `mmkd` that only notes its words, which must resolve."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mmkd_cli.cli.app import app
from mmkd_cli.core import config as configs

FOLDER = Path(__file__).parents[2] / "examples" / "mm-d2v2"
TEXT, IMAGE, BEIT2 = "/weights/nlp_base.pt", "/weights/base_imagenet.pt", "/weights/pt1k.pth"


def commands(tmp_path: Path, variant: str, script: str = "chain.sh", **changed: str) -> tuple[int, list[list[str]]]:
    """The script's exit code, and the words of each `mmkd` that it ran."""
    (tmp_path / "bin").mkdir()
    noting = tmp_path / "bin" / "mmkd"
    noting.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" END >> '{tmp_path}/words'\n")
    noting.chmod(0o755)
    given = {"COCO": "/coco", "FLICKR30K": "/f30k", "BEIT2": BEIT2, "D2V2_IMAGE": IMAGE, "D2V2_TEXT": TEXT}
    kept = {name: value for name, value in {**given, **changed}.items() if value}
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", str(FOLDER / script)],
        env={"PATH": path, "CONFIG": variant, **kept},
        capture_output=True,
        check=False,
    )
    noted = (tmp_path / "words").read_text() if (tmp_path / "words").exists() else ""
    return done.returncode, [part.strip("\n").split("\n") for part in noted.split("END\n") if part]


def effective(words: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `mmkd WORDS --print-config` prints."""
    monkeypatch.chdir(FOLDER)
    done = CliRunner().invoke(app, [*words, "--print-config"])
    assert done.exit_code == 0, (words, done.exception)
    return tomllib.loads(done.stdout)


@pytest.mark.parametrize("variant", "cdfghikl")
def test_every_command_of_every_variant_resolves(variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, ran = commands(tmp_path, variant)
    assert code == 0
    assert [words[0] for words in ran] == [*["prepare-data"] * 2, "cache-teacher", "distill", *["evaluate"] * 2]
    printed = [effective(words, monkeypatch) for words in ran]
    cached, distilled = printed[2], printed[3]

    written = configs.read_toml(FOLDER / "configs" / f"{variant}.toml")
    assert (
        written["data"] == [f"coco:{distilled['cache']}"] and ran[2][ran[2].index("--name") + 1] == distilled["cache"]
    )
    teacher = "d2v2" if variant == "f" else "beit2"
    assert cached["teacher"]["name"] == distilled["teacher"]["name"] == teacher
    assert cached["teacher"]["weights"] == (IMAGE if variant == "f" else BEIT2)
    student = distilled["student"]
    assert student["text_weights"] == TEXT and student.get("image_weights") == (None if variant in "cd" else IMAGE)

    drawn = cached["cache"]["view"]  # the augmentation of the notes' code: crop 0.6 to 1, flip, no colour
    assert (drawn["scale_min"], drawn["scale_max"], drawn["flip"]) == (0.6, 1.0, 0.5)
    assert drawn["brightness"] == drawn["contrast"] == drawn["saturation"] == 0 and cached["cache"]["views"] > 0


@pytest.mark.parametrize(
    ("variant", "unset", "code"), [("c", "D2V2_IMAGE", 0), ("f", "BEIT2", 0), ("g", "BEIT2", 2), ("e", "", 2)]
)
def test_a_variant_asks_for_the_weights_it_uses(variant: str, unset: str, code: int, tmp_path: Path) -> None:
    ended, ran = commands(tmp_path, variant, **({unset: ""} if unset else {}))
    assert (ended, bool(ran)) == (code, code == 0)


def test_the_teachers_ablation_is_one_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {"BERT": "/bert", "CC3M": "/cc3m"}
    code, ran = commands(tmp_path, "", "thesis.sh", CONFIGS="x y1 y2 y3 y4 q v", **changed)
    assert code == 0
    found: dict[str, dict[str, dict[str, Any]]] = {stage: {} for stage in ("cache-teacher", "distill", "finetune")}
    for words in ran:
        if words[0] in found:
            found[words[0]][words[words.index("--name") + 1]] = effective(words, monkeypatch)
    caches = found["cache-teacher"]
    students = {name.removeprefix("s-smke-"): one for name, one in found["distill"].items()}
    assert set(students) == {"x", "y1", "y2", "y3", "y4", "q", "v"}
    for letter, student in students.items():
        written = configs.read_toml(FOLDER / "configs" / f"{letter}.toml")
        for named, kept in zip(student["data"], ("coco", "cc3m"), strict=True):
            data, cache = named.split(":")
            assert data == kept and cache in caches
            teacher = caches[cache]["teacher"]
            if "teacher" in written:  # of y4 the views alone are read
                assert {key: teacher[key] for key in written["teacher"]} == written["teacher"]
                assert student["method"]["signal"] in (caches[cache].get("signals") or ["image_cls"])
    assert len(found["finetune"]) == 2 * len(students)
    assert {one["task"]["name"] for one in found["finetune"].values()} == {"retrieval"}


def test_a_letter_that_is_none_stops_the_script_before_it_starts(tmp_path: Path) -> None:
    assert commands(tmp_path, "", "thesis.sh", CONFIGS="x zz") == (2, [])
