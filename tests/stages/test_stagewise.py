"""Stagewise distillation: a multimodal student begins with the blocks of two runs of one modality (E)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmkd_cli.core import artifacts
from mmkd_cli.core.errors import UserError
from mmkd_cli.stages import distill
from tests.stages.finetune_chain import tuned
from tests.stages.small_chain import config_of, context, make_chain
from tests.students import small_students

SIZES = {"student__width": small_students.WIDTH, "student__heads": small_students.HEADS, "student__image_size": 32}
TRAIN = {"data": "squares", "train__batch_size": 8, "train__max_steps": 4, "train__peak_lr": 1e-3}


FROZEN = {"mm-d2v2": ("specific.*attn*",), "s-smke": ("image.*attn*", "text.*attention*")}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `a` of pictures and `b-prime`, `b` of texts, from live teachers, beside the cache `vit`."""
    folder = tmp_path_factory.mktemp("chain")
    root = make_chain(folder)
    image, text, *_ = small_students.d2v2_files(folder)
    bert = small_students.bert_folder(folder / "bert")
    d2v2 = {"teacher__name": "d2v2", "teacher__heads": small_students.HEADS, "teacher__max_tokens": 24}
    of_text = {"student__modality": "text", "student__vocabulary": small_students.BPE_TOKENS}
    for name, keys in {
        "a": {**d2v2, "teacher__weights": str(image)},
        "b-prime": {**d2v2, "teacher__weights": str(text), **of_text, "student__text": "d2v2"},
        "b": {"teacher__name": "text-encoder", "teacher__weights": str(bert), "teacher__max_tokens": 24, **of_text},
    }.items():
        asked = {"method__name": "layer-mean", "live": True, "student__depth": 2, **SIZES, **TRAIN, **keys}
        distill.run(config_of(distill, **asked), context(root, name))
    return root


def trained(root: Path, name: str, student: str, **keys: Any) -> dict[str, Any]:
    words = {"student__vocabulary": small_students.BPE_TOKENS} if student == "mm-d2v2" else {}
    asked = {"method__name": "cls-regression", "cache": "vit", "student__name": student, "student__depth": 2,
             "student__max_tokens": 24, "student__init_image": "a", **SIZES, **words, **TRAIN, **keys}  # fmt: skip
    return distill.run(config_of(distill, **asked), context(root, name))


@pytest.mark.parametrize(("student", "text"), [("mm-d2v2", "b-prime"), ("s-smke", "b")])
def test_it_begins_with_their_blocks(root: Path, student: str, text: str) -> None:
    """Frozen attention is that of the runs; what is trained has moved."""
    keys = {"student__init_text": text, "student__freeze": FROZEN[student]}
    document = trained(root, student, student, **keys)
    run = artifacts.open_artifact(root, student, "run")
    assert {("init_image", "a"), ("init_text", text)} <= {(i.role, i.name) for i in run.inputs}
    assert document["parameters"]["trainable"] < document["parameters"]["total"]
    ours = load_file(run.path / "model/model.safetensors")
    images = load_file(root / "runs/a/model/model.safetensors")
    place = {"mm-d2v2": "specific.0.image.", "s-smke": "image.blocks.0."}[student]
    assert torch.equal(ours[f"{place}attn.qkv.weight"], images["blocks.0.attn.qkv.weight"])
    assert not torch.equal(ours[f"{place}mlp.fc1.weight"], images["blocks.0.mlp.fc1.weight"])
    texts = load_file(root / f"runs/{text}/model/model.safetensors")
    if student == "mm-d2v2":
        ours_text, name, theirs = ours, "specific.0.text.attn.qkv.weight", "blocks.0.attn.qkv.weight"
    else:
        ours_text = load_file(run.path / "model/text/model.safetensors")
        name = theirs = "encoder.layer.0.attention.self.query.weight"
    assert torch.equal(ours_text[name], texts[theirs])
    assert trained(root, student, student, **keys)["status"] == "already done"


def test_runs_that_do_not_fit_are_refused(root: Path) -> None:
    for keys, said in (
        ({"student__init_text": "a"}, "run 'a' is no run of the student encoder that reads d2v2 texts"),
        ({"student__init_text": "b"}, "run 'b' is no run of the student encoder that reads d2v2 texts"),
        ({"student__init_text": "b-prime", "student__depth": 4}, "run 'a' has 2 blocks of width 32"),
        ({"student__init_text": "b-prime", "student__freeze": ("nothing.*",)}, "fits no parameter"),
    ):
        with pytest.raises(UserError, match=said):
            trained(root, "refused", "mm-d2v2", **keys)


def test_a_pair_of_encoders_is_tuned_for_retrieval_at_once(root: Path) -> None:
    """Their runs are inputs, and no run of both is needed."""
    begun = {"student__name": "s-smke", "student__init_image": "a", "student__init_text": "b"}
    keys = {**SIZES, **TRAIN, **begun, "student__depth": 2, "student__max_tokens": 24}
    tuned(root, "retrieval", "pair", **keys)
    run = artifacts.open_artifact(root, "pair", "run")
    assert [(i.role, i.name) for i in run.inputs] == [("init_image", "a"), ("init_text", "b"), ("data", "squares")]
    again = tuned(root, "retrieval", "further", model="pair", **TRAIN)
    assert again["steps"] == 4
    assert "init_image" not in {i.role for i in artifacts.open_artifact(root, "further", "run").inputs}
