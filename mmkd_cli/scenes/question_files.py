"""Questions of the built-in world as files in VQA v2's layout, pictures beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from mmkd_cli.scenes.drawing import draw
from mmkd_cli.scenes.questions import QUESTIONS, questions
from mmkd_cli.scenes.world import scene

SIDE = 64
"""Of a picture, in pixels."""


def write(folder: Path, split: str, rows: int, *, seed: int = 0) -> None:
    """SPLIT_questions.json, SPLIT_annotations.json and images/ of the first rows of a split."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    asked: list[dict[str, Any]] = []
    answered: list[dict[str, Any]] = []
    for row in range(rows):
        picture, name = scene(seed, row, split), f"{split}-{row:06d}"
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
