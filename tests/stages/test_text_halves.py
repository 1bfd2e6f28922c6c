"""GLUE on text students: runs of one modality and the text half of multimodal ones, from distillation to a score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForSequenceClassification

from mmkd_cli.core.errors import UserError
from mmkd_cli.stages import distill, evaluate, prepare_data
from mmkd_cli.students.encoder import Encoder
from mmkd_cli.students.mm_d2v2 import MmD2v2
from mmkd_cli.students.text_halves import text_half
from tests.conftest import Run
from tests.data.sources.test_glue import OFFICIAL
from tests.stages.finetune_chain import tuned
from tests.stages.small_chain import config_of, context, make_chain
from tests.students import small_students

SIZES = {"student__width": small_students.WIDTH, "student__heads": small_students.HEADS, "student__image_size": 32,
         "student__depth": 2}  # fmt: skip
RUNS = ("b", "b-prime", "mm-d2v2", "s-smke", "p", "unimodal")


def glue(root: Path, folder: Path, task: str, labels: Any) -> None:
    """A task's official files, 24 rows to train on and 12 of dev; labels: row -> its label."""
    name, header, line, *_ = OFFICIAL[task]
    (folder / name).mkdir(parents=True)
    for split, rows in (("train", range(24)), ("dev", range(12)), ("test", range(2))):
        lines = [line.format(a=f"a red dog {n % 3}", b=("two cats", "the dog")[n % 2], label=labels(n)) for n in rows]
        (folder / name / f"{split}.tsv").write_text("\n".join([*([header] if header else []), *lines]))
    keys = {"source__name": "glue", "source__task": task, "source__annotations": str(folder)}
    prepare_data.run(config_of(prepare_data, **keys), context(root, task))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a step, RTE and STS-B; a BERT with its pooler in `bert`."""
    folder = tmp_path_factory.mktemp("halves")
    root = make_chain(folder)
    image, text, *_ = small_students.d2v2_files(folder)
    bert = small_students.bert_folder(folder / "bert")
    d2v2 = {"image_weights": str(image), "text_weights": str(text), "vocabulary": small_students.BPE_TOKENS}
    of_text = {"method__name": "layer-mean", "live": True, "student__modality": "text", "teacher__max_tokens": 24}
    of_both = {"method__name": "cls-regression", "cache": "vit", "student__max_tokens": 24}
    for name, keys in {
        "b": {**of_text, "teacher__name": "text-encoder", "teacher__weights": str(bert)},
        "b-prime": {
            **of_text,
            "teacher__name": "d2v2",
            "teacher__heads": small_students.HEADS,
            "teacher__weights": str(text),
            "student__text": "d2v2",
            "student__vocabulary": small_students.BPE_TOKENS,
        },
        "a": {
            "method__name": "layer-mean",
            "live": True,
            "teacher__name": "d2v2",
            "teacher__weights": str(image),
            "teacher__heads": small_students.HEADS,
        },
        "mm-d2v2": {**of_both, "student__name": "mm-d2v2", **{f"student__{n}": v for n, v in d2v2.items()}},
        "typed": {
            **of_both,
            "student__name": "mm-d2v2",
            "student__token_types": True,
            **{f"student__{n}": v for n, v in d2v2.items()},
        },
        "s-smke": {
            **of_both,
            "student__name": "s-smke",
            "student__image_weights": str(image),
            "student__text_weights": str(bert),
        },
        "p": {
            **of_both,
            "student__name": "s-smke",
            "student__text": "d2v2",
            **{f"student__{n}": v for n, v in d2v2.items()},
        },
    }.items():
        shared = {"data": "squares", "train__batch_size": 8, "train__max_steps": 1, **SIZES}
        distill.run(config_of(distill, **{**shared, **keys}), context(root, name))
    keys = {"method__name": "cls-regression", "cache": "vit", "data": "squares", "student__name": "unimodal",
            "student__text": "d2v2", "student__text_weights": str(text), "train__batch_size": 8,
            **{n: v for n, v in SIZES.items() if n != "student__image_size"}, "student__max_tokens": 24,
            "student__vocabulary": small_students.BPE_TOKENS, "train__max_steps": 1}  # fmt: skip
    distill.run(config_of(distill, **keys), context(root, "unimodal"))
    glue(root, folder / "glue", "rte", lambda n: "entailment" if n % 2 else "not_entailment")
    glue(root, folder / "glue", "stsb", lambda n: n % 2 * 4.5)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_fine_tuned_and_scored(folder: Path, name: str) -> None:
    root, bert = folder / "work", name in ("b", "s-smke")
    keys = {"student__pooler": str(folder / "bert")} if bert else {}
    said = tuned(root, "text-classification", f"{name}-rte", model=name, data="rte", **keys)
    model = AutoModelForSequenceClassification.from_pretrained(Path(said["path"]) / "model")
    assert model.config.num_hidden_layers == (1 if name == "mm-d2v2" else 2)
    assert model.config.model_type == ("bert" if bert else "data2vec-text")
    scored = config_of(evaluate, bench__name="glue", model=f"{name}-rte", data="rte", split="val")
    found = evaluate.run(scored, context(root))
    assert found["counts"] == {"items": 12, "skipped": 0} and 0 <= found["metrics"]["accuracy"] <= 100


def test_numbers_are_learnt(folder: Path) -> None:
    root = folder / "work"
    keys = {"student__pooler": str(folder / "bert"), "train__max_steps": 30, "train__peak_lr": 5e-3,
            "train__validation": False}  # fmt: skip
    tuned(root, "text-classification", "b-stsb", model="b", data="stsb", **keys)
    scored = config_of(evaluate, bench__name="glue", model="b-stsb", data="stsb", split="val")
    assert evaluate.run(scored, context(root))["metrics"]["pearson"] > 90


def test_the_pooler_is_berts_and_the_blocks_the_runs(folder: Path) -> None:
    """At a rate of nothing; a run that goes on from this one keeps its own."""
    root = folder / "work"
    still = {"train__max_steps": 1, "train__peak_lr": 1e-30, "train__weight_decay": 0.0}
    tuned(root, "text-classification", "still", model="s-smke", data="rte", student__pooler=str(folder / "bert"),
          **still)  # fmt: skip
    made = load_file(root / "runs/still/model/model.safetensors")
    run = load_file(root / "runs/s-smke/model/text/model.safetensors")
    pooler = AutoModel.from_pretrained(folder / "bert").pooler.dense.weight
    assert torch.equal(made["bert.pooler.dense.weight"], pooler)
    assert all(torch.equal(made[f"bert.{name}"], value) for name, value in run.items())
    tuned(root, "text-classification", "further", model="still", data="rte", train__peak_lr=1e-2)
    last = tuned(root, "text-classification", "last", model="further", data="rte", **still)
    one, other = (load_file(root / f"runs/{name}/model/model.safetensors") for name in ("further", "last"))
    assert all(torch.equal(one[name], value) for name, value in other.items()) and last["status"] == "done"
    assert not torch.equal(one["bert.pooler.dense.weight"], pooler)


def test_data2vecs_blocks_are_the_students(folder: Path) -> None:
    """What transformers computes from the half is the first token that the student gives."""
    texts = ["a red square", "blue"]
    run = folder / "work/runs/mm-d2v2"
    config = json.loads((run / "plan.json").read_text())["config"]
    student = MmD2v2.load(run, config)
    batch = student.tokenize(texts)
    with text_half(run) as half, torch.no_grad():
        model = AutoModel.from_pretrained(half, add_pooling_layer=False)
        said = model(**batch).last_hidden_state[:, 0]
    torch.testing.assert_close(said, student.embed_texts(batch, "encoder"), atol=1e-5, rtol=1e-4)
    run = folder / "work/runs/b-prime"
    encoder = Encoder.load(run, json.loads((run / "plan.json").read_text())["config"])
    batch = encoder.tokenize(texts)
    with text_half(run) as half, torch.no_grad():
        said = AutoModel.from_pretrained(half, add_pooling_layer=False)(**batch).last_hidden_state[:, 0]
        own = encoder.body(**batch)[:, 0]
    torch.testing.assert_close(said, own, atol=1e-5, rtol=1e-4)


def test_runs_without_a_text_half_are_refused(folder: Path) -> None:
    root = folder / "work"
    for name, keys, said in (
        ("a", {}, "run 'a' reads pictures: name a run of texts"),
        ("typed", {}, "run 'typed' has token types"),
        ("b-prime", {"student__pooler": str(folder / "bert")}, "student.pooler: the model has no pooler"),
        ("b", {"student__pooler": str(root / "runs/b/model")}, "does not load|weights missing|has no pooler"),
    ):
        with pytest.raises(UserError, match=said):
            tuned(root, "text-classification", "refused", model=name, data="rte", **keys)


def test_from_the_command_line(folder: Path, mmkd: Run) -> None:
    root = ["--root", folder / "work"]
    mmkd("finetune", "--preset", "thesis", "--task", "text-classification", "--model", "b", "--data", "rte", "--name",
         "cli", "--set", f"student.pooler={folder / 'bert'}", "--set", "student.max_tokens=24", "--set",
         "train.max_steps=2", "--batch-size", 8, *root)  # fmt: skip
    said = json.loads(mmkd("evaluate", "--bench", "glue", "--model", "cli", "--json", *root).stdout)
    assert said["bench"] == "glue" and said["split"] == "val" and said["counts"]["items"] == 12
    commands = mmkd("show", "cli", "--chain", *root).stdout
    assert "mmkd finetune --preset thesis" in commands and "run 'b'" in commands
