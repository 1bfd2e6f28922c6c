"""What a BART knows of texts about scenes that it never read, with no picture.

    python text_kept.py --model FOLDER --out FILE

Texts are of the validation split of the built-in world (seed 0): captions of which 30 % are masked, in nats a token;
and questions in the form of `mmkd generate`, percent answered as the scene has it, by answer type: behind the captions
that name all objects and their places, and with no caption.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, BartForConditionalGeneration

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tiny"))
from bart import infilling_loss
from scene_texts import caption

from mmkd_cli import scenes
from mmkd_cli.architectures.generation import GenerationConfig
from mmkd_cli.architectures.writer import Asked, Writer
from mmkd_cli.tasks.vqa import Vqa, VqaConfig

OBJECTS, PLACES = 1, 3
"""Captions of a scene."""
ALIKE = 100
"""Questions that are answered at once."""


def right(writer: Writer, count: int, *, behind: bool) -> dict[str, float]:
    """Percent by answer type, of the questions of `count` scenes."""
    task, how = Vqa(VqaConfig()), GenerationConfig(num_beams=1, max_new_tokens=10)
    found: dict[str, list[bool]] = defaultdict(list)
    asked, true = [], []
    for index in range(count):
        scene = scenes.scene(0, index, "val")
        every = scenes.captions(scene)
        told = f"{every[OBJECTS]}. {every[PLACES]}. " if behind else ""
        for question in scenes.questions(scene):
            item = task.one(question.text)
            asked.append(Asked(told + item.source, item.prefix, ""))
            true.append((item, question))
    for (item, question), written in zip(true, writer(asked, how, batch_size=ALIKE), strict=True):
        found[question.answer_type].append(task.text_of(item, written) == question.answer)
    return {kind: 100 * sum(values) / len(values) for kind, values in sorted(found.items(), reverse=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--items", type=int, default=1000, help="captions, and questions")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.out.is_file():
        return
    torch.set_num_threads(1)
    model: Any = BartForConditionalGeneration.from_pretrained(arguments.model).float().eval()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    read = [caption(0, index, "val") for index in range(arguments.items)]
    found = {"infilling, nats a token": infilling_loss(model, tokenizer, read)}
    for title, behind in (("behind captions", True), ("with none", False)):
        every = right(Writer(model, tokenizer), arguments.items // scenes.QUESTIONS, behind=behind)
        found |= {f"{kind} {title}, % right": value for kind, value in every.items()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
