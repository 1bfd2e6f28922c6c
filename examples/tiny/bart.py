"""Train the tiny BART, which reads and writes texts about scenes and never sees a picture.

    python examples/tiny/bart.py

Texts are of the training split of a world of its own, each read once: captions by BART's own infilling (a quarter of
them one mask as a whole), and questions with answers, the answer masked. The folder it writes is transformers' own:
BartForConditionalGeneration.from_pretrained(FOLDER) opens it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from scene_texts import ASKED, Read, caption, pictured, question
from tokenizer import writing_tokenizer
from torch import Tensor
from torch.nn import functional as F
from training import train
from transformers import BartConfig, BartForConditionalGeneration

from mmkd_cli.architectures.generation import MASK
from mmkd_cli.methods.vlkd_feed import Masking

ASSETS = Path(__file__).resolve().parents[2] / "mmkd_cli" / "assets"
MAX_TOKENS = 128
SPAN = 3.0
READ = 3000
"""Scenes whose texts train the tokenizer."""


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Ids and mask, int64 [B, longest]."""
    ids = torch.full((len(rows), max(map(len, rows))), pad)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)], mask[place, : len(row)] = torch.tensor(row), 1
    return ids, mask


def losses(model: Any, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each token of each target [B, L], 0 behind its end, and how many tokens there are [B]."""
    pad = model.config.pad_token_id
    (ids, seen), (labels, kept) = padded(sources, pad), padded(targets, pad)
    start = torch.full_like(labels[:, :1], model.config.decoder_start_token_id)
    given = torch.cat([start, labels[:, :-1]], dim=1)
    logits = model(input_ids=ids, attention_mask=seen, decoder_input_ids=given, use_cache=False).logits
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    return loss * kept, kept.sum(1)


def masked_losses(model: Any, tokenizer: Any, texts: Sequence[str], masking: Masking, first: int) -> Tensor:
    """Cross-entropy of every token of texts whose numbers begin at `first`: [tokens]."""
    rows = [ids[:MAX_TOKENS] for ids in tokenizer(list(texts))["input_ids"]]
    noisy = [
        [row[0], *masking(row[1:-1], tokenizer.mask_token_id, 0, number), row[-1]]
        for number, row in enumerate(rows, first)
    ]
    loss, count = losses(model, noisy, rows)
    return loss[torch.arange(loss.shape[1]) < count[:, None]]


def token_losses(model: Any, tokenizer: Any, texts: Sequence[str], seed: int, first: int) -> Tensor:
    """What a step of training takes the mean of: shares from a tenth to nine masked, a quarter of the texts wholly."""
    return masked_losses(model, tokenizer, texts, Masking((0.1, 0.9), SPAN, 0.25, seed, "train"), first)


@torch.no_grad()
def infilling_loss(model: Any, tokenizer: Any, texts: Sequence[str]) -> float:
    """Nats a token of texts of which 30 % are masked, in BART's own way."""
    masking = Masking((0.3, 0.3), SPAN, 0.0, 0, "held out")
    found = [masked_losses(model, tokenizer, texts[at : at + 200], masking, at) for at in range(0, len(texts), 200)]
    return torch.cat(found).mean().item()


def reading_losses(model: Any, tokenizer: Any, reads: Sequence[Read]) -> tuple[Tensor, Tensor]:
    """Of texts with their answer masked: the mean over all tokens, and over those of the answers."""
    sources, targets = (tokenizer([read[place] for read in reads])["input_ids"] for place in (0, 1))
    ends = torch.tensor([len(tokenizer(read.answer)["input_ids"]) - 1 for read in reads])
    loss, count = losses(model, sources, targets)
    at = torch.arange(loss.shape[1])
    answer = (at >= (count - ends)[:, None]) & (at < count[:, None])
    return loss.sum() / count.sum(), loss[answer].mean()


def build(vocabulary: int) -> BartForConditionalGeneration:
    return BartForConditionalGeneration(BartConfig(
        vocab_size=vocabulary, max_position_embeddings=MAX_TOKENS, d_model=128, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=512, decoder_ffn_dim=512, dropout=0.0,
    ))  # fmt: skip


@torch.no_grad()
def scores(model: Any, tokenizer: Any, seed: int, items: int) -> dict[str, float]:
    """Held-out texts of the world: infilling, and answers by whether captions of the scene can be read."""
    found = {"infilling": infilling_loss(model, tokenizer, [caption(seed, row, "val") for row in range(items)])}
    reads = [question(seed, row, "val") for row in range(items)]
    for name, chosen in {
        "answers behind captions": [one for one in reads if not one.source.startswith((ASKED[:8], MASK))],
        "answers alone": [one for one in reads if one.source.startswith(ASKED[:8])],
    }.items():
        parts = [chosen[at : at + 100] for at in range(0, len(chosen), 100)]
        found[name] = sum(reading_losses(model, tokenizer, part)[1].item() * len(part) for part in parts) / len(chosen)
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ASSETS / "tiny-bart")
    parser.add_argument("--work", type=Path, default=Path("tiny-work"), help="checkpoints, to go on from")
    parser.add_argument("--seed", type=int, default=4000, help="the world and the first weights; demos use seed 0")
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--batch-size", type=int, default=40, help="of captions, and of questions")
    parser.add_argument("--peak-lr", type=float, default=2e-3)
    parser.add_argument("--items", type=int, default=1000, help="held-out scenes whose texts are scored")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(arguments.seed)
    seed, size = arguments.seed, arguments.batch_size
    known = [
        text
        for row in range(READ)
        for text in (caption(seed, row), question(seed, row).target, pictured(seed, row).target)
    ]
    tokenizer = writing_tokenizer(known, ends=True)
    model = build(len(tokenizer))

    def loss_of(step: int) -> Tensor:
        rows = range(step * size, (step + 1) * size)
        told = [pictured(seed, row) for row in rows[: size // 8]]
        captions = token_losses(model, tokenizer, [caption(seed, row) for row in rows[size // 8 :]], seed, rows[0])
        reads = sorted((question(seed, row) for row in rows), key=lambda read: len(read.source + read.target))
        halves = [reading_losses(model, tokenizer, half) for half in (reads[: size // 2], reads[size // 2 :])]
        return captions.mean() + sum(sum(half) for half in halves) / 2 + reading_losses(model, tokenizer, told)[0] / 8

    untrained = scores(model.eval(), tokenizer, seed, arguments.items)
    train(
        model, loss_of, arguments.work / "bart.pt", steps=arguments.steps, peak_lr=arguments.peak_lr, weight_decay=0.01
    )
    model.eval().half().save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    model.float()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    found = {"vocabulary": len(tokenizer), "parameters": parameters, "nats a token, before": untrained}
    print(json.dumps({**found, "nats a token": scores(model, tokenizer, seed, arguments.items)}, indent=1))


if __name__ == "__main__":
    main()
