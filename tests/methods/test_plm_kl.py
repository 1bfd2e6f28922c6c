"""plm-kl: the token path through CLIP's text blocks, the loss from a cache and live, the run, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from mmkd_cli.architectures.clip_models import attention_bias
from mmkd_cli.cli.options import file_layers
from mmkd_cli.core.config import resolve
from mmkd_cli.core.contracts import Position
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.methods.plm_kl import PlmKl
from mmkd_cli.stages import cache_teacher, distill, prepare_data
from mmkd_cli.students.clip import Clip, ClipConfig
from mmkd_cli.students.token_path import mean_of_pieces, token_texts
from tests.architectures.tiny_clip import tiny_clip
from tests.architectures.tiny_language_models import VOCABULARY, tiny_language_model
from tests.stages.small_chain import config_of, context, draw

AT = Position(0, 0, 0)
SENTENCES = [f"{a} {b}" for a in ("a dog", "two cats", "red") for b in ("runs", "on the sand", "x", "sleeps, again")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and, under work/, data `texts` and `squares` with the caches NAME-KIND of three language models."""
    folder = tmp_path_factory.mktemp("plm")
    for kind in ("vit", "transformers"):
        tiny_clip(folder / kind, kind)
    (folder / "texts").mkdir()
    for split in ("train", "val"):
        (folder / "texts" / f"{split}.txt").write_text("\n".join(SENTENCES))
    root = folder / "work"
    keys = {"source__name": "text", "source__annotations": str(folder / "texts")}
    prepare_data.run(config_of(prepare_data, **keys), context(root, "texts"))
    draw(folder / "squares", 20)
    keys = {"source__name": "flickr8k", "source__images": str(folder / "squares"),
            "source__annotations": str(folder / "squares" / "annotations.json")}  # fmt: skip
    prepare_data.run(config_of(prepare_data, image_size=0, **keys), context(root, "squares"))
    for kind in ("causal", "masked", "bart"):
        tiny_language_model(folder / kind, kind)
    cached(folder, "causal", "whole", teacher__topk=VOCABULARY["causal"])
    cached(folder, "masked", "masks", teacher__topk=VOCABULARY["masked"])
    cached(folder, "causal", "captions", data="squares")
    cached(folder, "bart", "draws", teacher__codec="sampled")
    return folder


def cached(folder: Path, kind: str, name: str, data: str = "texts", **keys: Any) -> None:
    given = {"data": data, "teacher__name": "lm", "teacher__weights": str(folder / kind), "teacher__max_tokens": 18,
             "cache__dtype": "float32", "cache__threads": 1, "teacher__topk": 8, **keys}  # fmt: skip
    cache_teacher.run(config_of(cache_teacher, **given), context(folder / "work", name))


def run_config(folder: Path, *data: str, **keys: Any) -> Any:
    return config_of(distill, **{
        "method__name": "plm-kl", "student__arch": f"local-dir:{folder / 'vit'}", "data": list(data),
        "train__batch_size": 6, "train__epochs": 2, "train__peak_lr": 1e-3, "train__log_every": 1, **keys,
    })  # fmt: skip


def distilled(folder: Path, name: str, *data: str, **keys: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The stage's document, and the lines of metrics.jsonl."""
    document = distill.run(run_config(folder, *data, **keys), context(folder / "work", name))
    lines = (folder / "work" / "runs" / name / "metrics.jsonl").read_text().splitlines()
    return document, [json.loads(line) for line in lines]


# ------------------------------------------------------------------------------------------------ the token path
@pytest.mark.parametrize("kind", ["vit", "transformers"])
def test_with_clips_own_table_the_path_is_clips_own(place: Path, kind: str) -> None:
    """Its states at the end token, projected, are the library's embedding of the text."""
    named = {"weights": str(place / kind)} if kind == "transformers" else {"arch": f"local-dir:{place / kind}"}
    student = Clip.build(ClipConfig(**named)).eval()
    coded = student.tokenize(["a dog", "two cats sleep"])
    ids, mask = coded["input_ids"], coded["attention_mask"]
    embedded = F.embedding(ids, student.library.token_embeddings(student.clip))
    states = student.library.run_text_blocks(student.clip, embedded, attention_bias(mask, causal=True))
    last = states[torch.arange(2), mask.sum(1) - 1]
    projected = student.clip.text_projection(last) if kind == "transformers" else last @ student.clip.text_projection
    torch.testing.assert_close(projected, student.embed_texts(coded), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["vit", "transformers"])
def test_the_causal_mask_is_kept_or_lifted_and_padding_is_not_seen(place: Path, kind: str) -> None:
    named = {"weights": str(place / kind)} if kind == "transformers" else {"arch": f"local-dir:{place / kind}"}
    student = Clip.build(ClipConfig(**named)).eval()
    tokenizer = AutoTokenizer.from_pretrained(place / "masked")
    ids, mask = torch.arange(20, 28)[None], torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0]])
    first, last = torch.zeros(1, 8, dtype=torch.bool), ids.clone()
    first[0, 0], last[0, 5] = True, 90
    padded = ids.clone()
    padded[0, 6] = 90
    for causal in (True, False):
        student.read_tokens(tokenizer, VOCABULARY["masked"], causal)
        said = student.token_logits(ids, mask, first)
        assert torch.equal(said, student.token_logits(padded, mask, first))
        changed = (said - student.token_logits(last, mask, first)).abs().max()
        assert (changed == 0) if causal else (changed > 1e-6)


def test_a_token_starts_as_the_mean_of_clips_pieces_of_it(place: Path) -> None:
    student = Clip.build(ClipConfig(arch=f"local-dir:{place / 'vit'}"))
    table = student.library.token_embeddings(student.clip).detach()
    clips = open_clip.get_tokenizer("ViT-B-32")
    texts = ["", "dog", " Unbelievably", "4.5!", "sand castle"]
    found = mean_of_pieces(texts, student.tokenize, table)
    for text, row in zip(texts, found, strict=True):
        pieces = clips.encode(text)
        wanted = sum(table[piece] for piece in pieces) / len(pieces) if pieces else table.mean(0)
        torch.testing.assert_close(row, wanted, atol=1e-6, rtol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(place / "masked")
    said = token_texts(tokenizer, 300)
    assert said[:3] == [""] * 3 and said[259:] == [""] * 41 and said[tokenizer.convert_tokens_to_ids("d")] == "d"


# ------------------------------------------------------------------------------------------------ the loss
def built(place: Path, cache: str, **keys: Any) -> PlmKl:
    from mmkd_cli.stages.training_data import open_inputs

    config = run_config(place, f"texts:{cache}", method__contrastive_weight=0.0, **keys)
    opened = open_inputs(place / "work", config.data, None, None, lambda tables: PlmKl.signals(config, tables),
                         live=False, workers=0)  # fmt: skip
    config = config.model_copy(update={"teacher": opened.teacher})
    return PlmKl.build(config, opened.training_data("cpu"), "cpu")


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_with_the_whole_vocabulary_the_loss_is_the_dense_kl(place: Path, kind: str) -> None:
    """Against transformers' logits of each text alone, and the student's at the same places."""
    made = built(place, {"causal": "whole", "masked": "masks"}[kind])
    made.model.eval()
    batch = made.feeds[0].load(np.arange(5), AT)
    found = made.forward(batch).row_losses["kl"]
    assert made.counts(batch) == {"kl": len(found)}
    teacher = (AutoModelForCausalLM if kind == "causal" else AutoModelForMaskedLM).from_pretrained(place / kind).eval()
    wanted = []
    for row in range(5):
        length = int(batch["token_mask"][row].sum())
        ids, places = batch["token_ids"][row, :length][None], batch["target_places"][row, :length]
        own = AutoTokenizer.from_pretrained(place / kind)(SENTENCES[row], truncation=True, max_length=18).input_ids
        assert ids[0, ~places].tolist() == [i for i, target in zip(own, places, strict=True) if not target] or (
            kind == "causal" and ids[0].tolist() == own
        )
        assert int(places.sum()) == (length - 1 if kind == "causal" else max(1, round(0.15 * (length - 2))))
        log_p = teacher(ids).logits[0, places].log_softmax(1)
        log_q = made.model.token_logits(ids, torch.ones_like(ids), places[None]).log_softmax(1)
        wanted.append(F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(1))
    torch.testing.assert_close(found, torch.cat(wanted), atol=1e-4, rtol=1e-3)
    summed = built(place, {"causal": "whole", "masked": "masks"}[kind], method__reduction="batchmean")
    summed.model.load_state_dict(made.model.state_dict())
    rows = summed.forward(batch).row_losses["kl"]
    torch.testing.assert_close(rows, torch.stack([part.sum() for part in wanted]), atol=1e-3, rtol=1e-3)
    assert summed.counts(batch) == {}


def test_of_a_text_of_several_windows_each_epoch_sees_one(place: Path) -> None:
    cached(place, "causal", "windows", teacher__max_tokens=6, teacher__long="window")
    made = built(place, "windows")
    feed, seen = made.feeds[0], set()
    whole = AutoTokenizer.from_pretrained(place / "causal")(SENTENCES[1]).input_ids
    for epoch in range(12):
        batch = feed.load(np.array([0, 1]), Position(epoch, 0, 0))
        assert batch["token_ids"].shape == (2, 6)
        window = batch["token_ids"][1][batch["token_mask"][1].bool()].tolist()
        first = next(i for i in range(0, len(whole), 5) if whole[i : i + 6] == window)
        seen.add(first)
        assert int(batch["target_places"][1].sum()) == len(window) - 1
        stored = batch["topk_ids"][1, 0]
        ids = torch.tensor(whole[first : first + 1])[None]
        logits = AutoModelForCausalLM.from_pretrained(place / "causal").eval()(ids).logits[0, 0]
        assert torch.equal(stored, logits.topk(8).indices)
    assert seen == set(range(0, len(whole) - 1, 5))


# ------------------------------------------------------------------------------------------------ the stage
def test_a_run_of_texts_and_pairs(place: Path) -> None:
    document, lines = distilled(place, "run", "texts:whole", "squares")
    assert document["status"] == "done" and document["steps"] == 4
    steps = [line for line in lines if "kl" in line]
    assert len(steps) == 4 and all(line["contrastive"] > 0 for line in steps)
    assert steps[-1]["kl"] < steps[0]["kl"]
    total = [0.01 * line["kl"] + line["contrastive"] for line in steps]
    assert [line["loss"] for line in steps] == pytest.approx(total, rel=1e-4)
    assert any("val/texts.texts/kl" in line for line in lines)
    assert any("val/squares/contrastive" in line for line in lines)
    manifest = json.loads((place / "work" / "runs" / "run" / "manifest.json").read_text())
    assert sorted(manifest["content"]["repairs"]) == list("abcdefg")
    assert "256 tokens" in manifest["content"]["repairs"]["c"]
    model = place / "work" / "runs" / "run" / "model"
    opened, _, _ = open_clip.create_model_and_transforms(f"local-dir:{model}")
    first = load_file(place / "vit" / "open_clip_model.safetensors")
    moved = {name for name, value in opened.state_dict().items() if not torch.equal(value, first[name])}
    assert {"visual.conv1.weight", "transformer.resblocks.0.attn.in_proj_weight", "logit_scale"} <= moved
    heads = load_file(place / "work" / "runs" / "run" / "heads.safetensors")
    assert heads["token_path.table"].shape == (256, 32)
    again, _ = distilled(place, "run", "texts:whole", "squares")
    assert again["status"] == "already done"


def test_captions_with_a_cache_are_texts_and_pairs(place: Path) -> None:
    document, lines = distilled(place, "both", "squares:captions", train__epochs=1)
    assert document["rows"] == 32 + 16 and {"kl", "contrastive"} <= lines[0].keys()


def test_cached_and_live_teacher_give_the_same_losses(place: Path) -> None:
    _, cache = distilled(place, "cached", "texts:whole", "squares", train__epochs=1)
    keys = {"live": True, "train__epochs": 1}
    _, live = distilled(place, "live", "texts:whole", "squares", **keys)
    for one, other in zip(cache, live, strict=True):
        for name in {"kl", "contrastive", "loss"} & one.keys():
            assert one[name] == pytest.approx(other[name], rel=1e-4)


def test_draws_are_learnt_from_too(place: Path) -> None:
    _, lines = distilled(place, "sampled", "texts:draws", method__codec="sampled", method__contrastive_weight=0.0)
    assert "contrastive" not in lines[0] and lines[-2]["kl"] < lines[0]["kl"]


def test_another_tokenizer_is_refused_by_name_and_both_sizes(place: Path) -> None:
    shutil.copytree(place / "causal", place / "changed")
    cached(place, "changed", "own")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(place / "bart" / name, place / "changed" / name)
    with pytest.raises(Refused, match=r"of 260 tokens .* was made with \w+ of 256"):
        distilled(place, "refused", "texts:own", "squares")
    with pytest.raises(Refused, match=r"of 260 tokens .* was made with \w+ of 256"):
        other = {"teacher__name": "lm", "teacher__weights": str(place / "bart")}
        distilled(place, "refused", "texts:whole", "squares", **other)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"method__temperature": 2.0},
            "of temperature 1, the loss needs 2: cache with --set teacher.temperature=2",
        ),
        ({"method__kd_form": "literal", "method__codec": "sampled"}, "literal needs the teacher's logits"),
    ],
)
def test_what_the_cache_does_not_hold_is_said(place: Path, keys: dict[str, Any], said: str) -> None:
    cache = "draws" if "method__codec" in keys else "whole"
    with pytest.raises(UserError, match=said):
        distilled(place, "asked", f"texts:{cache}", "squares", **keys)


def test_the_summarys_sizes_are_counted_without_weights() -> None:
    """The preset: CLIP-RN50x4 and a table of GPT-2's 50,257 tokens, 640 wide; GPT-2 beside them."""
    config = resolve(distill.Config, file_layers("distill", None, "summary", "plm-kl")).config
    counts = distill.describe(config)
    clip, tokens = 178_300_601, 50257 * 640
    assert {name: part["trainable"] for name, part in counts["parts"].items()} == {"clip": clip, "tokens": tokens}
    assert counts["parameters"] == {"total": clip + tokens, "trainable": clip + tokens}
    assert counts["teacher_parameters"] == 124_439_808
    train, method = config.train, config.method
    assert (train.optimizer, train.peak_lr, train.batch_size, train.epochs) == ("adam", 1e-4, 64, 10)
    assert (method.temperature, method.scale, config.teacher.name) == (2.0, 0.01, "gpt2")
