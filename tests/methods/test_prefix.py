"""prefix: the loss and the maps against transformers by hand, CLIP's `<IMG>`, the run, and captions written from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from mmkd_cli.cache.reader import open_cache
from mmkd_cli.core import artifacts
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.references import student_table
from mmkd_cli.stages import distill, evaluate, generate
from mmkd_cli.students.alignment import read_heads, save_heads
from mmkd_cli.students.prefix import EndedTokenizer, Prefix, PrefixConfig
from mmkd_cli.teachers.clip import Clip, ClipConfig
from tests.architectures.tiny_bart import tiny_bart, tiny_gpt2
from tests.architectures.tiny_clip import DIM, tiny_clip
from tests.stages.small_chain import config_of, context
from tests.stages.vlkd_chain import make_vlkd_chain

START = 49406
"""Of a text, in CLIP's own vocabulary."""


def mapped(folder: Path, name: str | None, dry_run: bool = False, **keys: Any) -> dict[str, Any]:
    given = {"method__name": "prefix", "student__weights": str(folder / "gpt2"), "student__max_tokens": 48,
             "data": "squares", "train__batch_size": 8, "train__max_steps": 6, "train__peak_lr": 0.01,
             "train__log_every": 1, **keys}  # fmt: skip
    return distill.run(config_of(distill, **given), context(folder / "work", name, dry_run=dry_run))


def tell_apart(folder: Path) -> None:
    """Make the maps of the run `first` magnify what differs between pictures: a tiny CLIP's vectors are all alike."""
    vectors = open_cache("clip", root=folder / "work", split="train")["image_embedding"][list(range(32))].float()
    centre = (torch.nn.functional.normalize(vectors, dim=1) * DIM**0.5).mean(dim=0)
    run = folder / "work/runs/first"
    tensors, about = read_heads(run)
    tensors["image_map.weight"] *= 1000
    tensors["image_map.bias"] = -tensors["image_map.weight"] @ centre
    save_heads(run, tensors, about)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a chain with the run `first`; tests copy what they change."""
    folder = tmp_path_factory.mktemp("prefix")
    make_vlkd_chain(folder)
    tiny_gpt2(folder / "gpt2")
    mapped(folder, "first")
    tell_apart(folder)
    return folder


# ------------------------------------------------------------------------------------------------ the student
def by_hand(student: Prefix, vector: torch.Tensor) -> torch.Tensor:
    """[1, 2, w]: both vectors at the length sqrt(d), each through its map."""
    maps = ((student.image_map, vector), (student.token_map, student.token))
    return torch.stack([m.weight @ (v / v.norm() * DIM**0.5) + m.bias for m, v in maps])[None]


@torch.no_grad()
def test_the_loss_is_the_mean_over_a_captions_tokens_and_its_end(tmp_path: Path) -> None:
    """Each token's probability from a forward of its own, one caption at a time."""
    place = tiny_gpt2(tmp_path)
    draw = torch.Generator().manual_seed(0)
    images, token = torch.randn(3, DIM, generator=draw), torch.randn(DIM, generator=draw)
    student = Prefix.build(PrefixConfig(weights=str(place), max_tokens=20), DIM, "image_embedding", token).train()
    lm, tokenizer = AutoModelForCausalLM.from_pretrained(place).eval(), AutoTokenizer.from_pretrained(place)
    texts = ["a dog", "two cats sleep on the very long bed", ""]
    said = student({**student.ended(texts), "image_embedding": images})
    for row, text in enumerate(texts):
        ids = [*[0, *tokenizer(text, add_special_tokens=False)["input_ids"]][:19], tokenizer.eos_token_id]
        length = int(said.mask[row].sum())
        assert said.labels[row, :length].tolist() == ids
        embedded = by_hand(student, images[row])
        for place_, wanted in enumerate(ids):
            logits = lm(inputs_embeds=embedded).logits[0, -1]
            torch.testing.assert_close(said.logits[row, place_], logits, atol=1e-4, rtol=1e-4)
            embedded = torch.cat([embedded, lm.get_input_embeddings()(torch.tensor([[wanted]]))], dim=1)


def test_tokens_end_once_and_are_cut_before_it(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2(tmp_path))
    end = tokenizer.eos_token_id
    coded = EndedTokenizer(tokenizer, 6)(["ab", "abcdefgh"])
    assert coded["input_ids"][0].tolist()[3:] == [end] * 3 and coded["attention_mask"][0].tolist() == [1] * 4 + [0] * 2
    assert coded["input_ids"][1, -1] == end and (coded["input_ids"][1] == end).sum() == 1


@pytest.mark.parametrize("kind", ["vit", "transformers"])
@torch.no_grad()
def test_img_is_what_the_text_encoder_says_of_one_token(tmp_path: Path, kind: str) -> None:
    keys = tiny_clip(tmp_path / kind, kind)
    teacher = Clip(ClipConfig(**keys))
    teacher.load("cpu")
    if kind == "vit":
        model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / kind}")
        wanted = model.eval().encode_text(torch.tensor([[START]]))[0]
        torch.testing.assert_close(teacher.token_embedding(START), wanted)
        torch.testing.assert_close(teacher.token_embedding(None), wanted)
    else:
        start = teacher.tokenize(["a"])["input_ids"][0, 0]
        assert torch.equal(teacher.token_embedding(None), teacher.token_embedding(int(start)))
    assert not torch.allclose(teacher.token_embedding(None), teacher.token_embedding(5))


def test_a_folder_of_a_language_model_names_the_student(tmp_path: Path) -> None:
    place = str(tiny_gpt2(tmp_path / "gpt2"))
    assert student_table(f"hf:{place}") == {"name": "prefix", "weights": place}
    assert student_table("hf:openai/clip-vit-base-patch32")["name"] == "clip"
    assert student_table("hf:google/siglip-base-patch16-224")["name"] == "clip"
    with pytest.raises(UserError, match="is a encoder-decoder model: name a folder of a causal one"):
        Prefix.empty(PrefixConfig(weights=str(tiny_bart(tmp_path / "bart"))), 8, "image_embedding")


# ------------------------------------------------------------------------------------------------ the run
def test_only_the_maps_are_trained_and_the_language_model_is_kept(chain: Path) -> None:
    run = artifacts.open_artifact(chain / "work", "first", "run")
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    steps = [line["caption"] for line in lines if "caption" in line]
    assert len(steps) == 6 and min(steps) < steps[0] and any("val/caption" in line for line in lines)
    before, after = (load_file(place / "model.safetensors") for place in (chain / "gpt2", run.path / "model"))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    heads = load_file(run.path / "heads.safetensors")
    assert {name: [*value.shape] for name, value in heads.items()} == {
        "image_map.bias": [16], "image_map.weight": [16, DIM], "token": [DIM], "token_map.bias": [16],
        "token_map.weight": [16, DIM],
    }  # fmt: skip
    teacher = Clip(ClipConfig(arch=f"local-dir:{chain / 'clip'}"))
    teacher.load("cpu")
    torch.testing.assert_close(heads["token"], teacher.token_embedding(None))
    content = (run.manifest or {})["content"]
    assert content["parameters"]["trainable"] == 2 * (16 * DIM + 16)
    assert "start of a text stands for it" in content["repairs"]["e"] and set(content["repairs"]) == {"e", "f"}


def wrote(folder: Path, name: str | None, **keys: Any) -> dict[str, Any]:
    given = {"task__name": "caption", "model": "first", "split": "train", **keys}
    return generate.run(config_of(generate, **given), context(folder / "work", name))


def captions(document: dict[str, Any]) -> list[str]:
    return [row["caption"] for row in json.loads(Path(document["predictions"]).read_text())]


def test_captions_are_those_of_transformers_a_picture_at_a_time(chain: Path) -> None:
    """Beam 5, at most 20 tokens, by transformers' `generate` from a prefix built by hand."""
    run = chain / "work/runs/first"
    student = Prefix.load(run, {"student": {"name": "prefix", "max_tokens": 48}})
    lm, tokenizer = (kind.from_pretrained(run / "model") for kind in (AutoModelForCausalLM, AutoTokenizer))
    vectors = open_cache("clip", root=chain / "work", split="train")["image_embedding"][list(range(32))].float()
    slow, asked = [], []
    with torch.no_grad():
        for vector in vectors:
            for texts, prompt in ((slow, "<s>"), (asked, "<s>A picture of")):
                ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
                begun = torch.cat([by_hand(student, vector), lm.get_input_embeddings()(ids)], dim=1)
                said = lm.generate(inputs_embeds=begun, attention_mask=torch.ones(begun.shape[:2]), num_beams=5,
                                   max_new_tokens=20, do_sample=False)  # fmt: skip
                texts.append(" ".join(tokenizer.decode(said[0], skip_special_tokens=True).split()))
    found = wrote(chain, "captions", batch_size=7)
    assert captions(found) == slow and len({*slow}) > 1
    assert captions(wrote(chain, "cut", batch_size=64, rows_per_range=5)) == slow
    prompted = wrote(chain, "prompted", task__prompt="A picture of <mask>.")
    assert captions(prompted) == [text.removesuffix(".").strip() for text in asked] != slow


def test_one_picture_a_question_and_a_text(chain: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(chain, tmp_path / "chain"))
    said = wrote(folder, "captions")
    shutil.rmtree(folder / "work/caches")
    picture = {"image": str(folder / "squares" / "0-003.jpg"), "split": None}
    assert wrote(folder, None, **picture)["text"] == captions(said)[3]
    answer = wrote(folder, None, task__name="vqa", question="What colour?", **picture)
    assert answer["prompt"] == "What colour?" and isinstance(answer["text"], str)
    texts = [wrote(folder, None, task__name="text", prompt="A dog", split=None, model=model)["generated_text"]
             for model in ("first", f"hf:{folder / 'gpt2'}")]  # fmt: skip
    assert texts[0] == texts[1]


def test_as_a_dual_encoder_it_is_its_clip(chain: Path) -> None:
    keys = {"bench__name": "retrieval", "split": "val"}
    own, clips = (
        evaluate.run(config_of(evaluate, model=model, **keys), context(chain / "work", name))
        for name, model in (("own", "first"), ("clips", f"open_clip:local-dir:{chain / 'clip'}"))
    )
    assert own["metrics"] == pytest.approx(clips["metrics"])


def test_what_it_cannot_start_from_is_said(chain: Path) -> None:
    assert mapped(chain, "dry", dry_run=True)["parameters"]["trainable"] == 2 * (16 * DIM + 16)
    with pytest.raises(UserError, match="and the prefix are more than the 96 positions"):
        mapped(chain, "long", student__max_tokens=96)
    with pytest.raises(UserError, match="not by the student 'bart'"):
        mapped(chain, "bart", student__name="bart", student__weights=str(chain / "bart"))
