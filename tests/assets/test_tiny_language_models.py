"""The shipped BART and causal language model open in transformers and know texts about scenes that they never read."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from mmkd_cli import scenes
from mmkd_cli.tasks.vqa import VqaConfig

ROOT = Path(__file__).resolve().parents[2]
BART, LM = (ROOT / "mmkd_cli" / "assets" / name for name in ("tiny-bart", "tiny-lm"))
WORLD = 77
"""A seed that no model was trained on."""


def opened(kind: Any, folder: Path, untrained: bool = False) -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if untrained:
        torch.manual_seed(0)
        return kind.from_config(AutoConfig.from_pretrained(folder)).float().eval(), tokenizer
    return kind.from_pretrained(folder).float().eval(), tokenizer


def captions(count: int) -> list[str]:
    return [scenes.captions(scenes.scene(WORLD, index, "val"))[index % 5] for index in range(count)]


def test_both_are_small_and_in_half_precision() -> None:
    files = [file for folder in (BART, LM) for file in folder.iterdir()]
    assert sum(file.stat().st_size for file in files) < 4_000_000
    for folder, kind in ((BART, AutoModelForSeq2SeqLM), (LM, AutoModelForCausalLM)):
        assert next(kind.from_pretrained(folder, dtype="auto").parameters()).dtype == torch.float16


def test_tokenizers_are_barts_and_gpt2s() -> None:
    bart, lm = (AutoTokenizer.from_pretrained(folder) for folder in (BART, LM))
    assert (bart.bos_token_id, bart.pad_token_id, bart.eos_token_id) == (0, 1, 2)
    assert bart.mask_token_id == len(bart) - 1
    text = "Question: is there a red circle? Answer: yes."
    assert bart(text)["input_ids"][0] == 0 and bart(text)["input_ids"][-1] == 2
    assert bart.decode(bart(text)["input_ids"], skip_special_tokens=True) == text
    masked = bart("Question: is there a red circle? Answer: <mask>.")["input_ids"]
    assert masked[-3:] == [bart.mask_token_id, bart(".")["input_ids"][1], 2]
    assert not {0, 2} & {*lm(text)["input_ids"]} and lm.decode(lm(text)["input_ids"]) == text
    assert bart.decode(bart("Ünïcödé")["input_ids"], skip_special_tokens=True) == "Ünïcödé"


@torch.no_grad()
def test_bart_writes_masked_captions_back() -> None:
    """Every other word of a caption is masked; nats a token, by transformers' own loss."""

    def loss(model: Any, tokenizer: Any) -> float:
        read = captions(60)
        noisy = [" ".join(word if place % 2 else "<mask>" for place, word in enumerate(text.split())) for text in read]
        source, target = (tokenizer(texts, padding=True, return_tensors="pt") for texts in (noisy, read))
        labels = target.input_ids.masked_fill(target.attention_mask == 0, -100)
        return model(**source, labels=labels).loss.item()

    trained, untrained = (loss(*opened(AutoModelForSeq2SeqLM, BART, random)) for random in (False, True))
    even = math.log(len(AutoTokenizer.from_pretrained(BART)))
    assert trained < 0.35 * untrained and trained < 0.35 * even


@torch.no_grad()
def test_bart_answers_what_it_can_read() -> None:
    """`what color is the SHAPE?` behind a caption that names one SHAPE and its colour, in the form of `generate`."""
    model, tokenizer = opened(AutoModelForSeq2SeqLM, BART)
    asked, answers = [], []
    for index in range(4000):
        scene = scenes.scene(WORLD, index, "val")
        told = scenes.captions(scene)[1]
        for question in scenes.questions(scene):
            if question.text.startswith("what color is the ") and f" {question.answer} " in f" {told} ":
                asked.append((told, question.text))
                answers.append(question.answer)
        if len(asked) >= 60:
            break
    form = VqaConfig()
    sources = [f"{told}. {form.prompt.replace('{question}', text)}" for told, text in asked]
    right = 0
    for source, (_, text), answer in zip(sources, asked, answers, strict=True):
        prefix = tokenizer(form.prefix.replace("{question}", text), return_tensors="pt").input_ids[:, :-1]
        start = torch.tensor([[model.config.decoder_start_token_id]])
        written = model.generate(
            **tokenizer(source, return_tensors="pt", return_token_type_ids=False), num_beams=1, max_new_tokens=5,
            decoder_input_ids=torch.cat([start, prefix], dim=1),
        )  # fmt: skip
        said = tokenizer.decode(written[0], skip_special_tokens=True).rpartition("Answer:")[2]
        right += said.strip() == f"{answer}."
    assert right > 0.4 * len(asked)  # eight colours: a guesser has an eighth


@torch.no_grad()
def test_the_language_model_knows_captions() -> None:
    def loss(model: Any, tokenizer: Any) -> float:
        ids = tokenizer(captions(60), padding=True, return_tensors="pt")
        labels = ids.input_ids.masked_fill(ids.attention_mask == 0, -100)
        return model(input_ids=ids.input_ids, attention_mask=ids.attention_mask, labels=labels).loss.item()

    trained, untrained = (loss(*opened(AutoModelForCausalLM, LM, random)) for random in (False, True))
    assert trained < 0.35 * untrained and trained < 0.35 * math.log(len(AutoTokenizer.from_pretrained(LM)))


@pytest.mark.parametrize(
    ("script", "more"), [("bart", ["--batch-size", "8"]), ("language_model", ["--batch-size", "4"])]
)
def test_a_script_makes_the_same_file_again(script: str, more: list[str], tmp_path: Path) -> None:
    files = []
    for name in ("first", "second"):
        command = [sys.executable, str(ROOT / "examples" / "tiny" / f"{script}.py"), "--out", str(tmp_path / name)]
        command += ["--work", str(tmp_path / f"{name}-work"), "--steps", "2", "--items", "8", *more]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        subprocess.run(command, check=True, env=environment, capture_output=True)
        files.append((tmp_path / name / "model.safetensors").read_bytes())
    assert files[0] == files[1]
