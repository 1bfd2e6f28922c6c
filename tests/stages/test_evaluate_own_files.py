"""`evaluate` of benches that read their own files: requests, dry runs, refusals, zero-shot, and the command line."""

from __future__ import annotations

import json
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from mmkd_cli.benches.sugarcrepe_files import ITEMS
from mmkd_cli.benches.winoground import Winoground
from mmkd_cli.core import artifacts
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.stages import evaluate
from tests.benches.bench_files import sugarcrepe_folder, winoground_folder, winoground_rows
from tests.conftest import Run
from tests.contracts.tiny_teachers import TINY
from tests.stages.small_chain import config_of, context, distilled, make_chain


def evaluated(root: Path, name: str | None, bench: str, own: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """own: keys of the bench."""
    named = {f"bench__{key}": str(value) if isinstance(value, Path) else value for key, value in own.items()}
    return evaluate.run(config_of(evaluate, bench__name=bench, **named, **keys), context(root, name))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny open_clip checkpoint with random weights."""
    folder = tmp_path_factory.mktemp("clip")
    TINY["clip open_clip"](folder, 0)
    return f"open_clip:local-dir:{folder}"


@pytest.fixture
def wino(tmp_path: Path) -> Path:
    """Six items whose pictures and captions differ enough that a random model ties nowhere."""
    folder = winoground_folder(tmp_path / "wino", 6)
    rng = np.random.default_rng(0)
    (folder / "data" / "images.zip").unlink()
    (folder / "data" / "images").mkdir()
    lines = []
    for row in winoground_rows(6):
        for k in (0, 1):
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "data" / "images" / f"ex_{row['id']}_img_{k}.png")
            row[f"caption_{k}"] = (
                f"{'a b c d e f'[2 * row['id']]} thing {'on' if k else 'under'} the number {row['id']}"
            )
        lines.append(json.dumps(row))
    (folder / "data" / "examples.jsonl").write_text("\n".join(lines))
    return folder


def test_winoground_equals_clip_benchmark(tmp_path: Path, wino: Path, clip: str) -> None:
    """The same random checkpoint, pictures and captions through CLIP_benchmark's own evaluation: no tie occurs."""
    peer = pytest.importorskip("clip_benchmark.metrics.image_caption_selection", reason="clip-benchmark is absent")
    document = evaluated(tmp_path / "work", "w", "winoground", {"annotations": wino}, model=clip)
    model, preprocess = open_clip.create_model_from_pretrained(clip.removeprefix("open_clip:"))
    rows = [json.loads(line) for line in (wino / "data" / "examples.jsonl").read_text().splitlines()]
    pictures = [[Image.open(wino / "data" / "images" / f"{row[f'image_{k}']}.png") for k in (0, 1)] for row in rows]
    loader = [
        (torch.stack([torch.stack([preprocess(p) for p in two]) for two in pictures[a : a + 3]]),
         [[row["caption_0"], row["caption_1"]] for row in rows[a : a + 3]])
        for a in (0, 3)
    ]  # fmt: skip
    tokenizer = open_clip.get_tokenizer(clip.removeprefix("open_clip:"))
    said = peer.evaluate(model.eval(), loader, tokenizer, "cpu", amp=False)
    expected = {"text": said["text_acc"], "image": said["image_acc"], "group": said["acc"]}
    assert document["metrics"] == pytest.approx({name: 100 * value for name, value in expected.items()}, abs=1e-4)
    lines = (tmp_path / "work" / "results" / "w" / "predictions.jsonl").read_text().splitlines()
    for line in map(json.loads, lines):
        scores = sorted(line["scores"])
        assert min(b - a for a, b in pairwise(scores)) > 1e-6  # no tie, and none nearly


def test_a_result_on_own_files(tmp_path: Path, wino: Path, clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "work"
    first = evaluated(root, "w", "winoground", {"annotations": wino}, model=clip)
    assert list(first) == ["bench", "split", "model", "zero_shot", "counts", "metrics", "intervals", "by", "quoted",
                           "fingerprints", "versions"]  # fmt: skip
    assert first["split"] == "test" and first["counts"] == {"items": 6, "skipped": 0} and first["quoted"] == []
    assert first["zero_shot"]["value"] is None and set(first["fingerprints"]) == {"annotations", "images", "model"}
    assert "winoground has 400 items, scored are 6: not what papers report" in capsys.readouterr().err
    result = artifacts.open_artifact(root, "w", "result")
    assert result.inputs == () and set(result.files) == {"scores.json", "predictions.jsonl", "report.html"}
    assert str(wino) not in json.dumps(result.plan["identity"])
    moved = wino.rename(tmp_path / "elsewhere")
    assert evaluated(root, "w", "winoground", {"annotations": moved}, model=clip) == first  # found again by its content
    assert "already done" in capsys.readouterr().err
    file = moved / "data" / "examples.jsonl"
    file.write_text(file.read_text().replace("under", "below"))
    with pytest.raises(Refused, match=r"made by another command: files.annotations was"):
        evaluated(root, "w", "winoground", {"annotations": moved}, model=clip)


def test_a_dry_run_says_rows_and_time_and_writes_nothing(tmp_path: Path, wino: Path, clip: str) -> None:
    config = config_of(evaluate, bench__name="winoground", bench__annotations=str(wino), model=clip)
    document = evaluate.run(config, context(tmp_path / "work", "dry", dry_run=True))
    assert document["status"] == "dry run" and document["rows"] == 24 and document["seconds"] > 0
    assert not (tmp_path / "work").exists()


def test_what_a_bench_does_not_take_is_refused_by_name(tmp_path: Path, wino: Path, clip: str) -> None:
    for flag in ("data", "split", "cache"):
        with pytest.raises(UserError, match=f"--{flag} x: bench 'winoground' reads its own files and no prepared data"):
            evaluated(tmp_path, None, "winoground", {"annotations": wino}, model=clip, **{flag: "x"})
    with pytest.raises(UserError, match="Winoground is gated"):
        evaluated(tmp_path / "work", "gone", "winoground", {}, model=clip)
    assert not (tmp_path / "work" / "results" / "gone").exists()  # the name is free for the mended command


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run `toy`, trained on data of flickr8k's source with a contrastive loss, and `plain`, without one."""
    root = make_chain(tmp_path_factory.mktemp("own"))
    distilled(root, "toy", data="squares", cache="vit")
    distilled(root, "plain", data="squares", cache="vit", method__contrastive_weight=0.0)
    return root


def test_a_run_is_scored_with_its_teacher_live(
    root: Path, tmp_path: Path, wino: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No cache holds these pictures. Zero-shot is judged where the items are the published ones."""
    own = {"annotations": wino, "bootstrap": 0}
    document = evaluated(root, None, "winoground", own, model="toy")
    assert "no cache of these pictures holds the pictures' image_cls: the teacher runs live" in capsys.readouterr().err
    assert document["zero_shot"] == {"value": None, "reason": "no manifest says what the scored items are"}
    assert set(document["fingerprints"]) == {"model", "annotations", "images"}
    monkeypatch.setattr(Winoground, "official", {"": 6})
    assert evaluated(root, "a", "winoground", own, model="plain")["zero_shot"] == {
        "value": True, "reason": "trained on data 'squares' only, with no contrastive loss"}  # fmt: skip
    assert "with a contrastive loss" in evaluated(root, "b", "winoground", own, model="toy")["zero_shot"]["reason"]
    monkeypatch.setattr(Winoground, "sources", frozenset({"flickr8k"}))
    said = evaluated(root, "c", "winoground", own, model="plain")["zero_shot"]
    assert said["value"] is False and "made from flickr8k, pictures of which the bench shows" in said["reason"]


def test_classification_of_prepared_folders_and_of_own_ones(tmp_path: Path, clip: str) -> None:
    """The same pictures prepared and read as they lie: the same scores."""
    from mmkd_cli.stages import prepare_data

    rng = np.random.default_rng(0)
    for name in ("ant", "bee", "cat", "dog", "elk"):
        (tmp_path / "f" / "test" / name).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "f" / "test" / name / f"{number}.png")
    root = tmp_path / "work"
    keys = {"source__name": "image-folder", "source__images": str(tmp_path / "f"), "image_size": 0}
    prepare_data.run(config_of(prepare_data, **keys), context(root, "animals"))
    bench, own = "zeroshot-classification", {"templates": "simple", "bootstrap": 50}
    prepared = evaluated(root, "p", bench, own, model=clip, data="animals")
    loose = evaluated(root, "l", bench, {**own, "images": tmp_path / "f"}, model=clip)
    assert prepared["metrics"] == loose["metrics"] and set(loose["metrics"]) == {
        "acc1",
        "acc5",
        "mean_per_class_recall",
    }
    assert prepared["split"] == loose["split"] == "test" and prepared["counts"] == {
        "items": 15,
        "skipped": 0,
        "classes": 5,
    }
    assert set(loose["fingerprints"]) == {"images", "model"} and set(prepared["fingerprints"]) == {"data", "model"}
    lines = [(root / "results" / name / "predictions.jsonl").read_text() for name in "pl"]
    assert lines[0] == lines[1]
    layout = json.loads((root / "results" / "p" / "clip_benchmark.json").read_text())
    assert layout["task"] == "zeroshot_classification" and layout["dataset"] == "animals"
    assert layout["metrics"]["acc1"] == pytest.approx(prepared["metrics"]["acc1"] / 100)
    document = evaluate.run(
        config_of(evaluate, bench__name=bench, bench__templates="simple", model=clip, data="animals"),
        context(root, dry_run=True),
    )
    assert document["rows"] == 15 + 5 * 7


# ------------------------------------------------------------------------------------------------ the command line
def random_embeddings(folder: Path) -> dict[str, Path]:
    """Winoground's and SugarCrepe's, of random numbers, in the published sizes."""
    rng = np.random.default_rng(0)
    np.savez(folder / "w.npz", image=rng.standard_normal((800, 8)), text=rng.standard_normal((800, 8)))
    arrays: dict[str, np.ndarray] = {}
    for name, n in ITEMS.items():
        arrays |= {f"{name}.image": rng.standard_normal((n, 8)), f"{name}.text": rng.standard_normal((n, 2, 8))}
    np.savez(folder / "s.npz", **arrays)
    return {"winoground": folder / "w.npz", "sugarcrepe": folder / "s.npz"}


def test_ready_embeddings_from_the_command_line(mmkd: Run, tmp_path: Path, real_data: Path) -> None:
    files = random_embeddings(tmp_path)
    wino = ["evaluate", "--bench", "winoground", "--embeddings", files["winoground"], "--json"]
    plain = json.loads(mmkd(*wino).stdout)
    done = mmkd(*wino, "--annotations", real_data / "winoground" / "data.json", "--name", "tagged")
    tagged = json.loads(done.stdout)
    page = (tmp_path / "work" / "results" / "tagged" / "report.html").read_text()
    assert "Relation" in done.stderr and "tag: Noun" not in done.stderr and "tag: Noun" in page  # too many for columns
    assert plain["metrics"] == tagged["metrics"] and list(plain["by"]) == ["chance"]
    assert {"Object", "Relation", "Both"} < set(tagged["by"]) and tagged["counts"]["items"] == 400
    assert tagged["model"] == {"name": "w.npz", "kind": "embeddings"} and tagged["zero_shot"]["value"] is None
    assert all(row["quoted"] is True for row in tagged["quoted"]) and len(tagged["quoted"]) == 10
    assert set(tagged["fingerprints"]) == {"annotations", "embeddings"}
    crepe = ["evaluate", "--bench", "sugarcrepe", "--embeddings", files["sugarcrepe"], "--json", "--annotations"]
    document = json.loads(mmkd(*crepe, real_data / "sugarcrepe").stdout)
    assert list(document["metrics"]) == [*ITEMS, "macro"] and document["counts"]["items"] == 7511
    assert all(40 < value < 60 for value in document["metrics"].values())


def test_flags_set_the_bench_s_keys(mmkd: Run) -> None:
    given = {"annotations": "a", "images": "i", "scorer": "diffusion", "draws": 4}
    flags = [word for name, value in given.items() for word in (f"--{name}", value)]
    printed = mmkd("evaluate", "--bench", "winoground", "--against", "other", *flags, "--print-config").stdout
    config = tomllib.loads(printed)
    assert {name: config["bench"][name] for name in given} == given and config["against"] == "other"


def test_a_model_from_the_command_line(mmkd: Run, tmp_path: Path, clip: str) -> None:
    folder = sugarcrepe_folder(tmp_path / "crepe")
    images = (folder / "images").rename(tmp_path / "val2017")
    command = ["evaluate", "--bench", "sugarcrepe", "--model", clip, "--annotations", folder]
    document = json.loads(mmkd(*command, "--images", images, "--json").stdout)
    assert document["counts"]["items"] == 21 and list(document["metrics"]) == [*ITEMS, "macro"]
    said = mmkd(*command, code=2).stderr
    assert said.count("\n") == 1 and "3 of 3 pictures are not there" in said and "val2017.zip" in said
    said = mmkd("evaluate", "--bench", "retrieval", "--images", images, "--model", clip, code=2).stderr
    assert said.strip() == "mmkd: --images: bench 'retrieval' has no key 'images': leave the flag out"
    said = mmkd("evaluate", "--bench", "winoground", "--model", clip, "--annotations", tmp_path / "no", code=2).stderr
    assert said.count("\n") == 1 and "data/examples.jsonl and data/images.zip" in said
