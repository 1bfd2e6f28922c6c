"""`finetune --task image-classification` from runs of pictures and of two modalities, and timm models, to scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from mmkd_cli.core import artifacts
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.stages import distill, evaluate, prepare_data
from tests.stages.broken_off import broken_off
from tests.stages.finetune_chain import tuned
from tests.stages.small_chain import config_of, context, weights_file
from tests.students import small_students

SIZES = {"student__width": small_students.WIDTH, "student__heads": small_students.HEADS, "student__image_size": 32,
         "student__depth": 2}  # fmt: skip
PROBE = {"data": "shapes", "task__mode": "linear-probe", "task__rand_augment": "", "task__erase": 0.0,
         "task__mixed": 0.0}  # fmt: skip


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data `shapes` of scenes with their colour as label; runs `a` of pictures, `y4` of both modalities."""
    folder = tmp_path_factory.mktemp("chain")
    root = folder / "work"
    scenes = {"source__name": "scenes", "source__train": 48, "source__val": 16, "source__test": 16, "source__size": 32,
              "source__objects": 1, "source__label": "colour"}  # fmt: skip
    prepare_data.run(config_of(prepare_data, image_size=0, **scenes), context(root, "shapes"))
    image, *_ = small_students.d2v2_files(folder / "weights")
    train = {"data": "shapes", "train__max_steps": 2, "train__batch_size": 8}
    teacher = {"teacher__name": "d2v2", "teacher__weights": str(image), "teacher__heads": small_students.HEADS}
    asked = {"method__name": "layer-mean", "live": True, **teacher, **train, **SIZES}
    distill.run(config_of(distill, **asked), context(root, "a"))
    both = {"method__name": "cls-regression", "method__regression_weight": 0.0, "method__contrastive_weight": 1.0,
            "student__name": "s-smke", "student__image_weights": str(image), "student__max_tokens": 16,
            "student__text_weights": str(small_students.bert_folder(folder / "bert"))}  # fmt: skip
    distill.run(config_of(distill, **both, **train, **SIZES), context(root, "y4"))
    return folder


def scored(root: Path, model: str, **keys: Any) -> dict[str, Any]:
    asked = {"bench__name": "image-classification", "model": model, "data": "shapes", "split": "val", **keys}
    return evaluate.run(config_of(evaluate, **asked), context(root))


@pytest.mark.parametrize(("model", "blocks"), [("a", "blocks."), ("y4", "image.blocks.")])
def test_a_probe_on_a_runs_blocks(chain: Path, model: str, blocks: str) -> None:
    root, name = chain / "work", f"{model}-probed"
    document = tuned(root, "image-classification", name, model=model, **PROBE, train__max_steps=12)
    run = artifacts.open_artifact(root, name, "run")
    assert [(i.role, i.name) for i in run.inputs] == [("model", model), ("data", "shapes")]
    assert document["parameters"]["trainable"] == 2 * 32 + 33 * len(document["labels"])
    before, after = (load_file(root / "runs" / one / "model/model.safetensors") for one in (model, name))
    kept = [n for n in after if n.startswith("encoder.blocks.")]
    assert len(kept) == 24 and all(
        torch.equal(after[n], before[n.replace("encoder.blocks.", blocks)]) for n in kept
    )  # fmt: skip
    said = scored(root, name)
    assert said["metrics"].keys() == {"acc1", "acc5", "mean_per_class_recall"} and said["counts"]["items"] == 16
    assert said["zero_shot"]["value"] is False and said["by"]["chance"]["acc1"] == 100 / len(document["labels"])
    lines = (root / "results").glob("image-classification-*/predictions.jsonl")
    assert any(len(file.read_text().splitlines()) == 16 for file in lines)


def test_broken_off_a_tuned_run_goes_on_to_the_same_bytes(chain: Path) -> None:
    """All of timm's augmentation is drawn; workers and the place where it broke off make no difference."""
    root = chain / "work"
    keys = {"model": "a", "data": "shapes", "train__max_steps": 6, "train__checkpoint_every": 2}
    whole = tuned(root, "image-classification", "whole", **keys)
    broken_off(lambda: tuned(root, "image-classification", "broken", **keys), after=3)
    one, other = (artifacts.open_artifact(root, name, "run") for name in ("whole", "broken"))
    assert one.fingerprint == other.fingerprint and whole["parameters"]["trainable"] > 10_000
    assert (one.path / "metrics.jsonl").read_bytes() == (other.path / "metrics.jsonl").read_bytes()
    cut = tuned(root, "image-classification", "cut", **keys, train__micro_batch_size=3)
    assert cut["last"]["cross_entropy"] == pytest.approx(whole["last"]["cross_entropy"], rel=1e-3)
    moved = load_file(one.path / "model/model.safetensors")["encoder.blocks.0.attn.qkv.weight"]
    assert not torch.equal(moved, load_file(root / "runs/a/model/model.safetensors")["blocks.0.attn.qkv.weight"])
    again = tuned(root, "image-classification", "again", model="whole", data="shapes", train__max_steps=2)
    assert again["labels"] == whole["labels"]  # a classifier goes on with its head


def test_a_timm_model_and_the_command_line(chain: Path, mmkd: Any) -> None:
    weights, root = weights_file(chain), ["--root", chain / "work"]
    said = json.loads(mmkd("finetune", "--task", "image-classification", "--preset", "cifar", "--model",
                           f"timm:test_vit:{weights}", "--data", "shapes", "--batch-size", 8, "--workers", 2, "--set",
                           "train.max_steps=2", "--name", "vit", *root, "--json").stdout)  # fmt: skip
    assert said["steps"] == 2 and len(said["labels"]) > 5
    opened: Any = timm.create_model(f"local-dir:{chain / 'work/runs/vit/model'}", pretrained=True)
    assert opened.num_classes == len(said["labels"])
    by_run = json.loads(mmkd("evaluate", "--bench", "image-classification", "--model", "vit", *root, "--json").stdout)
    assert by_run["split"] == "test" and by_run["counts"]["items"] == 16
    folder = f"timm:local-dir:{chain / 'work/runs/vit/model'}"
    by_timm = scored(chain / "work", folder, split="test")
    assert by_timm["metrics"] == by_run["metrics"] and by_timm["zero_shot"]["value"] is None
    alone = tuned(chain / "work", "image-classification", "threads", model=f"timm:test_vit:{weights}", data="shapes",
                  train__max_steps=2, train__peak_lr=1e-3, task__layer_decay=0.75,
                  train__warmup_steps=None)  # fmt: skip
    assert alone["last"]["cross_entropy"] == said["last"]["cross_entropy"]  # a thread loads what two workers do
    listed = mmkd("list", "finetune_tasks").stdout
    assert "image-classification" in listed and "retrieval" in listed


def test_ready_logits(chain: Path, tmp_path: Path) -> None:
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 3.0, 2.0], [0.5, 0.1, 0.2]], dtype=np.float32)
    np.savez(tmp_path / "said.npz", logits=logits, label=np.array([0, 1, 2, 1]))
    config = config_of(evaluate, bench__name="image-classification", embeddings=str(tmp_path / "said.npz"))
    found = evaluate.run(config, context(chain / "work"))
    assert found["metrics"] == pytest.approx({"acc1": 25.0, "mean_per_class_recall": 100 / 3})  # a tie is wrong


def test_what_can_not_be_scored_or_begun(chain: Path) -> None:
    root = chain / "work"
    with pytest.raises(UserError, match=r"tells no classes of pictures apart: train it by `mmkd finetune"):
        scored(root, "y4")
    with pytest.raises(UserError, match=r"holds no classifier|are not the model's 1000"):
        scored(root, f"timm:test_vit:{weights_file(chain)}")
    with pytest.raises(UserError, match=r"does not start from it: name a run, or timm:ARCH"):
        tuned(root, "image-classification", "x", model="hf:somewhere", data="shapes")
    with pytest.raises(UserError, match=r"student.arch and --model a both say where training starts"):
        tuned(root, "image-classification", "x", model="a", data="shapes", student__arch="test_vit")
    with pytest.raises(Refused, match="the task 'retrieval' starts from"):
        tuned(root, "retrieval", "x", model="a", data="shapes")
