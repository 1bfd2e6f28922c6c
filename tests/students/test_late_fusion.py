"""Late fusion: the head's formula, which parameters a layer trains, two pictures, what is saved; and its chain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from mmkd_cli.core.errors import UserError
from mmkd_cli.students.grid_answerers import Vocabulary
from mmkd_cli.students.late_fusion import LateFusion, LateFusionConfig
from mmkd_cli.students.mm_d2v2 import MmD2v2, MmD2v2Config
from mmkd_cli.students.projections import Heads
from mmkd_cli.students.s_smke import SSmke, SSmkeConfig
from tests.conftest import Run
from tests.students import small_students

SIZES = {"width": small_students.WIDTH, "heads": small_students.HEADS, "max_tokens": 16, "image_size": 32, "depth": 2,
         "init": "random"}  # fmt: skip
WORDS = Vocabulary(["a"], ["yes", "no", "2"])
REACHED = {
    ("mm-d2v2", "encoder"): ("specific.",), ("mm-d2v2", "shared"): ("specific.", "shared."),
    ("mm-d2v2", "projection"): ("specific.", "shared.", "projections.maps."),
    ("s-smke", "encoder"): ("image.", "text."), ("s-smke", "shared"): ("image.", "text.", "types.", "shared."),
    ("s-smke", "head"): ("image.", "text.", "types.", "shared.", "head."),
}  # fmt: skip
"""Student, layer -> what the names of parameters begin with that its vectors depend on, and that are not frozen."""


def run_of(folder: Path, kind: str) -> Path:
    """A run's folder with random weights."""
    torch.manual_seed(0)
    heads = Heads(True, "clip", None)
    if kind == "mm-d2v2":
        words = {"tokenizer": str(small_students.bpe_folder(folder / "bpe")), "vocabulary": small_students.BPE_TOKENS}
        student: Any = MmD2v2.build(MmD2v2Config(**SIZES, **words), heads, "image_cls", 24, lambda: ())
    else:
        bert = small_students.bert_folder(folder / "bert")
        student = SSmke.build(SSmkeConfig(**SIZES, text_weights=str(bert)), heads, "image_cls", 24, lambda: ())
    (folder / kind / "model").mkdir(parents=True)
    student.save(folder / kind)
    return folder / kind


def batch_of(model: LateFusion, questions: int = 3, pictures: int = 1) -> dict[str, Any]:
    texts = (small_students.TEXTS * 2)[:questions]
    pixels = list(torch.randint(0, 256, (questions * pictures, 3, 32, 32), dtype=torch.uint8))
    nested = [pixels[n * pictures : (n + 1) * pictures] for n in range(questions)]
    return {**model.tokenize(texts), "pixels": nested if pictures > 1 else pixels}


@pytest.mark.parametrize(("kind", "layer"), REACHED)
def test_a_layers_head_and_what_it_trains(tmp_path: Path, kind: str, layer: str) -> None:
    start = run_of(tmp_path, kind)
    model = LateFusion.build(LateFusionConfig(layer=layer, dropout=0.0), 0, WORDS, start)
    batch, body, head = batch_of(model), model.body, model.head
    pixels = {"pixels": torch.stack(batch["pixels"])}
    image, text = body.embed_images(pixels, layer), body.embed_texts(batch, layer)
    with torch.no_grad():
        slow = []
        for v, w in zip(image, text, strict=True):
            four = torch.cat([v, w, v * w, (v - w).abs()])
            slow.append(head[4](F.gelu(head[1](head[0](four)))))
        torch.testing.assert_close(model.logits(batch), torch.stack(slow))
    for name, parameter in body.named_parameters():
        fixed = name.startswith("embed.") or name == "image.embed.positions" or "logit_scales" in name
        assert parameter.requires_grad == (name.startswith(REACHED[kind, layer]) and not fixed), name
    F.cross_entropy(model.logits(batch), torch.tensor([0, 1, 2])).backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    grouped = [id(p) for group in model.parameter_groups(1e-3, 0.1) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert {group["lr"] for group in model.parameter_groups(1e-3, 0.1)} == {1e-3, 2e-2}


def test_what_is_frozen_stays(tmp_path: Path) -> None:
    model = LateFusion.build(LateFusionConfig(frozen=True), 0, WORDS, run_of(tmp_path, "s-smke")).train()
    assert model.training and not model.body.training and not any(p.requires_grad for p in model.body.parameters())
    model.logits(batch_of(model)).sum().backward()
    assert all(p.grad is not None for p in model.head.parameters())
    assert {group["lr"] for group in model.parameter_groups(1e-3, 0.1)} == {2e-2}


def test_of_two_pictures_both_are_seen_with_the_text(tmp_path: Path) -> None:
    start = run_of(tmp_path, "mm-d2v2")
    model = LateFusion.build(LateFusionConfig(dropout=0.0), 0, WORDS._replace(pictures=2), start).eval()
    batch = batch_of(model, pictures=2)
    text = model.body.embed_texts(batch, "shared")
    with torch.no_grad():
        sides = []
        for side in range(2):
            pixels = {"pixels": torch.stack([row[side] for row in batch["pixels"]])}
            image = model.body.embed_images(pixels, "shared")
            sides.append(torch.cat([image, text, image * text, (image - text).abs()], 1))
        torch.testing.assert_close(model.logits(batch), model.head(torch.cat(sides, 1)))


@pytest.mark.parametrize("kind", ["mm-d2v2", "s-smke"])
def test_a_run_of_it_is_read_again_and_gone_on_from(tmp_path: Path, kind: str) -> None:
    config = LateFusionConfig(layer="encoder")
    model = LateFusion.build(config, 0, WORDS, run_of(tmp_path, kind)).eval()
    (tmp_path / "run" / "model").mkdir(parents=True)
    model.save(tmp_path / "run")
    again = LateFusion.load(tmp_path / "run", {"student": config.model_dump(mode="json")})
    batch = batch_of(model)
    with torch.no_grad():
        torch.testing.assert_close(again.logits(batch), model.logits(batch))
    assert again.answer(list(small_students.TEXTS[:3]), {"pixels": batch["pixels"]}) == [
        WORDS.answers[place] for place in model.logits(batch).argmax(1).tolist()
    ]
    same, other = (LateFusion.build(config, 0, words, tmp_path / "run")
                   for words in (WORDS, WORDS._replace(answers=["no", "yes", "2"])))  # fmt: skip
    assert torch.equal(same.head[0].weight, model.head[0].weight)
    assert not torch.equal(other.head[0].weight, model.head[0].weight)


def test_it_learns_what_neither_picture_nor_question_tells_alone(tmp_path: Path) -> None:
    """Whether a picture's grey is the one that is asked about."""
    torch.manual_seed(0)
    config, words = LateFusionConfig(dropout=0.0, head_lr_scale=10.0), WORDS._replace(answers=["no", "yes"])
    model = LateFusion.build(config, 0, words, run_of(tmp_path, "s-smke")).train()
    grey = torch.randint(0, 2, (24,))
    asked = torch.randint(0, 2, (24,))
    pixels = [torch.full((3, 32, 32), 40 + 170 * int(one), dtype=torch.uint8) for one in grey]
    batch = {**model.tokenize([("a dog runs", "two cats sleep")[int(one)] for one in asked]), "pixels": pixels}
    optimizer = torch.optim.AdamW(model.parameter_groups(1e-3, 0.0))
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model.logits(batch), (grey == asked).long()).backward()
        optimizer.step()
    with torch.no_grad():
        assert torch.equal(model.eval().logits(batch).argmax(1), (grey == asked).long())
        swapped = {**batch, "pixels": [pixels[place] for place in (1 - grey).argsort().tolist()]}
        assert not torch.equal(model.logits(swapped).argmax(1), (grey == asked).long())


def test_a_layer_that_a_run_has_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="layer 'projection' is not one of this student's"):
        LateFusion.build(LateFusionConfig(layer="projection"), 0, WORDS, run_of(tmp_path, "s-smke"))


def test_the_chain_from_a_distilled_run_to_a_score(tmp_path: Path, mmkd: Run) -> None:
    """Pictures and captions, then their questions: trained end to end, and the head alone of another layer."""
    bert = small_students.bert_folder(tmp_path / "bert")
    few = ["--batch-size", 8, "--set", "train.max_steps=3"]
    mmkd("prepare-data", "--source", "scenes", "--name", "asked", "--set", "source.train=12", "--set", "source.val=4",
         "--set", "source.test=0")  # fmt: skip
    sizes = [f"--set=student.{name}={value}" for name, value in SIZES.items()]
    mmkd("distill", "--method", "cls-regression", "--student", "s-smke", "--data", "asked", "--name", "pairs",
         "--set", "method.regression_weight=0", "--set", "method.contrastive_weight=1",
         "--set", f"student.text_weights={bert}", *sizes, *few)  # fmt: skip
    tune = ["finetune", "--task", "vqa", "--student", "late-fusion", "--data", "asked", "--set", "task.least=1", *few]
    said = json.loads(mmkd(*tune, "--name", "answers", "--json").stdout)
    assert 0 < said["parameters"]["trainable"] < said["parameters"]["total"]
    assert "already done" in mmkd(*tune, "--name", "answers").stderr
    head = json.loads(mmkd(*tune, "--model", "pairs", "--layer", "encoder", "--set", "student.frozen=true", "--name",
                           "head", "--json").stdout)  # fmt: skip
    assert head["parameters"]["trainable"] < said["parameters"]["trainable"]
    mmkd(*tune, "--model", "answers", "--layer", "shared", "--name", "further")
    written = json.loads(mmkd("generate", "--task", "vqa", "--model", "further", "--split", "val", "--json").stdout)
    document = json.loads(mmkd("evaluate", "--bench", "vqav2", "--predictions", written["name"], "--json").stdout)
    assert document["counts"]["items"] == written["rows"] == 20
    picture = next((tmp_path / "work/results").glob("vqa-*")) / "report.html"
    assert picture.read_text().count("data:image/jpeg") == 20
    (tmp_path / "sizes.toml").write_text('stage = "finetune"\ntask = "vqa"\nstudent = "late-fusion"\n')
    assert "name it by --model" in mmkd("show", "sizes.toml", "--json", code=2).stderr
