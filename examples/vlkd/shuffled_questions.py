"""Questions each about a picture that is not its own, in VQA v2's layout: what a model answers that looks in vain.

python shuffled_questions.py --data world --split test --out FILE
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from mmkd_cli.core.paths import default_root
from mmkd_cli.data.prepared import open_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=default_root())
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data = open_data(arguments.root, arguments.data)
    images, asked = list(data.table("images", arguments.split)["image_id"]), data.table("questions", arguments.split)
    order = np.random.default_rng(arguments.seed).permutation(len(images))
    other = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))  # one cycle: no picture stays
    columns = zip(asked["question_id"], asked["question"], asked["image_row"], strict=True)
    rows = [{"question_id": one, "question": text, "image_id": images[other[row]]} for one, text, row in columns]
    arguments.out.write_text(json.dumps({"questions": rows}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
