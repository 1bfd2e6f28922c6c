"""GPT-2's BPE with fairseq's numbering, against numbering by hand."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from mmkd_cli.architectures.gpt2_bpe import Gpt2Bpe
from mmkd_cli.core.errors import UserError
from tests.contracts.tiny_teachers import BYTES, write_gpt2_bpe

TEXTS = ["a dog, two do's", "", "übergroß\n\ttabs  and  spaces ", "<s> is no special token", "😀 dodo"]


def byte_names() -> dict[int, str]:
    """GPT-2's bytes_to_unicode: printable bytes stand for themselves, the others for letters from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{byte: chr(byte) for byte in printable}, **{byte: chr(256 + n) for n, byte in enumerate(others)}}


def ids_by_hand(text: str) -> list[int]:
    """Bytes one by one but `do` as one; dict.txt of the folder lists GPT-2's numbers from the last to the first."""
    names, last = byte_names(), len(BYTES)
    data, place, ids = text.encode(), 0, []
    while place < len(data):
        merged = data[place : place + 2] == b"do"
        number = last if merged else BYTES.index(names[data[place]])
        place += 2 if merged else 1
        ids.append(4 + last - number)
    return ids


@pytest.mark.parametrize("eos", [False, True])
def test_ids_are_fairseqs(tmp_path: Path, eos: bool) -> None:
    write_gpt2_bpe(tmp_path)
    tokenize = Gpt2Bpe(tmp_path, max_tokens=16, eos=eos)
    coded = pickle.loads(pickle.dumps(tokenize))(TEXTS)
    for row, text in enumerate(TEXTS):
        end = [2] if eos else []
        expected = [0, *ids_by_hand(text)[: 15 - len(end)], *end]
        assert coded["input_ids"][row].tolist() == expected + [1] * (16 - len(expected))
        assert coded["attention_mask"][row].tolist() == [1] * len(expected) + [0] * (16 - len(expected))


def test_transformers_files_carry_fairseqs_numbers_themselves(tmp_path: Path) -> None:
    write_gpt2_bpe(tmp_path)
    encoder = json.loads((tmp_path / "encoder.json").read_text())
    last = len(encoder) - 1
    special = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    (tmp_path / "vocab.json").write_text(json.dumps({**special, **{t: 4 + last - n for t, n in encoder.items()}}))
    (tmp_path / "vocab.bpe").rename(tmp_path / "merges.txt")
    coded = Gpt2Bpe(tmp_path, max_tokens=64)(TEXTS)
    for row, text in enumerate(TEXTS):
        ids = ids_by_hand(text)
        assert coded["input_ids"][row, 1 : 1 + len(ids)].tolist() == ids


def test_files_that_are_not_there_or_no_vocabulary_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds neither encoder.json, vocab.bpe, dict.txt nor vocab.json, merges.txt"):
        Gpt2Bpe(tmp_path)
    write_gpt2_bpe(tmp_path)
    (tmp_path / "encoder.json").write_text('{"a": "b"}')
    with pytest.raises(UserError, match=r"encoder.json is no table of tokens to numbers"):
        Gpt2Bpe(tmp_path)


def test_the_files_are_the_identity(tmp_path: Path) -> None:
    write_gpt2_bpe(tmp_path)
    first = Gpt2Bpe(tmp_path).identity()
    assert first != Gpt2Bpe(tmp_path, eos=True).identity()
    with open(tmp_path / "dict.txt", "a") as file:
        file.write("madeupword0001 0\n")
    assert first != Gpt2Bpe(tmp_path).identity()
