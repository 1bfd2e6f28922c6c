"""data2vec 2.0's text model as transformers' own: the same hidden states, the same ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, RobertaTokenizer

from mmkd_cli.architectures.d2v2 import Sizes, TextEncoder, init_bert_parameters
from mmkd_cli.architectures.d2v2_transformers import as_transformers, transformers_tokenizer
from mmkd_cli.architectures.gpt2_bpe import Gpt2Bpe
from tests.students.small_students import bpe_folder

TEXTS = ["a dog runs", "", "</s> is no end\tåß", "two cats sleep on the bed " * 4]
SIZES = Sizes(width=32, depth=2, heads=4, mlp_width=64, vocabulary=260, max_tokens=48)


def fairseq_folder(folder: Path) -> Path:
    """The three files: two merges, one of a token that dict.txt does not know; ids in another order than the BPE's."""
    folder.mkdir()
    letters = json.loads((bpe_folder(folder / "bytes") / "vocab.json").read_text())
    tokens = [token for token in letters if len(token) == 1]
    encoder = {token: number for number, token in enumerate([*tokens, "do", "ca"])}
    (folder / "encoder.json").write_text(json.dumps(encoder))
    (folder / "vocab.bpe").write_text("#version: 0.2\nd o\nc a\n")
    known = [number for token, number in encoder.items() if token != "ca"]
    (folder / "dict.txt").write_text("".join(f"{number} 1\n" for number in reversed(known)))
    return folder


def test_the_same_function(tmp_path: Path) -> None:
    torch.manual_seed(0)
    own = TextEncoder(SIZES).eval()
    init_bert_parameters(own)
    for parameter in own.parameters():  # norms and biases that are not 1 and 0
        parameter.data += 0.1 * torch.randn_like(parameter)
    as_transformers(own.embed, [(b, b.attn) for b in own.blocks], SIZES, 0.1).save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    assert model.config.model_type == "data2vec-text" and model.config.hidden_dropout_prob == 0.1
    batch = Gpt2Bpe(bpe_folder(tmp_path / "bpe"), 48)(TEXTS)
    there = batch["attention_mask"].bool()
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).last_hidden_state[there], own(**batch)[there], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["transformers", "fairseq"])
def test_the_same_ids(tmp_path: Path, kind: str) -> None:
    """But for the pair's ends, which are RoBERTa's; a token that dict.txt lacks is spelt in smaller ones."""
    folder = bpe_folder(tmp_path / "bpe") if kind == "transformers" else fairseq_folder(tmp_path / "bpe")
    transformers_tokenizer(folder, 64).save_pretrained(tmp_path / "made")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "made")
    assert tokenizer.model_max_length == 64 and tokenizer.pad_token_id == 1
    own = Gpt2Bpe(folder, 64, eos=True)
    texts = [text for text in TEXTS if kind == "transformers" or "ca" not in text]
    said = tokenizer(texts, padding="max_length", max_length=64, truncation=True, return_tensors="pt",
                     split_special_tokens=True)  # fmt: skip
    wanted = own(texts)
    assert torch.equal(said["input_ids"], wanted["input_ids"])
    assert torch.equal(said["attention_mask"], wanted["attention_mask"])
    if kind == "transformers":
        official = RobertaTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
        assert tokenizer("a dog", "no").input_ids == official("a dog", "no").input_ids
    else:
        assert len(tokenizer("cado").input_ids) == 2 + 3  # c, a, do
