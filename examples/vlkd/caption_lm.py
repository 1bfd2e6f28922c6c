"""A small language model of captions in transformers' layout, to teach CLIP: two layers, 192 wide.

    python caption_lm.py --kind causal|masked --data flickr8k --out FOLDER

It reads the captions of the training split of prepared data alone, and says its loss on val. Its tokenizer is a
byte-level BPE of the same captions, with ends around each text, so that first words and ends are targets, too. A masked
one has a share of its tokens masked, all of these by the mask's own token. Killed, it goes on from a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import ByteLevelBPETokenizer, processors
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tiny"))
from training import Checkpoint, optimizer_and_schedule

from mmkd_cli.core.paths import default_root
from mmkd_cli.data.prepared import open_data

MAX_TOKENS, VOCABULARY, WIDTH, LAYERS, HEADS = 64, 6000, 192, 2, 4
SPECIAL = ("<s>", "<pad>", "</s>", "<mask>")
EVERY = 100
"""Steps between checkpoints."""


def caption_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """<s> text </s>, lower case as CLIP's own."""
    from tokenizers.normalizers import Lowercase

    made = ByteLevelBPETokenizer(add_prefix_space=True)
    made._tokenizer.normalizer = Lowercase()
    made.train_from_iterator(texts, vocab_size=VOCABULARY, special_tokens=[*SPECIAL], show_progress=False)
    made._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made._tokenizer, bos_token="<s>", pad_token="<pad>", eos_token="</s>", mask_token="<mask>",
        model_max_length=MAX_TOKENS,
    )  # fmt: skip


def build(kind: str, vocabulary: int) -> Any:
    if kind == "causal":
        return GPT2LMHeadModel(GPT2Config(
            vocab_size=vocabulary, n_positions=MAX_TOKENS, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, bos_token_id=0,
            eos_token_id=2, pad_token_id=1,
        ))  # fmt: skip
    return BertForMaskedLM(BertConfig(
        vocab_size=vocabulary, max_position_embeddings=MAX_TOKENS, hidden_size=WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, intermediate_size=4 * WIDTH, pad_token_id=1,
    ))  # fmt: skip


def loss_of(kind: str, model: Any, tokenizer: Any, texts: Sequence[str], ratio: float, draw: Any) -> Tensor:
    """The mean cross-entropy of a batch's targets, in nats a token: next tokens, or masked ones (one at least)."""
    coded = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt", return_special_tokens_mask=True)
    ids, mask = coded["input_ids"], coded["attention_mask"]
    if kind == "causal":
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        return F.cross_entropy(logits[mask[:, 1:].bool()], ids[:, 1:][mask[:, 1:].bool()])
    chance = torch.from_numpy(draw.random(tuple(ids.shape))).masked_fill(coded["special_tokens_mask"].bool(), 2.0)
    places = (chance < ratio) | ((chance == chance.amin(dim=1, keepdim=True)) & (chance < 1))
    logits = model(input_ids=ids.masked_fill(places, tokenizer.mask_token_id), attention_mask=mask).logits
    return F.cross_entropy(logits[places], ids[places])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=default_root())
    parser.add_argument("--data", required=True)
    parser.add_argument("--kind", choices=("causal", "masked"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--peak-lr", type=float, default=2e-3)
    parser.add_argument("--mask-ratio", type=float, default=0.15)
    arguments = parser.parse_args()
    if (arguments.out / "config.json").is_file():
        print(f"{arguments.out} is there")
        return
    torch.manual_seed(arguments.seed)
    data = open_data(arguments.root, arguments.data)
    texts, held_out = (list(data.table("texts", split)["text"]) for split in ("train", "val"))
    tokenizer = caption_tokenizer(texts)
    model = build(arguments.kind, len(tokenizer)).train()
    per_epoch = max(1, len(texts) // arguments.batch_size)
    steps = max(1, int(arguments.epochs * per_epoch))
    plain = [p for p in model.parameters() if p.ndim == 1]
    optimizer, schedule = optimizer_and_schedule(
        [p for p in model.parameters() if p.ndim > 1], plain, arguments.peak_lr, 0.01, steps
    )
    checkpoint = Checkpoint(arguments.out.with_name(arguments.out.name + ".pt"), model=model, optimizer=optimizer,
                            schedule=schedule)  # fmt: skip
    for step in range(checkpoint.load(), steps):
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng((arguments.seed, epoch)).permutation(len(texts))
        rows = order[place * arguments.batch_size : (place + 1) * arguments.batch_size]
        draw = np.random.default_rng((arguments.seed, 1, step))
        loss = loss_of(arguments.kind, model, tokenizer, [texts[row] for row in rows], arguments.mask_ratio, draw)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % EVERY == 0:
            checkpoint.save(step + 1)
            print(f"step {step + 1} of {steps}: {loss.item():.3f}", file=sys.stderr, flush=True)
    model.eval()
    with torch.no_grad():
        draw = np.random.default_rng(arguments.seed)
        loss = loss_of(arguments.kind, model, tokenizer, held_out[:1000], arguments.mask_ratio, draw)
    tokenizer.save_pretrained(arguments.out)
    model.save_pretrained(arguments.out)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(json.dumps({"parameters": size, "steps": steps, "val, nats a token": round(loss.item(), 3)}))


if __name__ == "__main__":
    main()
