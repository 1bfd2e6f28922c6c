"""Token distributions: against transformers' own logits, both codecs, masks, windows, and the cache by command line."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from mmkd_cli.cache.reader import open_cache
from mmkd_cli.core.config import validate
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.stages import cache_teacher, prepare_data
from mmkd_cli.teachers import language_models
from mmkd_cli.teachers.language_models import CODECS, Bart, Bert, Gpt2, LanguageModelConfig, LanguageModelTeacher
from mmkd_cli.teachers.token_codecs import against_dense, draw, pieces, top_k
from tests.architectures.tiny_language_models import VOCABULARY, byte_tokenizer, tiny_language_model
from tests.conftest import Run
from tests.stages.small_chain import config_of, context

TEXTS = ["a dog runs over the wet sand", "", "ab", "x", "two dogs"]
KINDS = tuple(VOCABULARY)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {kind: tiny_language_model(folder / kind, kind) for kind in KINDS}


def teacher(folder: Path, **keys: Any) -> LanguageModelTeacher:
    given = {"weights": str(folder), "max_tokens": 36, "topk": 8, **keys}
    made = LanguageModelTeacher(validate(LanguageModelConfig, given))
    made.load("cpu")
    return made


def said(made: LanguageModelTeacher, signals: list[str], texts: list[str] = TEXTS, first: int = 0) -> dict[str, Any]:
    rows = torch.arange(first, first + len(texts))
    return made({"row": rows, "split": "train", **made.tokenize(texts)}, signals)


@torch.no_grad()
def dense(folder: Path, kind: str, text: str, positions: list[int]) -> Tensor:
    """Logits of one text's targets by transformers alone, without padding: [targets, V]."""
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt").input_ids
    if kind == "causal":
        return AutoModelForCausalLM.from_pretrained(folder).eval()(ids).logits[0, :-1]
    if kind == "masked":
        ids[0, positions] = VOCABULARY["masked"] - 1
        return AutoModelForMaskedLM.from_pretrained(folder).eval()(ids).logits[0, positions]
    mask = VOCABULARY[kind] - 1
    start = torch.tensor([[2]]) if kind == "bart" else torch.tensor([[1, mask]])
    encoder = torch.tensor([[0, mask, 2]])
    forced = torch.cat([start, ids[:, :-1]], dim=1)
    logits = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()(input_ids=encoder, decoder_input_ids=forced).logits
    return logits[0, start.shape[1] :]


@pytest.mark.parametrize("kind", KINDS)
def test_the_distributions_are_transformers_own(folders: dict[str, Path], kind: str) -> None:
    made = teacher(folders[kind], temperature=2.0)
    found = said(made, ["target_positions", "topk_ids", "topk_logits", "log_z"])
    for place in (0, 2, 4):
        positions = found["target_positions"][place].tolist()
        logits = dense(folders[kind], kind, TEXTS[place], positions)
        values, ids = logits.topk(8)
        assert torch.equal(found["topk_ids"][place], ids)
        largest = values[:, :1]
        torch.testing.assert_close(found["topk_logits"][place], values - largest, atol=1e-4, rtol=1e-4)
        log_z = ((logits - largest) / 2).exp().sum(1).log()
        torch.testing.assert_close(found["log_z"][place], log_z, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_have_as_many_targets_as_they_should(folders: dict[str, Path], kind: str) -> None:
    positions = said(teacher(folders[kind]), ["target_positions"])["target_positions"]
    for text, found in zip(TEXTS, positions, strict=True):
        tokens = len(text) + (0 if kind == "causal" else 2)
        if kind == "masked":  # 15 % of those that are not special, at least one
            assert len(found) == (max(1, round(0.15 * len(text))) if text else 0)
            assert all(0 < place < tokens - 1 for place in found.tolist())
        else:
            assert found.tolist() == list(range(max(0, tokens - 1)))


def test_an_encoder_without_masks_reads_an_empty_text(tmp_path: Path) -> None:
    folder = tiny_language_model(tmp_path, "bart")
    byte_tokenizer(folder, ends=True)
    (found,) = said(teacher(folder), ["topk_ids"], TEXTS[:1])["topk_ids"]
    ids = AutoTokenizer.from_pretrained(folder)(TEXTS[0], return_tensors="pt").input_ids
    forced = torch.cat([torch.tensor([[2]]), ids[:, :-1]], dim=1)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    logits = model(input_ids=torch.tensor([[0, 2]]), decoder_input_ids=forced).logits[0, 1:]
    assert torch.equal(found, logits.topk(8).indices)
    masked = tiny_language_model(tmp_path / "masked", "masked")
    byte_tokenizer(masked, ends=True)
    with pytest.raises(UserError, match="has no mask token, which a masked model needs"):
        said(teacher(masked), ["topk_ids"], TEXTS[:1])


def test_masks_and_draws_depend_on_seed_split_and_row_alone(folders: dict[str, Path]) -> None:
    signals = ["target_positions", "sampled_ids"]
    made = teacher(folders["masked"], draws=6)
    together = said(made, signals, [TEXTS[0]] * 3)
    assert len({tuple(found.tolist()) for found in together["target_positions"]}) > 1
    for row in range(3):
        alone = said(made, signals, [TEXTS[0]], first=row)
        assert all(torch.equal(alone[name][0], together[name][row]) for name in signals)
    other = said(teacher(folders["masked"], draws=6, seed=1), signals, [TEXTS[0]] * 3)
    assert any(not torch.equal(other["target_positions"][r], together["target_positions"][r]) for r in range(3))


def test_windows_of_a_long_text_give_each_token_once(folders: dict[str, Path]) -> None:
    """L tokens, L - 1 targets: what a window says is what the model says of that window's text alone."""
    made, whole = teacher(folders["causal"], max_tokens=12, long="window"), teacher(folders["causal"], max_tokens=12)
    text = "a dog runs over the wet sand, twice."
    found = said(made, ["target_positions", "log_z"], [text, "ab"])
    assert [len(one) for one in found["log_z"]] == [len(text) - 1, 1]
    windows = [text[first : first + 12] for first in range(0, len(text) - 1, 11)]
    alone = said(whole, ["log_z"], windows)["log_z"]
    torch.testing.assert_close(found["log_z"][0], torch.cat(alone), atol=1e-5, rtol=1e-5)
    places = [12 * number + place for number, window in enumerate(windows) for place in range(len(window) - 1)]
    assert found["target_positions"][0].tolist() == places
    masked = teacher(folders["masked"], max_tokens=12, long="window", mask_ratio=1.0)
    (positions,) = said(masked, ["target_positions"], [text])["target_positions"]
    assert len(positions) == len(text) and made.signals()["target_positions"].dtype == "uint32"


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_windows_add_no_special_tokens_inside_a_text(folders: dict[str, Path], kind: str) -> None:
    made, text = teacher(folders[kind], max_tokens=12, long="window"), "a dog runs over the wet sand, twice."
    ids = AutoTokenizer.from_pretrained(folders[kind])(text).input_ids
    (positions,) = said(made, ["target_positions"], [text])["target_positions"]
    assert len(ids) == 38 and len(positions) == 37
    coded = {name: value[0] for name, value in made.tokenize([text, "ab"]).items()}
    assert [*coded["input_ids"][:1].tolist(), *coded["input_ids"][positions + 1].tolist()] == ids
    windows = coded["input_ids"].view(-1, made.language_model.length)
    assert windows[1:, 0].tolist() == windows[:-1, -1].tolist() and int(coded["special_tokens_mask"].sum()) == 2


def test_long_texts_are_cut_else(folders: dict[str, Path]) -> None:
    made = teacher(folders["causal"], max_tokens=12)
    assert [len(one) for one in said(made, ["log_z"], ["a" * 50, "abc"])["log_z"]] == [11, 2]


# ------------------------------------------------------------------------------------------------ codecs
def logits_of(tokens: int = 5, vocabulary: int = 40) -> Tensor:
    return 2 * torch.randn((tokens, vocabulary), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("proposal", [1.0, 0.6])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_draws_are_unbiased(temperature: float, proposal: float) -> None:
    """The mean of many caches' weights of each token is its probability, within five standard errors."""
    logits, rng = logits_of(), np.random.default_rng(0)
    wanted = (logits / temperature).softmax(dim=1)
    sums = []
    for _ in range(2000):
        found = draw(logits, rng.random((5, 8)), temperature, proposal)
        sums.append(torch.zeros_like(logits).scatter_add(1, found["sampled_ids"], found["sampled_weights"]))
    drawn = torch.stack(sums)
    error = (drawn.mean(0) - wanted).abs()
    assert (error < 5 * drawn.std(0) / 2000**0.5 + 1e-4).all()
    assert (drawn.std(0) > 0).any()


def test_the_divergence_of_topk_falls_with_k_and_is_nothing_for_the_whole_vocabulary() -> None:
    logits = logits_of()
    found = [against_dense(logits, top_k(logits, k, 2.0), 2.0) for k in (1, 4, 16, 40)]
    kl = torch.stack([one["kl"] for one in found])
    assert (kl[:-1] > kl[1:]).all() and kl[-1].abs().max() < 1e-6
    p = (logits / 2).softmax(dim=1).double()
    for k, one in zip((1, 4, 16, 40), found, strict=True):
        kept = p.topk(k).values.sum(1)
        torch.testing.assert_close(one["mass_left_out"], 1 - kept, atol=1e-6, rtol=1e-6)
        slow = [sum(x * (x / ((1 - m) / (40 - k))).log() for x in row.sort().values[: 40 - k])
                for row, m in zip(p, kept, strict=True)] if k < 40 else [torch.zeros(())] * 5  # fmt: skip
        torch.testing.assert_close(one["kl"], torch.stack(slow).double(), atol=1e-5, rtol=1e-5)


def test_storing_in_half_precision_shows_in_the_divergence() -> None:
    logits = logits_of()
    stored = top_k(logits, 40, 1.0)
    half = {**stored, "topk_logits": stored["topk_logits"].half().float()}
    coarse = {**stored, "topk_logits": stored["topk_logits"].bfloat16().float()}
    exact, small, large = (against_dense(logits, one, 1.0)["storing_kl"].abs().max() for one in (stored, half, coarse))
    assert exact < 1e-9 and small > 100 * exact and large > 10 * small


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_half_precision_keeps_the_rest_of_logits_far_from_zero(temperature: float) -> None:
    """As large as GPT-2's: mass of the stored tokens and of the rest, and the divergence that rounding makes."""
    logits = 2.5 * torch.randn((20, 50_257), generator=torch.Generator().manual_seed(0)) - 83
    logits[:, 0] += torch.linspace(0, 35, 20)  # from flat to sure
    stored = top_k(logits, 64, temperature)
    half = {**stored, "topk_logits": stored["topk_logits"].half()}
    kept = (logits.double() / temperature).softmax(dim=1).topk(64).values.sum(dim=1)
    mass = (half["topk_logits"].double() / temperature - half["log_z"].double()[:, None]).exp().sum(dim=1)
    torch.testing.assert_close(mass, kept, atol=1e-3, rtol=0)
    assert kept.min() < 0.3 and kept.max() > 0.9
    assert against_dense(logits, half, temperature)["storing_kl"].abs().max() < 1e-4


# ------------------------------------------------------------------------------------------------ names
def test_sizes_are_known_without_weights() -> None:
    """GPT-2, BERT base (with its head), BART large, as published."""
    wanted = {Gpt2: 124_439_808, Bert: 109_514_298, Bart: 406_291_456}
    for one, count in wanted.items():
        made = one(one.Config())
        assert made.parameters_count() == count
    assert made.signals()["topk_ids"].dtype == "uint16" and made.language_model.vocabulary_size == 50265
    with pytest.raises(UserError, match="gpt2 is not on this machine"):
        made = Gpt2(Gpt2.Config())
        made.load("cpu")


def test_what_is_no_language_model_is_refused(tmp_path: Path, folders: dict[str, Path]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(UserError, match="is a 'vit': name a folder of a causal, masked or encoder-decoder model"):
        teacher(tmp_path)
    with pytest.raises(UserError, match=r"teacher.topk=300: .* has 256 tokens"):
        teacher(folders["causal"], topk=300).signals()


# ------------------------------------------------------------------------------------------------ command line
@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """The root, with data `captions`: 30 texts."""
    words = [("red", "blue"), ("dog", "cat", "bird"), ("a", "bb", "", "d e", "f")]
    lines = [f"{a} {b} {c}" for a in words[0] for b in words[1] for c in words[2]]
    (tmp_path / "captions.txt").write_text("\n".join(lines))
    keys = {"source__name": "text", "source__annotations": str(tmp_path / "captions.txt")}
    prepare_data.run(config_of(prepare_data, **keys), context(tmp_path / "work", "captions"))
    return tmp_path / "work"


def cached(root: Path, folder: Path, name: str, shard: tuple[int, int] | None = None, dry_run: bool = False, **keys: Any
           ) -> dict[str, Any]:  # fmt: skip
    given = {"data": "captions", "teacher__name": "lm", "teacher__weights": str(folder), "teacher__topk": 32,
             "cache__threads": 1, **keys}  # fmt: skip
    return cache_teacher.run(config_of(cache_teacher, **given), context(root, name, shard=shard, dry_run=dry_run))


@pytest.mark.parametrize(("kind", "codec"), [("causal", "topk"), ("masked", "topk"), ("bart", "sampled")])
def test_a_cache_is_verified_and_its_bytes_are_foretold(
    captions: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str], kind: str, codec: str
) -> None:
    keys = {"teacher__codec": codec, "cache__verify": 200}
    dry = cached(captions, folders[kind], "cached", dry_run=True, **keys)
    assert dry["bytes_per_token"] == (2 + 32 * 4 + 4 if codec == "topk" else 2 + 24 * 4)
    document = cached(captions, folders[kind], "cached", **keys)
    checked = document["verify"]["token_distributions"]
    assert checked["rows"] == 30 and checked["control_kl_max"] < 1e-6
    assert 0 < checked["mass_left_out_mean"] < 1 and 0 < checked["kl_mean"] < 3
    assert codec == "sampled" or checked["storing_kl_max"] < 1e-5
    said = capsys.readouterr().err
    assert f"{dry['bytes_per_token']} bytes a token" in said and "kl_mean" in said and "mass_left_out_mean" in said
    cache = open_cache("cached", root=captions)
    rows = cache["target_positions"][:]
    assert checked["tokens"] == len(rows.values)
    values = sum(rows.offsets.diff().tolist()) * dry["bytes_per_token"]
    assert values < document["bytes"] < values + 30 * 8 * len(cache.signals) + 20_000
    assert abs(dry["bytes"] - document["bytes"]) < 20_000


@pytest.mark.parametrize(("signals", "missing"), [
    (("topk_ids", "topk_logits", "log_z"), "target_positions"),
    (("target_positions", "topk_ids", "topk_logits"), "log_z"),
    (("target_positions", "topk_ids", "topk_logits", "log_z", "sampled_ids"), "sampled_weights"),
    (("target_positions",), "topk_ids,topk_logits,log_z"),
])  # fmt: skip
def test_parts_of_a_codec_are_refused_before_the_plan(
    captions: Path, folders: dict[str, Path], signals: tuple[str, ...], missing: str
) -> None:
    with pytest.raises(UserError, match=f"is part of a token distribution: add {missing}, or leave"):
        cached(captions, folders["causal"], "cached", signals=signals, cache__verify=30)
    assert not (captions / "caches").exists()


def test_both_codecs_are_verified(captions: Path, folders: dict[str, Path]) -> None:
    found = {}
    for codecs in (["topk"], ["sampled"], ["topk", "sampled"]):
        signals = ("target_positions", *(name for codec in codecs for name in CODECS[codec]))
        document = cached(captions, folders["causal"], "-".join(codecs), signals=signals, cache__verify=30)
        found["-".join(codecs)] = document["verify"]["token_distributions"]
    both, drawn = found["topk-sampled"], found["sampled"]
    assert both == {**found["topk"], **{f"sampled_{name}": drawn[name] for name in drawn
                                        if name.startswith(("kl_", "mass_"))}}  # fmt: skip
    assert len(both) == len(found["topk"]) + 4


def test_of_many_windows_no_more_than_two_forwards_are_held(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long texts: the numbers of all windows at once, piece by piece."""
    made = teacher(folders["causal"], max_tokens=5, long="window", codec="both", topk=32)
    texts = ["a dog runs over the wet sand and then " * 5, "two cats", "x"]
    batch = {"row": torch.arange(3), "split": "train", **made.tokenize(texts)}
    signals = ["target_positions", *CODECS["topk"], *CODECS["sampled"]]
    stored = {name: torch.cat(values) for name, values in made(batch, signals).items()}
    dense_logits = torch.cat([*made.logits(batch, made.targets(batch))])
    wanted = against_dense(dense_logits, {name: stored[name] for name in CODECS["topk"]}, 1.0)
    drawn = against_dense(dense_logits, {name: stored[name] for name in CODECS["sampled"]}, 1.0)
    alive: list[weakref.ref[Tensor]] = []
    most, real = [], LanguageModelTeacher.logits

    def watched(self: Any, batch: Any, targets: Tensor) -> Iterator[Tensor]:
        for part in real(self, batch, targets):
            alive.append(weakref.ref(part))
            most.append(sum(one() is not None for one in alive))
            yield part
            del part

    monkeypatch.setattr(LanguageModelTeacher, "logits", watched)
    monkeypatch.setattr(language_models, "_COMPARED", 7)
    found = made.divergences(batch, stored)
    assert len(most) > 30 and max(most) <= 3  # one of each of the two, and one that is just being made
    assert len(found["kl"]) == len(dense_logits) and found["control_kl"].abs().max() < 1e-6
    for name, values in wanted.items():
        torch.testing.assert_close(found[name], values, atol=1e-6, rtol=1e-4)
    for name, values in drawn.items():
        torch.testing.assert_close(found[f"sampled_{name}"], values, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("lengths", [(), (3,), (1, 0, 9, 2), (7, 7), (20,)])
def test_pieces_are_the_parts_in_order(lengths: tuple[int, ...]) -> None:
    whole = torch.arange(2.0 * sum(lengths)).view(-1, 2)
    found = [*pieces(whole.split(lengths) if lengths else [], 7)]
    assert torch.equal(torch.cat([whole[:0], *found]), whole)
    assert all(len(piece) == 7 for piece in found[:-1]) and all(0 < len(piece) <= 7 for piece in found)


OTHERS = {"topk": 9, "draws": 7, "proposal": 0.5, "seed": 3, "mask_ratio": 0.5, "max_tokens": 50, "temperature": 2.0}


@pytest.mark.parametrize(("kind", "codec", "deciding"), [
    ("causal", "topk", {"temperature", "topk"}),
    ("causal", "sampled", {"temperature", "draws", "proposal", "seed"}),
    ("masked", "topk", {"temperature", "topk", "seed", "mask_ratio"}),
    ("masked", "both", {"temperature", "topk", "draws", "proposal", "seed", "mask_ratio"}),
])  # fmt: skip
def test_keys_that_change_no_byte_are_not_in_the_request(
    captions: Path, folders: dict[str, Path], kind: str, codec: str, deciding: set[str]
) -> None:
    """Windows of 50 tokens are those of 60: the models have 40 positions. The codec named by --signals alone, too."""
    codecs = list(CODECS) if codec == "both" else [codec]
    signals = ("target_positions", *(name for one in codecs for name in CODECS[one]))

    def request(**keys: Any) -> str:
        given = {f"teacher__{name}": value for name, value in {"topk": 8, "max_tokens": 60, **keys}.items()}
        with patch.object(cache_teacher.Job, "dry_run", lambda job: {"request": job.plan().request}):
            return str(
                cached(captions, folders[kind], "cached", dry_run=True, **{"signals": signals, **given})["request"]
            )

    first = request()
    assert first == request(codec=codec)
    assert {name for name, value in OTHERS.items() if request(**{name: value}) != first} == deciding


@pytest.mark.parametrize("long", ["cut", "window"])
@pytest.mark.parametrize(("change", "message"), [
    ("short", "windows of 2 tokens have no room beside the 2 special ones: set teacher.max_tokens=3 or more"),
    ("unmasked", "has no mask token, which a masked model needs"),
    ("slow", "is not of the library tokenizers, which cuts a masked model's windows: set teacher.long=cut"),
])  # fmt: skip
def test_what_a_masked_model_cannot_read_is_refused_before_the_plan(
    captions: Path, tmp_path: Path, long: str, change: str, message: str
) -> None:
    folder = tiny_language_model(tmp_path / "masked", "masked")
    if change == "unmasked":
        byte_tokenizer(folder, ends=True)
    if change == "slow":
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PerceiverTokenizer"}')
        assert not AutoTokenizer.from_pretrained(folder).is_fast
    keys = {"teacher__max_tokens": 2 if change == "short" else 36, "teacher__long": long}
    if change == "slow" and long == "cut":
        assert cached(captions, folder, "cached", dry_run=True, **keys)["rows"] == 30
        return
    with pytest.raises(UserError, match=message):
        cached(captions, folder, "cached", **keys)
    assert not (captions / "caches").exists()


def test_cached_by_the_command_line(captions: Path, mmkd: Run, folders: dict[str, Path]) -> None:
    words = ("cache-teacher", "--teacher", "lm", "--weights", folders["causal"], "--data", "captions", "--topk", 32,
             "--verify", 200)  # fmt: skip
    document = json.loads(mmkd(*words, "--json").stdout)
    assert document["status"] == "done" and document["verify"]["token_distributions"]["rows"] == 30
    assert open_cache(document["name"], root=captions)["topk_ids"][0].shape[1] == 32


def test_a_shards_bytes_do_not_depend_on_who_computes_it(captions: Path, folders: dict[str, Path]) -> None:
    keys = {"teacher__codec": "sampled", "cache__rows_per_shard": 8, "cache__batch_size": 4}
    cached(captions, folders["masked"], "one", **keys)
    for share in (1, 0):
        cached(captions, folders["masked"], "two", shard=(share, 2), **keys)
    for number in range(4):
        files = [captions / "caches" / name / "train" / f"texts-{number:05d}.safetensors" for name in ("one", "two")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_verify_refuses_positions_that_are_not_the_teachers(folders: dict[str, Path]) -> None:
    made = teacher(folders["masked"])
    batch = {"row": torch.arange(5), "split": "train", **made.tokenize(TEXTS)}
    stored = {name: torch.cat(value) for name, value in made(batch, ["target_positions", "topk_ids"]).items()}
    stored["target_positions"] += 1
    with pytest.raises(Refused, match="not those of its teacher"):
        made.divergences(batch, stored)
