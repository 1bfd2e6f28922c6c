"""A BART that has read captions and seen no picture: encoder and decoder of two layers, 256 wide, by BART's infilling.

    python caption_bart.py --data flickr8k --out FOLDER

It reads the captions of the training split of prepared data, and says its loss on val. With --epochs 0 it is random.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import BartConfig, BartForConditionalGeneration

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tiny"))
from bart import infilling_loss, token_losses
from tokenizer import writing_tokenizer
from training import train

from mmkd_cli.core.paths import default_root
from mmkd_cli.data.prepared import open_data

MAX_TOKENS = 64
VOCABULARY = 6000


def build(vocabulary: int) -> BartForConditionalGeneration:
    return BartForConditionalGeneration(BartConfig(
        vocab_size=vocabulary, max_position_embeddings=MAX_TOKENS, d_model=256, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=1024, decoder_ffn_dim=1024,
    ))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=default_root())
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--peak-lr", type=float, default=1e-3)
    arguments = parser.parse_args()
    if (arguments.out / "config.json").is_file():
        print(f"{arguments.out} is there")
        return
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    data = open_data(arguments.root, arguments.data)
    texts = list(data.table("texts", "train")["text"])
    tokenizer = writing_tokenizer(texts, ends=True, most=VOCABULARY)
    model = build(len(tokenizer))
    per_epoch = len(texts) // arguments.batch_size

    def loss_of(step: int) -> Tensor:
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng((arguments.seed, epoch)).permutation(len(texts))
        rows = order[place * arguments.batch_size : (place + 1) * arguments.batch_size]
        read = [texts[row] for row in rows]
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bfloat16"):
            return token_losses(model, tokenizer, read, arguments.seed, step * arguments.batch_size).float().mean()

    steps = int(arguments.epochs * per_epoch)
    if steps:
        work = arguments.out.with_name(arguments.out.name + "-work")
        train(model, loss_of, work / "bart.pt", steps=steps, peak_lr=arguments.peak_lr, weight_decay=0.01)
    model.eval()
    loss = infilling_loss(model, tokenizer, list(data.table("texts", "val")["text"])[:1000])
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(json.dumps({"parameters": size, "steps": steps, "val infilling, nats a token": round(loss, 3)}))


if __name__ == "__main__":
    main()
