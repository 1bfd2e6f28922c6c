"""Train the tiny causal language model, which goes on with texts about scenes.

    python examples/tiny/language_model.py

It reads the captions, and the questions with their answers, of the training split of a world of its own, each once. The
folder it writes is transformers' own, in GPT-2's layout: GPT2LMHeadModel.from_pretrained(FOLDER) opens it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Any

import torch
from bart import READ, padded
from scene_texts import caption, pictured, question
from tokenizer import writing_tokenizer
from torch import Tensor
from torch.nn import functional as F
from training import train
from transformers import GPT2Config, GPT2LMHeadModel

ASSETS = Path(__file__).resolve().parents[2] / "mmkd_cli" / "assets"
MAX_TOKENS = 128


def texts(seed: int, index: int, split: str = "train") -> list[str]:
    """A caption and a question with its answer; of every eighth scene the caption again, behind a prompt's words."""
    again = [pictured(seed, index, split).target] if index % 8 == 0 else []
    return [caption(seed, index, split), question(seed, index, split).target, *again]


def next_token_losses(model: Any, tokenizer: Any, read: Sequence[str]) -> Tensor:
    """Cross-entropy of every token of texts, their first one and their end among them: [tokens]."""
    end = tokenizer.eos_token_id
    ids, mask = padded([[end, *row, end][:MAX_TOKENS] for row in tokenizer(list(read))["input_ids"]], end)
    logits = model(input_ids=ids[:, :-1], attention_mask=mask[:, :-1], use_cache=False).logits
    loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return loss[mask[:, 1:].flatten() == 1]


@torch.no_grad()
def held_out_loss(model: Any, tokenizer: Any, read: Sequence[str]) -> float:
    """Nats a token."""
    found = [next_token_losses(model, tokenizer, read[at : at + 200]) for at in range(0, len(read), 200)]
    return torch.cat(found).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ASSETS / "tiny-lm")
    parser.add_argument("--work", type=Path, default=Path("tiny-work"), help="checkpoints, to go on from")
    parser.add_argument("--seed", type=int, default=5000, help="the world and the first weights; demos use seed 0")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--batch-size", type=int, default=40, help="scenes")
    parser.add_argument("--peak-lr", type=float, default=3e-3)
    parser.add_argument("--items", type=int, default=1000, help="held-out scenes whose texts are scored")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(arguments.seed)
    seed, size = arguments.seed, arguments.batch_size
    tokenizer = writing_tokenizer((text for row in range(READ) for text in texts(seed, row)), ends=False)
    end = tokenizer.eos_token_id
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=len(tokenizer), n_positions=MAX_TOKENS, n_embd=96, n_layer=3, n_head=4, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=end, eos_token_id=end, pad_token_id=tokenizer.pad_token_id,
    ))  # fmt: skip

    def loss_of(step: int) -> Tensor:
        read = [text for row in range(step * size, (step + 1) * size) for text in texts(seed, row)]
        return next_token_losses(model, tokenizer, read).mean()

    held_out = [text for row in range(arguments.items) for text in texts(seed, row, "val")]
    untrained = held_out_loss(model.eval(), tokenizer, held_out)
    train(model, loss_of, arguments.work / "lm.pt", steps=arguments.steps, peak_lr=arguments.peak_lr, weight_decay=0.01)
    model.eval().half().save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    model.float()
    found = {"vocabulary": len(tokenizer), "parameters": sum(parameter.numel() for parameter in model.parameters())}
    nats = {"even": log(len(tokenizer)), "untrained": untrained, "trained": held_out_loss(model, tokenizer, held_out)}
    print(json.dumps({**found, "nats a token": {name: round(value, 3) for name, value in nats.items()}}, indent=1))


if __name__ == "__main__":
    main()
