"""Small official files of the benches that score written texts: six items, references, and a result file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from mmkd_cli.scenes.captions import captions
from mmkd_cli.scenes.drawing import draw
from mmkd_cli.scenes.world import scene

ITEMS = 6
DOMAINS = ["in-domain", "in-domain", "near-domain", "near-domain", "near-domain", "out-domain"]
SUMMARIES = [
    "The cat sat.\nIt was glad.",
    "Rain fell in May",
    "Two men met",
    "a b c d e",
    "Prices rose again",
    "Nobody came",
]
ANSWERS = [
    ("yes/no", "is the", "yes", ["yes"] * 10),
    ("yes/no", "is there", "No.", ["no"] * 8 + ["yes"] * 2),
    ("number", "how many", "two", ["2"] * 3 + ["3"] * 7),
    ("other", "what color", "the blue-green", ["blue green", "blue", *["green"] * 8]),
    ("other", "what color", "dont know", ["don't know"] * 5 + ["red"] * 5),
    ("other", "what is", "", ["dog"] * 6 + ["cat"] * 4),
]
"""Answer type, question type, what was predicted, what ten people said."""
ACCURACIES = [1, 1, 0.9, 0.3, 1, 0]

Files = tuple[dict[str, Any], Path]
"""The bench's keys, and the result file."""


def write(path: Path, value: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    return str(path)


def draw_pictures(folder: Path, names: list[str]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.fromarray(draw(scene(0, number, "train"))).save(folder / name)
    return str(folder)


def coco_caption(folder: Path) -> Files:
    """COCO's layout; the first caption of each scene is the one that is scored."""
    every = [captions(scene(0, number, "train")) for number in range(ITEMS)]
    images = [{"id": 10 + n, "file_name": f"{n:04d}.png", "domain": DOMAINS[n]} for n in range(ITEMS)]
    annotations = [
        {"id": 100 * n + k, "image_id": 10 + n, "caption": caption}
        for n, own in enumerate(every)
        for k, caption in enumerate(own[1:])
    ]
    results = [{"image_id": 10 + n, "caption": own[0]} for n, own in enumerate(every)]
    keys = {"annotations": write(folder / "captions_val2017.json", {"images": images, "annotations": annotations})}
    write(folder / "results.json", results[::-1])
    return keys, folder / "results.json"


def flickr8k_caption(folder: Path) -> Files:
    """Karpathy's layout: the six of split test among others."""
    images = [
        {
            "filename": f"{n}.jpg",
            "split": "test" if n < ITEMS else "train",
            "sentences": [{"raw": caption, "sentid": n} for caption in captions(scene(0, n, "train"))],
        }
        for n in range(ITEMS + 2)
    ]
    results = [{"image_id": str(n), "caption": "a red square"} for n in range(ITEMS)]
    write(folder / "results.json", results)
    return {"annotations": write(folder / "dataset_flickr8k.json", {"images": images})}, folder / "results.json"


def vqa(folder: Path) -> Files:
    """VQA v2's layout; two questions a picture."""
    rows = [
        {
            "question_id": 1000 + n,
            "image_id": n // 2,
            "answer_type": kind,
            "question_type": question,
            "multiple_choice_answer": max(set(people), key=people.count),
            "answers": [
                {"answer": answer, "answer_confidence": "yes", "answer_id": k} for k, answer in enumerate(people)
            ],
        }
        for n, (kind, question, _, people) in enumerate(ANSWERS)
    ]
    asked = [{"question_id": 1000 + n, "image_id": n // 2, "question": f"{a[1]} <it>?"} for n, a in enumerate(ANSWERS)]
    write(folder / "results.json", [{"question_id": 1000 + n, "answer": a[2]} for n, a in enumerate(ANSWERS)])
    keys = {
        "annotations": write(folder / "v2_mscoco_val2014_annotations.json",
                             {"annotations": rows, "data_subtype": "val2014"}),
        "questions": write(folder / "v2_OpenEnded_mscoco_val2014_questions.json", {"questions": asked}),
    }  # fmt: skip
    return keys, folder / "results.json"


def summaries(folder: Path) -> Files:
    """JSON lines with ids, in different orders."""
    true = [json.dumps({"id": f"n{n}", "summary": text}) for n, text in enumerate(SUMMARIES)]
    said = [json.dumps({"id": f"n{n}", "summary": text.replace("a", "the")}) for n, text in enumerate(SUMMARIES)]
    write(folder / "said.jsonl", "\n".join(said[::-1]))
    return {"annotations": write(folder / "test.jsonl", "\n".join(true))}, folder / "said.jsonl"


def yelp(folder: Path) -> Files:
    """Lines: the source, a tab, and its references."""
    lines = [f"source {n}\t{text}\t{text} indeed" for n, text in enumerate(t.replace("\n", " ") for t in SUMMARIES)]
    write(folder / "said.txt", "".join(f"{text} indeed\n".replace("\n", " ", text.count("\n")) for text in SUMMARIES))
    return {"annotations": write(folder / "reference.0", "\n".join(lines))}, folder / "said.txt"


MAKERS = {
    "coco-caption": coco_caption,
    "nocaps": coco_caption,
    "flickr8k-caption": flickr8k_caption,
    "vqav2": vqa,
    "okvqa": vqa,
    "xsum": summaries,
    "cnn-dailymail": summaries,
    "yelp": yelp,
}
"""Bench -> files of six items."""
