"""Questions of the built-in world in VQA v2's layout, hypotheses in SNLI-VE's, and pictures beside them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mmkd_cli.scenes.captions import captions
from mmkd_cli.scenes.drawing import draw
from mmkd_cli.scenes.hypotheses import GROUP, Hypothesis, hypotheses
from mmkd_cli.scenes.questions import QUESTIONS, questions
from mmkd_cli.scenes.world import scene

SIDE = 64
"""Of a picture, in pixels."""


CAPTIONS = 5
"""Of a picture."""
PEOPLE = 5
"""Who judge a pair of SNLI-VE."""


def picture_name(row: int, split: str) -> str:
    """Of a row of a split, without a suffix."""
    return f"{split}-{row:06d}"


def pair_ids(found: Sequence[Hypothesis], split: str) -> list[str]:
    """SNLI's pairID of each hypothesis: its photo's caption, which of that caption's it is, and its label's letter."""
    times, ids = Counter[int](), []
    for one in found:
        turn, caption = divmod(times[one.row], CAPTIONS)
        ids.append(f"{picture_name(one.row, split)}.jpg#{caption}r{turn + 1}{one.label[0]}")
        times[one.row] += 1
    return ids


def write(folder: Path, split: str, rows: int, *, seed: int = 0) -> None:
    """SPLIT_questions.json, SPLIT_annotations.json and images/ of the first rows of a split; of whole groups of them
    also snli_ve_SPLIT.jsonl."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    asked: list[dict[str, Any]] = []
    answered: list[dict[str, Any]] = []
    for row in range(rows):
        picture, name = scene(seed, row, split), picture_name(row, split)
        Image.fromarray(draw(picture, SIDE)).save(folder / "images" / f"{name}.png")
        for number, one in enumerate(questions(picture), row * QUESTIONS):
            ids = {"question_id": number, "image_id": name}
            people = [{"answer": text, "answer_confidence": "yes", "answer_id": place}
                      for place, text in enumerate(one.answers, 1)]  # fmt: skip
            asked.append({**ids, "question": one.text})
            answered.append({**ids, "question_type": one.question_type, "answer_type": one.answer_type,
                             "multiple_choice_answer": one.answer, "answers": people})  # fmt: skip
    for kind, found in (("questions", asked), ("annotations", answered)):
        text = json.dumps({"data_subtype": split, "data_type": "scenes", kind: found})
        (folder / f"{split}_{kind}.json").write_text(text, encoding="utf-8")
    lines = [json.dumps(pair) for group in range(rows // GROUP) for pair in _pairs(seed, group, split)]
    if lines:
        official = "dev" if split == "val" else split
        (folder / f"snli_ve_{official}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _pairs(seed: int, group: int, split: str) -> Iterator[dict[str, Any]]:
    """A group's hypotheses as SNLI-VE's records, but for the parses; sentence1 is a caption of the picture."""
    found = hypotheses(seed, group, split)
    for one, pair in zip(found, pair_ids(found, split), strict=True):
        caption = re.sub(r"r\d+.$", "", pair)
        said = captions(scene(seed, one.row, split))[int(caption[-1])]
        yield {"annotator_labels": [one.label] * PEOPLE, "captionID": caption, "gold_label": one.label, "pairID": pair,
               "sentence1": said, "sentence2": one.text, "Flickr30K_ID": picture_name(one.row, split)}  # fmt: skip
