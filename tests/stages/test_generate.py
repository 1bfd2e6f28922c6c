"""`generate`: official files, the same texts however the work is cut, one picture, one prompt; then `evaluate`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.modeling_outputs import BaseModelOutput

from mmkd_cli.architectures.generation import GenerationConfig
from mmkd_cli.architectures.writer import Asked, Writer
from mmkd_cli.cache.reader import open_cache
from mmkd_cli.core import artifacts
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.stages import evaluate, generate
from mmkd_cli.students.bart import Bart
from tests.architectures.tiny_bart import tiny_bart, tiny_gpt2
from tests.stages.small_chain import config_of, context
from tests.stages.vlkd_chain import make_vlkd_chain, taught


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writing")
    make_vlkd_chain(folder)
    taught(folder, "seeing", train__max_steps=2)
    tiny_gpt2(folder / "gpt2")
    return folder


@pytest.fixture
def folder(chain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(chain, tmp_path / "chain"))


def wrote(folder: Path, name: str | None, dry_run: bool = False, **keys: Any) -> dict[str, Any]:
    found = config_of(generate, **{"task__name": "caption", "split": "train", **keys})
    return generate.run(found, context(folder / "work", name, dry_run=dry_run))


def rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    text = Path(document["predictions"]).read_text()
    return json.loads(text) if document["predictions"].endswith(".json") else [*map(json.loads, text.splitlines())]


def test_captions_are_those_of_transformers_a_picture_at_a_time(chain: Path) -> None:
    """Beam 5 by transformers' `generate` on each picture alone, the memory built by hand."""
    found = wrote(chain, "captions")
    assert found["rows"] == 32 and found["skipped"] == 0
    run = chain / "work/runs/seeing"
    student = Bart.load(run, {"student": {"name": "bart", "max_tokens": 48}})
    bart = AutoModelForSeq2SeqLM.from_pretrained(run / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    prompt = tokenizer(["<mask>"], return_tensors="pt")["input_ids"]
    vectors = open_cache("clip", root=chain / "work", split="train")["image_embedding"][list(range(32))].float()
    slow = []
    with torch.no_grad():
        states = bart.model.encoder(input_ids=prompt).last_hidden_state
        for vector in vectors:
            seen = student.image_map(24**0.5 * F.normalize(vector, dim=0))[None, None]
            memory = BaseModelOutput(last_hidden_state=torch.cat([seen, states], dim=1))
            ids = bart.generate(encoder_outputs=memory, attention_mask=torch.ones(1, 1 + prompt.shape[1]), num_beams=5,
                                max_new_tokens=20, do_sample=False)  # fmt: skip
            slow.append(" ".join(tokenizer.decode(ids[0], skip_special_tokens=True).split()))
    assert [row["caption"] for row in rows(found)] == slow
    assert [row["image_id"] for row in rows(found)] == [f"0-{number:03d}" for number in range(32)]
    assert len({*slow}) > 1


def test_the_same_texts_in_one_batch_or_many_and_after_a_kill(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"generation__num_beams": 2, "generation__max_new_tokens": 6}
    whole = wrote(folder, "whole", batch_size=64, **keys)
    assert wrote(folder, "whole", **keys)["status"] == "already done"
    real, calls = Writer.__call__, []

    def dies(self: Writer, *given: Any, **more: Any) -> list[str]:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, *given, **more)

    monkeypatch.setattr(Writer, "__call__", dies)
    with pytest.raises(KeyboardInterrupt):
        wrote(folder, "cut", batch_size=3, rows_per_range=10, **keys)
    kept = sorted((folder / "work/results/cut/parts").glob("*.jsonl"))
    assert [path.name for path in kept] == ["00000.jsonl", "00001.jsonl"]
    times = [path.stat().st_mtime_ns for path in kept]
    monkeypatch.setattr(artifacts, "finish", lambda *given, **more: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        wrote(folder, "cut", batch_size=3, rows_per_range=10, **keys)
    assert [path.stat().st_mtime_ns for path in kept] == times
    monkeypatch.undo()
    cut = wrote(folder, "cut", batch_size=3, rows_per_range=10, **keys)
    assert Path(cut["predictions"]).read_bytes() == Path(whole["predictions"]).read_bytes()
    assert not (folder / "work/results/cut/parts").exists()
    page = (folder / "work/results/cut/report.html").read_text()
    assert page.count("<img") >= 20 and "square" in page  # pictures, and people's captions beside
    assert artifacts.open_artifact(folder / "work", "cut", "result").check() == {}
    with pytest.raises(Refused, match="num_beams was 2, the command says 3"):
        wrote(folder, "cut", generation__num_beams=3, generation__max_new_tokens=6)
    (folder / "work/results/cut/captions.json").unlink()
    assert wrote(folder, "cut", **keys)["status"] == "repaired"


def test_draws_belong_to_a_text_and_the_seed(folder: Path) -> None:
    keys = {"generation__do_sample": True, "generation__num_beams": 1, "generation__max_new_tokens": 6}
    one = wrote(folder, "one", batch_size=64, **keys)
    many = wrote(folder, "several", batch_size=5, rows_per_range=7, **keys)
    other = wrote(folder, "other", seed=1, **keys)
    assert rows(one) == rows(many) != rows(other)
    greedy = wrote(folder, "greedy", **{**keys, "generation__top_k": 1})
    plain = wrote(folder, "plain", **{**keys, "generation__do_sample": False})
    assert rows(greedy) == rows(plain)
    with pytest.raises(UserError, match="draws texts, a search of several beams does not"):
        wrote(folder, "both", **{**keys, "generation__num_beams": 2})
    assert not (folder / "work/results/both").exists()


def test_captions_are_scored_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrote(folder, "official", generation__num_beams=1, split="val")
    keys = {"bench__name": "flickr8k-caption", "bench__annotations": str(folder / "squares/annotations.json"),
            "bench__tokenizer": "mmkd", "bench__bootstrap": 0, "split": "val"}  # fmt: skip
    named = evaluate.run(config_of(evaluate, predictions="official", **keys), context(folder / "work", "scores"))
    assert named["counts"]["items"] == 8 and named["model"]["name"] == "official"
    file = str(folder / "work/results/official/captions.json")
    again = evaluate.run(config_of(evaluate, predictions=file, **keys), context(folder / "work", "scores"))
    assert again == named and "already done" in capsys.readouterr().err
    made = artifacts.open_artifact(folder / "work", "scores", "result")
    assert [(i.role, i.name) for i in made.inputs] == [("predictions", "official")]
    assert named["zero_shot"]["value"] is False and "the very data that is scored" in named["zero_shot"]["reason"]
    with pytest.raises(UserError, match="is of `mmkd evaluate`"):
        evaluate.run(config_of(evaluate, predictions="scores", **keys), context(folder / "work"))


# ------------------------------------------------------------------------------------------------ answers
def test_answers_to_official_questions(folder: Path) -> None:
    asked = [{"question_id": 10 + n, "image_id": f"0-{n % 3:03d}", "question": q}
             for n, q in enumerate(["What colour?", "How big is the square?", "Is it red?", "What?"])]  # fmt: skip
    (folder / "questions.json").write_text(json.dumps({"questions": asked}))
    keys = {"task__name": "vqa", "task__questions": str(folder / "questions.json"), "generation__num_beams": 2}
    found = wrote(folder, "answers", **keys)
    assert [row["question_id"] for row in rows(found)] == [10, 11, 12, 13] and {"answer"} < rows(found)[0].keys()
    single = wrote(folder, "single", batch_size=1, **keys)
    assert rows(single) == rows(found)
    predictions = folder / "work/results/answers/predictions.jsonl"
    lines = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert [line["image_row"] for line in lines] == [0, 1, 2, 0] and lines[1]["asked"] == "How big is the square?"
    asked[2]["image_id"] = "elsewhere"
    (folder / "questions.json").write_text(json.dumps({"questions": asked}))
    with pytest.raises(UserError, match="question 12 is about image elsewhere, which the split does not hold"):
        wrote(folder, "lost", **keys)
    with pytest.raises(UserError, match="no table 'questions'"):
        wrote(folder, "none", task__name="vqa")


# ------------------------------------------------------------------------------------------------ single texts
def test_one_picture_with_the_live_teacher(folder: Path) -> None:
    """Nothing is prepared: its cache and data may be gone; nothing is written."""
    said = wrote(folder, "captions", split="train")
    picture = folder / "squares" / "0-003.jpg"
    shutil.rmtree(folder / "work/caches")
    before = sorted((folder / "work").rglob("*"))
    one = generate.run(config_of(generate, task__name="caption", image=str(picture)), context(folder / "work"))
    assert one["text"] == rows(said)[3]["caption"] and one["generated_text"] == one["text"]
    keys = {"task__name": "vqa", "image": str(picture)}
    answer = generate.run(config_of(generate, question="What colour?", **keys), context(folder / "work"))
    assert isinstance(answer["text"], str) and answer["prompt"] == "What colour?"
    assert [path for path in sorted((folder / "work").rglob("*")) if ".hashes" not in path.name] == [
        path for path in before if ".hashes" not in path.name
    ]
    wrong = {"--question is needed beside --image": {}, "--prompt: the task 'vqa' takes": {"prompt": "a"},
             "a single text needs no data": {"question": "a", "data": "squares"}}  # fmt: skip
    for message, more in wrong.items():
        with pytest.raises(UserError, match=message):
            generate.run(config_of(generate, **keys, **more), context(folder / "work"))


@pytest.mark.parametrize("kind", ["gpt2", "bart"])
def test_a_prompt_is_written_on_as_transformers_does(chain: Path, kind: str) -> None:
    place = chain / kind
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = (AutoModelForCausalLM if kind == "gpt2" else AutoModelForSeq2SeqLM).from_pretrained(place).eval()
    inputs = tokenizer("A dog", return_tensors="pt")
    ids = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=False,
                         max_new_tokens=20)[0]  # fmt: skip
    said = wrote(chain, None, task__name="text", model=f"hf:{place}", prompt="A dog", split=None,
                 generation__do_sample=False, generation__max_new_tokens=20)  # fmt: skip
    assert said["generated_text"].strip() == tokenizer.decode(ids, skip_special_tokens=True).strip() != "A dog"


def test_texts_of_a_data_set_by_a_causal_model(chain: Path) -> None:
    keys = {"task__name": "text", "model": f"hf:{chain / 'gpt2'}", "data": "squares", "split": "val",
            "generation__max_new_tokens": 5}  # fmt: skip
    many, single = wrote(chain, "many", batch_size=4, **keys), wrote(chain, "single", batch_size=1, **keys)
    assert rows(many) == rows(single) and len(rows(many)) == 16 and {"id", "text"} == rows(many)[0].keys()
    with pytest.raises(UserError, match="sees no pictures"):
        wrote(chain, None, model=f"hf:{chain / 'gpt2'}")


def test_what_writes_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["BertForMaskedLM"]}')
    with pytest.raises(UserError, match="a BertForMaskedLM, which fills masks and writes no texts"):
        Writer.open(tmp_path, "cpu")
    (tmp_path / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(UserError, match="is no model of transformers"):
        Writer.open(tmp_path, "cpu")
    with pytest.raises(UserError, match="writes nothing: name a run of vlkd"):
        generate.run(config_of(generate, task__name="text", model="timm:vit", prompt="a"), context(tmp_path / "work"))


def test_a_dry_run_says_rows_and_seconds(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    said = wrote(folder, "dry", dry_run=True, generation__num_beams=1, batch_size=8)
    assert said["rows"] == 32 and said["seconds"] > 0 and sorted(folder.rglob("*")) == before


def test_rejected_rows_are_left_out_when_told(folder: Path) -> None:
    manifest = folder / "work/data/squares/manifest.json"
    document = json.loads(manifest.read_text())
    document["rejected"] = [{"split": "train", "table": "images", "row": 4, "id": "0-004", "reason": "torn"}]
    manifest.write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"1 rows of the data were rejected.*say --allow-rejected"):
        wrote(folder, "some", generation__num_beams=1)
    found = wrote(folder, "some", generation__num_beams=1, allow_rejected=True)
    assert found["rows"] == 31 and found["skipped"] == 1
    assert "0-004" not in {row["image_id"] for row in rows(found)}


def test_bart_of_another_seed_writes_otherwise(tmp_path: Path) -> None:
    """The tests above compare texts: they must not be all alike."""
    texts = set()
    for seed in range(3):
        writer = Writer.open(tiny_bart(tmp_path / str(seed), seed), "cpu")
        texts |= {*writer([Asked("a dog", "", "0")], GenerationConfig(max_new_tokens=8), batch_size=1)}
    assert len(texts) > 1
