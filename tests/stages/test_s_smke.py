"""S-SMKE and SHRe from data to a score: twenty steps of six variants, from a cache and live, and retrieval by each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmkd_cli.stages import cache_teacher, distill, evaluate
from tests.stages.small_chain import config_of, context, make_chain, teacher_keys
from tests.students import small_students

ITC = {"method__name": "cls-regression", "method__contrastive_weight": 1.0, "method__wd_rule": "embeddings",
       "method__clamp_logit_scale": True}  # fmt: skip
CDL = {"method__target_loss": "contrastive-target"}
D2V2 = {"student__text": "d2v2", "student__token_types": "none", "student__vocabulary": small_students.BPE_TOKENS}
WIDE = {"student__width": 64, "student__init": "random"}
"""As the teacher, whose CLS what is shared meets as it is."""
VARIANTS: dict[str, dict[str, Any]] = {
    "t3": {"student__layer_scale": 1e-5},
    "u2": {"method__bank__size": 32, "method__bank__keys": "average", "method__bank__start": "random"},
    "q": {"method__target_loss": "kl", "method__signal": "logits", "student__shared": "mlp", "student__taps": "all",
          "student__token_types": "none"},
    "v": {"method__target_loss": "target-cmli", "method__signal": "image_tokens", "student__image_size": 160,
          "student__init": "random",
          "method__cmli_width": 8},
    "y4": {"method__regression_weight": 0.0},
    "x": {**CDL, "method__target_bank": 48, "method__target_bank_start": "random"},
    "o": {**D2V2, "method__target_loss": "kl", "method__signal": "logits", "student__shared": "mlp-2",
          "student__taps": "head"},
    "p": {**D2V2, "method__target_loss": "kl", "method__signal": "logits"},
    "p-sx3hre": {**D2V2, **WIDE, "student__regression_head": False},
    "p-mse-head": D2V2,
    "p-itc-heads": {**D2V2, **WIDE, "student__regression_head": False, "student__tap_maps": True},
}  # fmt: skip


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    root = make_chain(folder)
    stored = {"data": "squares", "signals": ("logits", "image_tokens"), "cache__dtype": "float32", "cache__threads": 1}
    cache_teacher.run(config_of(cache_teacher, **stored, **teacher_keys(folder)), context(root, "more"))
    small_students.d2v2_files(folder / "weights")
    small_students.bert_folder(folder / "bert")
    return folder


def trained(chain: Path, name: str, **keys: Any) -> list[dict[str, Any]]:
    student = {
        "student__name": "s-smke", "student__width": small_students.WIDTH, "student__heads": small_students.HEADS,
        "student__image_size": 32, "student__depth": 2, "student__max_tokens": 16,
        "student__image_weights": str(chain / "weights/image.pt"),
        "student__text_weights": str(chain / ("weights/text.pt" if "student__text" in keys else "bert")),
    }  # fmt: skip
    train = {"train__max_steps": 20, "train__batch_size": 8, "train__peak_lr": 3e-3}
    config = config_of(distill, **{"data": "squares", **ITC, **student, **train, **keys})
    distill.run(config, context(chain / "work", name))
    lines = (chain / "work" / "runs" / name / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if "loss" in line]


@pytest.mark.parametrize("variant", VARIANTS)
def test_twenty_steps_and_a_score(chain: Path, variant: str) -> None:
    named = {} if variant == "y4" else {"cache": "more" if variant in ("q", "v", "o", "p") else "vit"}
    steps = trained(chain, variant, **named, **VARIANTS[variant])
    kl = dict.fromkeys(("q", "o", "p"), "kl")
    target = {"x": "contrastive_target", "v": "target_cmli", **kl}.get(variant, "regression")
    contrasts = {"contrastive_head"} if variant == "o" else {"contrastive", "contrastive_hidden"}
    parts = {*contrasts, *(() if variant == "y4" else (f"{target}_image", f"{target}_text"))}
    assert len(steps) == 20 and all(parts <= line.keys() for line in steps)
    told = "contrastive" if variant == "y4" else f"{target}_text"
    first, last = (sum(line[told] for line in part) for part in (steps[:4], steps[-4:]))
    assert last < first
    scored = config_of(evaluate, bench__name="retrieval", model=variant, data="squares", split="val")
    said = evaluate.run(scored, context(chain / "work"))
    assert 0 <= said["metrics"]["mean_recall"] <= 100 and said["zero_shot"]["value"] is False


@pytest.mark.parametrize("variant", ["x", "o", "p", "p-itc-heads"])
def test_a_live_teacher_gives_the_losses_of_its_cache(chain: Path, tmp_path: Path, variant: str) -> None:
    cache, few = "more" if variant in ("o", "p") else "vit", {"train__max_steps": 4}
    cached = trained(chain, f"cached-{variant}", cache=cache, **VARIANTS[variant], **few)
    live = trained(chain, f"live-{variant}", cache=cache, live=True, **VARIANTS[variant], **few,
                   **teacher_keys(tmp_path))  # fmt: skip
    assert [line["loss"] for line in live] == pytest.approx([line["loss"] for line in cached], rel=1e-3)
