"""Captions without a captioner, as COCO result files: what a model that writes must beat.

    python caption_baselines.py --data flickr8k --cache joint --split val --out FOLDER

constant.json: for every picture the one of 1,000 training captions that is most like the others. nearest.json: the
first caption of the training picture whose cached vector has the highest cosine. consensus.json: of the captions of
the 30 nearest training pictures the one most like the others (Devlin et al. 2015, arXiv 1505.04467, section 3.3, with
CIDEr-D for likeness). With --shuffle FILE, shuffled.json: that result file with each caption at another picture.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mmkd_cli.cache.reader import open_cache
from mmkd_cli.core.paths import default_root
from mmkd_cli.data.prepared import open_data
from mmkd_cli.metrics.cider import CiderD
from mmkd_cli.metrics.ptb_tokenizer import tokenize

NEIGHBOURS = 30


def most_alike(pools: Sequence[Sequence[str]], asked: int) -> list[int]:
    """Of the first pools of tokenised captions the place of the one most like all of its pool; all count words."""
    scorer = CiderD(pools)
    return [int(scorer.score(pool, [place] * len(pool)).argmax()) for place, pool in enumerate(pools[:asked])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=default_root())
    parser.add_argument("--data", required=True)
    parser.add_argument("--cache", required=True, help="of the pictures' vectors")
    parser.add_argument("--signal", default="image_embedding")
    parser.add_argument("--split", default="val")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shuffle", type=Path, help="a result file of this split")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data = open_data(arguments.root, arguments.data)
    ids = list(data.table("images", arguments.split)["image_id"])

    def write(name: str, captions: Sequence[str]) -> None:
        rows = [{"image_id": one, "caption": caption} for one, caption in zip(ids, captions, strict=True)]
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")

    if arguments.shuffle is not None:
        written = {row["image_id"]: row["caption"] for row in json.loads(arguments.shuffle.read_text(encoding="utf-8"))}
        order = np.random.default_rng(arguments.seed).permutation(len(ids))
        turned = dict(zip(order, np.roll(order, 1), strict=True))  # one cycle: no picture keeps its caption
        write("shuffled", [written[ids[turned[place]]] for place in range(len(ids))])
        return

    texts = data.table("texts", "train")
    captions: list[list[str]] = [[] for _ in range(len(data.table("images", "train")))]
    for text, row in zip(texts["text"], texts["image_row"], strict=True):
        captions[row].append(text)
    flat = [text for own in captions for text in own]
    tokens = tokenize({"": flat})[""]
    first = np.cumsum([0, *map(len, captions)])
    cache = open_cache(arguments.cache, root=arguments.root)
    seen, asked = (
        F.normalize(cache.of_split(split)[arguments.signal][:].float(), dim=-1) for split in ("train", arguments.split)
    )
    nearest = torch.topk(asked @ seen.T, min(NEIGHBOURS, len(seen)), dim=1).indices.tolist()

    sample = np.random.default_rng(arguments.seed).choice(len(flat), min(len(flat), 1000), replace=False)
    own = [tokens[begin:end] for begin, end in pairwise(first)]
    constant = flat[sample[most_alike([[tokens[place] for place in sample], *own], 1)[0]]]
    write("constant", [constant] * len(ids))
    write("nearest", [captions[rows[0]][0] for rows in nearest])
    pools = [[place for row in rows for place in range(first[row], first[row + 1])] for rows in nearest]
    chosen = most_alike([[tokens[place] for place in pool] for pool in pools], len(pools))
    write("consensus", [flat[pool[place]] for pool, place in zip(pools, chosen, strict=True)])


if __name__ == "__main__":
    main()
