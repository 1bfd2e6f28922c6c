"""A small BERT of random weights in transformers' layout; its tokens are the words of the built-in world."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import BertConfig, BertForPreTraining

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tiny"))
from tokenizer import CAPTIONED, writing_tokenizer

from mmkd_cli import scenes


def texts() -> Iterator[str]:
    """Captions, questions and hypotheses of the plain world."""
    for row in range(CAPTIONED):
        scene = scenes.scene(0, row, "train", plain=True)
        yield from scenes.captions(scene, plain=True)
        yield from (one.text for one in scenes.questions(scene))
    for group in range(CAPTIONED // scenes.GROUP):
        yield from (one.text for one in scenes.hypotheses(0, group, "train", plain=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if (arguments.out / "tokenizer.json").is_file():
        print(f"{arguments.out} is there")
        return
    torch.manual_seed(arguments.seed)
    tokenizer = writing_tokenizer(texts(), ends=True)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=arguments.width, num_hidden_layers=arguments.layers,
        num_attention_heads=3, intermediate_size=4 * arguments.width, max_position_embeddings=48,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    BertForPreTraining(config).save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
