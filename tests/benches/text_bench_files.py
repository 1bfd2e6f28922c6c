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


def house(folder: Path) -> str:
    """A row of viewpoints a0 to a3, two metres apart, and one that is no part of the graph."""
    names = ["a0", "a1", "out", "a2", "a3"]
    x = [0, 2, 3, 4, 6]
    reach = {(0, 1), (1, 0), (1, 3), (3, 1), (3, 4), (4, 3), (0, 2), (2, 0)}
    rows = [
        {
            "image_id": name, "included": name != "out", "visible": [True] * 5, "height": 1.5,
            "pose": [1, 0, 0, x[k], 0, 1, 0, 1, 0, 0, 1, 1.5, 0, 0, 0, 1],
            "unobstructed": [(k, other) in reach for other in range(5)],
        }
        for k, name in enumerate(names)
    ]  # fmt: skip
    write(folder / "connectivity/A_connectivity.json", rows)
    return str(folder / "connectivity")


PATH = ["a0", "a1", "a2", "a3"]


def r2r(folder: Path) -> Files:
    """Two paths of three instructions in one house; one is walked, the other not begun."""
    rows = [{"scan": "A", "path_id": 7 + n, "path": PATH, "heading": 0.5, "distance": 6.0,
             "instructions": [f"walk <b> {k}" for k in range(3)]} for n in range(2)]  # fmt: skip
    said = [{"instr_id": f"{7 + n}_{k}", "trajectory": [[name, 0.0, 0.1] for name in PATH[: 4 - 3 * n]]}
            for n in range(2) for k in range(3)]  # fmt: skip
    write(folder / "walks.json", said[::-1])
    return {"annotations": write(folder / "R2R_val_unseen.json", rows), "connectivity": house(folder)}, (
        folder / "walks.json"
    )


def rxr(folder: Path) -> Files:
    """RxR's guide annotations in two languages, and paths."""
    rows = [json.dumps({"split": "val_unseen", "instruction_id": n, "language": "en-IN" if n < 3 else "hi-IN",
                        "path_id": n // 2, "scan": "A", "path": PATH, "heading": 0.1, "instruction": f"go {n}"})
            for n in range(6)]  # fmt: skip
    write(folder / "walks.json", [{"instruction_id": n, "path": PATH[: 2 + n % 3]} for n in range(6)])
    keys = {"annotations": write(folder / "rxr_val_unseen_guide.jsonl", "\n".join(rows))}
    return {**keys, "connectivity": house(folder)}, folder / "walks.json"


def gqa(folder: Path) -> Files:
    """Six balanced questions of GQA's and one that is not; the predictions answer all."""
    answers = ["yes", "no", "red", "table", "left", "left"]
    rows: dict[str, Any] = {
        f"0{n}": {
            "question": f"is <it> {n}?", "imageId": f"n{n // 2}", "answer": answer, "fullAnswer": f"{answer}.",
            "isBalanced": True,
            "types": {"structural": "verify" if n < 2 else "query", "semantic": "obj", "detailed": "x"},
        }
        for n, answer in enumerate(answers)
    }  # fmt: skip
    rows["99"] = {**rows["00"], "isBalanced": False}
    write(folder / "said.json", [{"questionId": one, "prediction": "left" if one > "03" else "Yes"} for one in rows])
    return {"annotations": write(folder / "val_balanced_questions.json", rows)}, folder / "said.json"


def snli_ve(folder: Path) -> Files:
    """SNLI-VE's lines, each spelling of the photo's field, and a pair without a label."""
    labels = ["entailment", "neutral", "contradiction", "entailment", "neutral", "entailment", "-"]
    named = [{"Flickr30K_ID": 12}, {"Flikr30kID": "12.jpg"}, {}]
    rows = [
        json.dumps({"pairID": f"12.jpg#{n}r1e", "gold_label": label, "sentence1": "A dog.", "sentence2": f"A <b> {n}.",
                    **named[n % 3]})
        for n, label in enumerate(labels)
    ]  # fmt: skip
    said = [json.dumps({"pairID": f"12.jpg#{n}r1e", "label": "entailment"}) for n in range(6)]
    write(folder / "said.jsonl", "\n".join(said))
    return {"annotations": write(folder / "snli_ve_dev.jsonl", "\n".join(rows))}, folder / "said.jsonl"


def nlvr2(folder: Path) -> Files:
    """Three pairs of pictures for each of two sentences; one answer of the first sentence is wrong."""
    rows = [json.dumps({"identifier": f"dev-{s}-{pair}-{s}", "sentence": f"Sentence <{s}>.", "label": str(pair > 0)})
            for s in range(2) for pair in range(3)]  # fmt: skip
    said = [
        f"dev-{s}-{pair}-{s},{str(pair > 0 and (s, pair) != (0, 2)).lower()}" for s in range(2) for pair in range(3)
    ]
    write(folder / "said.csv", "\n".join(said))
    return {"annotations": write(folder / "dev.json", "\n".join(rows))}, folder / "said.csv"


def nlvr(folder: Path) -> Files:
    """The same of NLVR's identifiers, as a list."""
    rows = [{"identifier": f"{10 + s}-{k}", "sentence": f"There is <{s}>.", "label": str(k > 0).lower()}
            for s in range(2) for k in range(3)]  # fmt: skip
    write(folder / "said.csv", "\n".join(f"{row['identifier']},{row['label']}" for row in rows))
    return {"annotations": write(folder / "dev.json", rows)}, folder / "said.csv"


def daquar(folder: Path) -> Files:
    """Questions and answers in turn; one photo's are not on the list."""
    answers = ["table", "chair", "2", "red, white", "cup", "sofa", "door"]
    lines = [f"what is <it> in the image{n} ?\n{answer}" for n, answer in enumerate(answers)]
    write(folder / "said.txt", "\n".join(["table", "sofa", "2", "white, red", "red", "sofa"]))
    keys = {"photos": write(folder / "test_images_list.txt", "\n".join(f"image{n}" for n in range(6)))}
    return {**keys, "annotations": write(folder / "qa.txt", "\n".join(lines) + "\n")}, folder / "said.txt"


MAKERS = {
    "gqa": gqa,
    "snli-ve": snli_ve,
    "nlvr2": nlvr2,
    "nlvr": nlvr,
    "daquar": daquar,
    "coco-caption": coco_caption,
    "nocaps": coco_caption,
    "flickr8k-caption": flickr8k_caption,
    "vqav2": vqa,
    "okvqa": vqa,
    "xsum": summaries,
    "cnn-dailymail": summaries,
    "yelp": yelp,
    "r2r": r2r,
    "rxr": rxr,
}
"""Bench -> files of six items."""
