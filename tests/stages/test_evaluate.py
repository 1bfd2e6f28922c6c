"""`evaluate` on runs, libraries' models, halves and files: what it opens by itself, says, keeps, and refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmkd_cli.core import artifacts, paths
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.stages import cache_teacher, evaluate, prepare_data
from tests.conftest import Run
from tests.contracts.tiny_teachers import TINY
from tests.stages.small_chain import config_of, context, distilled, make_chain, teacher_keys

RECALLS = [f"{way}_recall@{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data `squares` (train, val) and `others`, cache `vit` of `squares`, a run `toy` of both."""
    root = make_chain(tmp_path_factory.mktemp("evaluate"))
    distilled(root, "toy", data="squares", cache="vit")
    return root


def evaluated(root: Path, name: str | None = None, bench: str = "retrieval", **keys: Any) -> dict[str, Any]:
    return evaluate.run(config_of(evaluate, bench__name=bench, **keys), context(root, name))


def test_a_run_is_scored_on_its_own_data_and_cache(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = evaluated(root, "first", "flickr8k-retrieval", model="toy")
    said = capsys.readouterr().err
    assert "data: squares, which run 'toy' was trained on" in said
    assert "split: val" in said and "cache: vit" in said and "image_to_text_recall@1" in said
    assert list(document) == ["bench", "split", "model", "zero_shot", "counts", "metrics", "intervals", "by", "quoted",
                              "fingerprints", "versions"]  # fmt: skip
    assert document["split"] == "val" and document["counts"]["items"] == 8 and document["counts"]["texts"] == 16
    assert document["zero_shot"]["value"] is False and "'squares'" in document["zero_shot"]["reason"]
    fingerprints = {role: artifacts.read(root / place).fingerprint for role, place in
                    (("model", "runs/toy"), ("data", "data/squares"), ("cache", "caches/vit"))}  # fmt: skip
    assert document["fingerprints"] == fingerprints
    result = artifacts.open_artifact(root, "first", "result")
    assert {"scores.json", "predictions.jsonl", "report.html", "clip_benchmark.json"} == set(result.files)
    assert {i.role: i.name for i in result.inputs} == {"model": "toy", "data": "squares", "cache": "vit"}
    assert len((result.path / "predictions.jsonl").read_text().splitlines()) == 24


def test_a_rerun_says_the_same_and_writes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = evaluated(root, "again", model="toy")
    before = {path.name: path.stat().st_mtime_ns for path in (root / "results" / "again").iterdir()}
    assert evaluated(root, "again", model="toy", batch_size=3) == first  # how it is batched is no part of the request
    assert before == {path.name: path.stat().st_mtime_ns for path in (root / "results" / "again").iterdir()}
    assert "already done" in capsys.readouterr().err
    with pytest.raises(Refused, match=r"made by another command: config.bench.bootstrap was 1000"):
        evaluated(root, "again", model="toy", bench__bootstrap=10)


def test_damage_is_repaired_by_the_same_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = evaluated(root, "hurt", model="toy")
    page = root / "results" / "hurt" / "report.html"
    page.write_text("")
    assert evaluated(root, "hurt", model="toy")["metrics"] == first["metrics"]
    assert "made again report.html" in capsys.readouterr().err and page.stat().st_size > 1000


def test_the_live_teacher_gives_the_scores_of_its_cache(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cached = evaluated(root, "cached", model="toy", bench__bootstrap=0)
    layers = evaluated(root, "cosines", "alignment", model="toy")
    live_root = without_caches(root, root.parent / "live")
    live = evaluated(live_root, "live", model="toy", bench__bootstrap=0)
    assert "the teacher runs live" in capsys.readouterr().err
    assert live["metrics"] == pytest.approx(cached["metrics"]) and "cache" not in live["fingerprints"]
    cosines = evaluated(live_root, "cosines", "alignment", model="toy")["by"]
    assert list(cosines) == ["encoder", "projection"]
    for layer, values in cosines.items():
        assert values == pytest.approx(layers["by"][layer], abs=1e-5)


def without_caches(root: Path, place: Path) -> Path:
    """A root with the data and runs of another one."""
    for folder in ("data", "runs"):
        (place / folder).mkdir(parents=True)
        for path in (root / folder).iterdir():
            (place / folder / path.name).symlink_to(path)
    return place


def test_a_found_cache_is_no_part_of_what_was_asked(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its cache, without it, and with a half as precise one the same command asks for the same."""
    place = without_caches(root, tmp_path / "work")
    (place / "caches").mkdir()
    (place / "caches" / "vit").symlink_to(root / "caches" / "vit")
    first = evaluated(place, "r", model="toy", bench__bootstrap=0)
    (place / "caches" / "vit").unlink()
    keys = {"data": "squares", "cache__threads": 1, **teacher_keys(root.parent)}
    cache_teacher.run(config_of(cache_teacher, **keys), context(place, "halved"))
    assert evaluated(place, "r", model="toy", bench__bootstrap=0) == first
    assert "already done" in capsys.readouterr().err
    (place / "results" / "r" / "predictions.jsonl").unlink()  # made again: from the cache that is there now
    again = evaluated(place, "r", model="toy", bench__bootstrap=0)
    halved = artifacts.read(place / "caches" / "halved")
    assert again["fingerprints"]["cache"] == halved.fingerprint != first["fingerprints"]["cache"]
    assert artifacts.open_artifact(place, "r", "result").inputs[-1] == halved.as_input("cache")
    named = {"model": "toy", "bench__bootstrap": 0}
    evaluated(place, "n", cache="halved", **named)
    with pytest.raises(Refused, match=r"signal.stored was bfloat16, the command says float32"):
        evaluated(place, "n", cache=str(root / "caches" / "vit"), **named)


def test_a_teacher_whose_weights_were_moved(root: Path, tmp_path: Path) -> None:
    """Nothing but the run's own teacher answers: from its caches by what the run noted, or from where it is now."""
    place = without_caches(root, tmp_path / "work")
    weights = Path(teacher_keys(root.parent)["teacher__weights"])
    kept = weights.read_bytes()
    other = teacher_keys(tmp_path, 1)
    cache_teacher.run(config_of(cache_teacher, data="others", cache__threads=1, **other), context(place, "vit2"))
    keys = {"model": "toy", "data": "others", "bench__bootstrap": 0}
    live = evaluated(place, "live", **keys)
    moved = tmp_path / "moved.safetensors"
    weights.rename(moved)
    try:
        with pytest.raises(UserError, match=r"no cache of data 'others' .* the teacher 'timm' .* by --weights"):
            evaluated(place, "gone", **keys)
        assert not (place / "results" / "gone").exists()
        with pytest.raises(Refused, match=r"cache 'vit2' is not of the teacher that run 'toy' .*: weights.* was"):
            evaluated(place, "gone", cache="vit2", **keys)
        with pytest.raises(Refused, match=r"the signal of 'timm' with these weights is not of the teacher"):
            evaluated(place, "gone", teacher_weights=other["teacher__weights"], **keys)
        assert evaluated(place, "live", **keys) == live  # nothing needs to run
        found = evaluated(place, "moved", teacher_weights=str(moved), **keys)
        assert found["metrics"] == live["metrics"]
        weights.write_bytes(Path(other["teacher__weights"]).read_bytes())  # another teacher where it was
        with pytest.raises(Refused, match="is not of the teacher that run 'toy'"):
            evaluated(place, "swapped", **keys)
    finally:
        weights.write_bytes(kept)


def test_a_run_that_does_not_know_its_teacher_takes_no_cache(root: Path, tmp_path: Path) -> None:
    """Of a run that notes no teacher, and whose cache is gone, nobody can tell whether a cache is of its teacher."""
    place = without_caches(root, tmp_path / "work")
    (place / "runs" / "toy").unlink()
    shutil.copytree(root / "runs" / "toy", place / "runs" / "toy")
    for name in ("plan.json", "manifest.json"):
        document = json.loads((place / "runs" / "toy" / name).read_text())
        (place / "runs" / "toy" / name).write_text(json.dumps({**document, "work": {}}))
    keys = {"data": "others", "cache__threads": 1, **teacher_keys(tmp_path, 1)}
    cache_teacher.run(config_of(cache_teacher, **keys), context(place, "vit2"))
    for named in ({"cache": "vit2"}, {}):
        with pytest.raises(Refused, match=r"run 'toy' does not say which teacher .* make the run's own cache again"):
            evaluated(place, model="toy", data="others", **named)
    (place / "caches" / "vit").symlink_to(root / "caches" / "vit")  # its own cache says it
    with pytest.raises(Refused, match=r"cache 'vit2' is not of the teacher"):
        evaluated(place, model="toy", data="others", cache="vit2")


def test_default_names_hold_no_folders(root: Path) -> None:
    evaluated(root, model="runs/toy", bench__bootstrap=0, bench__seed=7)
    names = [path.name for path in (root / "results").iterdir() if not path.name.startswith(".")]
    assert any(name.startswith("retrieval-toy-") for name in names)


def test_layers_are_named(root: Path) -> None:
    encoder = evaluated(root, model="toy", layer="encoder", bench__bootstrap=0)
    assert encoder["model"] == {"name": "toy", "kind": "run", "layer": "encoder"}
    assert encoder["metrics"] != evaluated(root, model="toy", bench__bootstrap=0)["metrics"]
    with pytest.raises(UserError, match="did you mean 'projection'"):
        evaluated(root, model="toy", layer="projecton")


def test_other_data_of_the_same_teacher(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cache of other data is found by its teacher; another teacher's, or one of other data, is refused."""
    cache_teacher.run(config_of(cache_teacher, data="others", **teacher_keys(root.parent), cache__threads=1),
                      context(root, "vit-others"))  # fmt: skip
    cache_teacher.run(config_of(cache_teacher, data="others", **teacher_keys(root.parent, 1), cache__threads=1),
                      context(root, "vit2-others"))  # fmt: skip
    cache_teacher.run(config_of(cache_teacher, data="others", **teacher_keys(root.parent), cache__threads=1,
                                cache__views=2), context(root, "views-others"))  # fmt: skip
    document = evaluated(root, model="toy", data="others")
    assert "cache: vit-others" in capsys.readouterr().err
    assert document["zero_shot"]["value"] is False  # the same source, and a contrastive loss
    with pytest.raises(Refused, match=r"is not of the teacher that run 'toy' was trained on: weights.* was"):
        evaluated(root, model="toy", data="others", cache="vit2-others")
    with pytest.raises(UserError, match="2 augmented views"):
        evaluated(root, model="toy", data="others", cache="views-others")
    with pytest.raises(Refused, match="was made from data with fingerprint"):
        evaluated(root, model="toy", data="others", cache="vit")


def test_data_and_cache_behind_urls(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Named once by URL, found by themselves afterwards; the scores are those of the originals."""
    data, cache = (f"file://{root.resolve()}/{place}" for place in ("data/squares", "caches/vit"))
    distilled(tmp_path, "r", data=f"{data}:{cache}")
    run = artifacts.open_artifact(tmp_path, "r", "run")
    assert run.fingerprint == artifacts.open_artifact(root, "toy", "run").fingerprint
    assert {i.role: i.name for i in run.inputs} == {"data": "squares", "cache": "vit"}
    document = evaluated(tmp_path, model="r", bench__bootstrap=0)
    assert "cache: vit" in capsys.readouterr().err
    assert document["metrics"] == evaluated(root, model="toy", bench__bootstrap=0)["metrics"]


def test_what_a_user_gets_wrong(root: Path) -> None:
    with pytest.raises(UserError, match=r"run 'toi' is not in .*did you mean 'toy'"):
        evaluated(root, model="toi")
    with pytest.raises(UserError, match="no split 'tset'"):
        evaluated(root, model="toy", split="tset")
    with pytest.raises(UserError, match="two halves are needed"):
        evaluated(root, image_model="toy")
    for keys, flag in (({"model": "toy"}, "--model"), ({"teacher_weights": "w.pt"}, "--weights")):
        with pytest.raises(UserError, match=f"takes the place of {flag}"):
            evaluated(root, embeddings="e.npz", **keys)
    with pytest.raises(UserError, match="is not a file"):
        evaluated(root, embeddings=str(root / "absent.npz"))


def test_a_bench_with_a_set_of_its_own_is_not_scored_on_the_runs_data(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = without_caches(root, tmp_path / "work")
    keys = {"bench": "flickr30k-retrieval", "model": "toy", "bench__bootstrap": 0}
    with pytest.raises(
        UserError, match=r"^--data is needed: .* has no data made from flickr30k \(there is others, squares"
    ):
        evaluated(place, **keys)
    capsys.readouterr()
    evaluated(place, data="squares", **keys)
    assert "made from 'flickr8k' and not from 'flickr30k'" in capsys.readouterr().err
    pictures = root.parent / "others"
    source = {"name": "flickr30k", "images": str(pictures), "annotations": str(pictures / "annotations.json")}
    named = {f"source__{key}": value for key, value in source.items()}
    prepare_data.run(config_of(prepare_data, image_size=0, **named), context(place, "thirty"))
    document = evaluated(place, **keys)
    assert "data: thirty, the only one" in capsys.readouterr().err
    assert document["fingerprints"]["data"] == artifacts.read(place / "data" / "thirty").fingerprint


def test_the_only_run_is_the_default(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluated(root, bench__bootstrap=0)
    assert "model: run toy, the only one" in capsys.readouterr().err


def test_dry_run_estimates_and_writes_nothing(root: Path) -> None:
    before = sorted(path.name for path in (root / "results").iterdir())
    document = evaluate.run(
        config_of(evaluate, bench__name="retrieval", model="toy"), context(root, "dry", dry_run=True)
    )
    assert document["status"] == "dry run" and document["rows"] == 24 and document["seconds"] > 0
    assert sorted(path.name for path in (root / "results").iterdir()) == before


def test_open_clip_equals_clip_benchmark(root: Path, tmp_path: Path) -> None:
    """The same random checkpoint, pictures and captions through open_clip and CLIP_benchmark's own evaluation."""
    peer = pytest.importorskip("clip_benchmark.metrics.zeroshot_retrieval", reason="clip-benchmark is not installed")
    import open_clip
    from datasets import load_from_disk

    TINY["clip open_clip"](tmp_path, 0)
    name = f"open_clip:local-dir:{tmp_path}"
    document = evaluated(root, "clip", model=name, data="squares", split="val", bench__bootstrap=0)
    assert document["zero_shot"]["value"] is None and document["model"]["kind"] == "open_clip"

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    tables = {table: load_from_disk(str(root / "data" / "squares" / table))["val"] for table in ("images", "texts")}
    pictures = torch.stack([preprocess(row["image"]) for row in tables["images"]])
    texts = [[t["text"] for t in tables["texts"] if t["image_row"] == row] for row in range(len(pictures))]
    loader = [(pictures[:5], texts[:5]), (pictures[5:], texts[5:])]
    expected = peer.evaluate(model.eval(), loader, open_clip.get_tokenizer(f"local-dir:{tmp_path}"), "cpu", amp=False,
                             recall_k_list=[1, 5])  # fmt: skip
    kept = json.loads((root / "results" / "clip" / "clip_benchmark.json").read_text())
    assert {k: v for k, v in kept["metrics"].items() if k in expected} == pytest.approx(expected)
    assert kept["task"] == "zeroshot_retrieval" and kept["language"] == "en"


def test_two_halves(root: Path, tmp_path: Path) -> None:
    """Pictures by one library's model, texts by another's: each half is what it says alone."""
    for half in ("clip open_clip", "clip transformers", "d2v2 image"):
        (tmp_path / half).mkdir()
        TINY[half](tmp_path / half, 0)
    image, text = f"open_clip:local-dir:{tmp_path / 'clip open_clip'}", f"hf:{tmp_path / 'clip transformers'}"
    keys = {"data": "squares", "split": "val", "bench__bootstrap": 0}
    document = evaluated(root, "halves", image_model=image, text_model=text, **keys)
    assert document["model"]["kind"] == "halves" and set(document["fingerprints"]) == {"model", "data"}
    assert document["zero_shot"]["value"] is None
    alone = {kind: evaluated(root, kind, model=name, **keys)["metrics"] for kind, name in (("i", image), ("t", text))}
    assert document["metrics"] not in alone.values()
    both = evaluated(root, "both", image_model=image, text_model=image, **keys)
    assert both["metrics"] == alone["i"]
    wide = f"d2v2:{tmp_path / 'd2v2 image' / 'image.pt'}"
    with pytest.raises(UserError, match=r"of one width"):
        evaluated(root, "wide", image_model=wide, text_model=text, **keys)
    assert not (root / "results" / "wide").exists()  # the name is free for the mended command
    with pytest.raises(UserError, match=r"gives no vector of texts"):
        evaluated(root, "blind", image_model=text, text_model=wide, **keys)


def test_rejected_pictures_are_skipped_and_counted(root: Path, tmp_path: Path) -> None:
    source = root.parent / "squares"
    (tmp_path / "images").mkdir()
    for path in source.iterdir():
        (tmp_path / "images" / path.name).write_bytes(path.read_bytes())
    images = json.loads((source / "annotations.json").read_text())["images"]
    broken = next(image["filename"] for image in images if image["split"] == "val")
    (tmp_path / "images" / broken).write_bytes(b"no picture")
    keys = {"source__name": "flickr8k", "source__images": str(tmp_path / "images"),
            "source__annotations": str(source / "annotations.json")}  # fmt: skip
    prepare_data.run(config_of(prepare_data, image_size=0, skip_bad=True, **keys), context(root, "holed"))
    document = evaluated(root, model="toy", data="holed", split="val", bench__bootstrap=0)
    assert document["counts"]["items"] == 7 and document["counts"]["skipped"] == 1
    assert document["counts"]["texts"] == 14 and document["counts"]["skipped_texts"] == 2


def test_embeddings_by_the_command_line(mmkd: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.standard_normal((40, 8)).astype(np.float32)
    owner = np.arange(200) // 5
    text = (image[owner] + 0.01 * rng.standard_normal((200, 8))).astype(np.float32)
    np.savez(tmp_path / "e.npz", image=image, text=text, text_image=owner)
    words = ("evaluate", "--bench", "retrieval", "--embeddings", "e.npz", "--json")
    first, again = mmkd(*words), mmkd(*words)
    document = json.loads(first.stdout)
    assert first.stdout == again.stdout and "already done" in again.stderr
    assert document["metrics"]["mean_recall"] == 100.0 and document["counts"]["items"] == 40
    assert document["model"] == {"name": "e.npz", "kind": "embeddings"}
    assert "zero-shot: not known (no manifest says" in first.stderr
    assert document["fingerprints"].keys() == {"embeddings"}
    (folder,) = (tmp_path / "work" / "results").iterdir()
    assert folder.name.startswith("retrieval-e-")
    page = (folder / "report.html").read_text()
    assert "http://" not in page and "https://" not in page
    np.savez(tmp_path / "bad.npz", image=image, text=text)
    said = mmkd("evaluate", "--bench", "retrieval", "--embeddings", "bad.npz", code=2).stderr
    assert "no 'text_image'" in said and len(said.strip().splitlines()) == 1
    plan = paths.read_json(folder / "plan.json")
    assert "e.npz" not in json.dumps(plan["identity"])
