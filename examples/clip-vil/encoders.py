"""Train an image encoder for the comparison of claim-scenes.sh: the tiny CLIP's, without its captions.

    python encoders.py --told shape --out FOLDER

shape: one class a picture, as ImageNet has it: what kind of object its largest one is. colour-shape: the same of finer
kinds, a colour with a shape. labels: all shapes and all colours that are there, which is what captions name. These have
a linear map from the pooled vector. nothing: weights of zero, so that every picture looks the same.

The pictures, their order and number, the tower with its pooling, the optimiser and its schedule are those of
../tiny/clip.py. The folder is open_clip's own; a text tower that was never trained is in it, too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tiny"))
import clip
from tokenizer import caption_tokenizer
from training import train

from mmkd_cli import scenes
from mmkd_cli.scenes import Scene

WORDS = (*scenes.SHAPES, *scenes.COLOURS)
OUTPUTS = {"shape": len(scenes.SHAPES), "colour-shape": len(scenes.CLASS_NAMES["colour-shape"]), "labels": len(WORDS)}
SCORED = 1000
"""Pictures of the validation split."""


class Labelled(nn.Module):
    """An image tower with a linear map of its pooled vector, B pictures, O outputs."""

    def __init__(self, visual: nn.Module, told: str) -> None:
        super().__init__()
        self.visual, self.told = visual, told
        self.head = nn.Linear(clip.WIDTH, OUTPUTS[told])

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, 64, 64] -> [B, O]."""
        logits: Tensor = self.head(self.visual(pixels))
        return logits

    def loss(self, rows: Sequence[Scene]) -> Tensor:
        """Cross-entropy of the class, or the sum of those of each word."""
        logits = self(clip.pixels(rows))
        if self.told == "labels":
            return F.binary_cross_entropy_with_logits(logits, words(rows), reduction="sum") / len(rows)
        return F.cross_entropy(logits, self.classes(rows))

    @torch.no_grad()
    def score(self, rows: Sequence[Scene]) -> float:
        """Percent of classes, or of words that are there or not."""
        logits = torch.cat([self(clip.pixels(rows[at : at + 200])) for at in range(0, len(rows), 200)])
        right = (logits > 0) == words(rows) if self.told == "labels" else logits.argmax(1) == self.classes(rows)
        return 100 * right.float().mean().item()

    def classes(self, rows: Sequence[Scene]) -> Tensor:
        """int64 [B]."""
        return torch.tensor([scenes.class_label(row, self.told) for row in rows])


def words(rows: Sequence[Scene]) -> Tensor:
    """1 where a shape or a colour is there, else 0: [B, 16]."""
    there = [{word for item in row.objects for word in (item.shape, item.colour)} for row in rows]
    return torch.tensor([[float(word in own) for word in WORDS] for own in there])


def labelled(arguments: argparse.Namespace, tokenizer: Any) -> nn.Module:
    """A CLIP whose image tower was trained by labels."""
    torch.manual_seed(arguments.seed)
    model = open_clip.CLIP(**clip.configuration(tokenizer))
    tower, count = Labelled(model.visual, arguments.told), arguments.batch_size

    def loss_of(step: int) -> Tensor:
        return tower.loss(clip.training_rows(arguments.seed, step * count, count))

    train(tower, loss_of, arguments.work / f"{arguments.told}.pt", steps=arguments.steps, peak_lr=arguments.peak_lr,
          weight_decay=0.1)  # fmt: skip
    held = [scenes.scene(arguments.seed, row, "val", plain=True) for row in range(SCORED)]
    print(json.dumps({arguments.told: tower.eval().score(held)}))
    return model


def unseeing(tokenizer: Any) -> nn.Module:
    """A CLIP whose image tower says zeros."""
    model = open_clip.CLIP(**clip.configuration(tokenizer))
    with torch.no_grad():
        for parameter in model.visual.parameters():
            parameter.zero_()
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--told", choices=[*OUTPUTS, "nothing"], required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("tiny-work"), help="checkpoints, to go on from")
    parser.add_argument("--seed", type=int, default=2000, help="the world and the first weights; demos use seed 0")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--peak-lr", type=float, default=2e-3)
    arguments = parser.parse_args()
    if arguments.out.is_dir():
        print(f"{arguments.out} is there")
        return
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tokenizer = caption_tokenizer()
    model = unseeing(tokenizer) if arguments.told == "nothing" else labelled(arguments, tokenizer)
    written = arguments.out.with_name(f"{arguments.out.name}-unfinished")
    clip.save(model.eval(), tokenizer, written)
    written.rename(arguments.out)


if __name__ == "__main__":
    main()
