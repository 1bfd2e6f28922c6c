"""Train the tiny CLIP: a small ResNet and a small text transformer, by InfoNCE on scenes.

    python examples/tiny/clip.py --out FOLDER

Pictures are scenes of the training split of a plain world of its own, each seen once, a third of them of one object.
Three captions of five name the shapes alone or the colours alone, so that CLIP learns to see both; what goes with what
the others say, but no batch of random pictures asks for it: it is what CLIP is bad at, at large as here. The
folder it writes is open_clip's own: open_clip.create_model_and_transforms("local-dir:FOLDER") opens it.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from swap_scores import classification, percent, report, swap_rows
from tokenizer import MAX_TOKENS, caption_tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from training import MEAN, STD, Checkpoint, optimizer_and_schedule, pixels

from mmkd_cli import scenes
from mmkd_cli.scenes import Scene
from mmkd_cli.scenes.vocabulary import VOCABULARY

WIDTH = 96
COLOURS = [word for entry in VOCABULARY["colours"].values() for word in entry["words"]]


def training_rows(seed: int, start: int, count: int) -> list[Scene]:
    """Rows [start, start + count) of the training split."""
    return [scenes.scene(seed, index, "train", index % 3 == 0, plain=True) for index in range(start, start + count)]


def batch(seed: int, start: int, count: int) -> tuple[Tensor, list[str]]:
    """Training rows: pixels, and a caption of each, its kinds in turn."""
    rows = training_rows(seed, start, count)
    return pixels(rows), [caption(row, index // 3 % 5) for index, row in enumerate(rows, start)]


def caption(row: Scene, kind: int) -> str:
    """Kinds 0 to 2: the shapes, the shapes, the colours, in the words of one of its captions; else one with both."""
    listed = scenes.captions(row, plain=True)[1]
    if kind > 2:
        return scenes.captions(row, plain=True)[0] if kind == 3 else listed
    if kind == 2:
        return re.sub(f"({'|'.join(COLOURS)}) [a-z]+", r"\1 shape", listed)
    bare = re.sub(f"an? ({'|'.join(COLOURS)}) ", "a ", listed)
    return re.sub("a (?=[aeiou])", "an ", bare)


def configuration(tokenizer: Any) -> dict[str, Any]:
    """open_clip's `model_cfg`. Its factory takes the tokenizer from the folder where one is named at all."""
    return {
        "embed_dim": WIDTH,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16},
        "text_cfg": {
            "context_length": MAX_TOKENS,
            "vocab_size": len(tokenizer),
            "width": WIDTH,
            "heads": 3,
            "layers": 2,
            "hf_tokenizer_name": "of this folder",
        },
    }


def tokens(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """input_ids [B, MAX_TOKENS]."""
    ids: Tensor = tokenizer(list(texts), padding="max_length", return_tensors="pt").input_ids
    return ids


def train(tokenizer: Any, arguments: argparse.Namespace) -> nn.Module:
    """InfoNCE over batches of fresh scenes, by cycles of warm-up and cosine."""
    torch.manual_seed(arguments.seed)
    model = open_clip.CLIP(**configuration(tokenizer))
    for number in range(len(arguments.steps)):
        cycle(model, tokenizer, arguments, number)
    return model.eval()


def cycle(model: nn.Module, tokenizer: Any, arguments: argparse.Namespace, number: int) -> None:
    """Steps of one cycle, with an optimiser of its own."""
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    steps, before = arguments.steps[number], sum(arguments.steps[:number])
    optimizer, schedule = optimizer_and_schedule(decay, plain, arguments.peak_lr, 0.1, steps)
    checkpoint = Checkpoint(arguments.work / f"clip-{number}.pt", model=model, optimizer=optimizer, schedule=schedule)
    model.train()
    started = time.process_time()
    for step in range(checkpoint.load(), steps):
        first = (before + step) * arguments.batch_size
        pictures, texts = batch(arguments.seed, first, arguments.batch_size)
        image, text, scale = model(pictures, tokens(tokenizer, texts))
        logits = scale * image @ text.T
        target = torch.arange(len(logits))
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, np.log(100))
        if step % 50 == 0 or step == steps - 1:
            print(
                f"cycle {number}, step {step}, loss {loss.item():.3f}, {time.process_time() - started:.0f} s of CPU",
                flush=True,
            )
        if step % 200 == 199 or step == steps - 1:
            checkpoint.save(step + 1)


@torch.no_grad()
def embed(model: nn.Module, tokenizer: Any, rows: Sequence[Scene], texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Normalised embeddings [n, d] and [m, d]."""
    ids = tokens(tokenizer, texts)
    images = [model.encode_image(pixels(rows[i : i + 200]), normalize=True) for i in range(0, len(rows), 200)]
    return torch.cat(images), torch.cat([model.encode_text(part, normalize=True) for part in ids.split(200)])


def scores(model: nn.Module, tokenizer: Any, items: int) -> dict[str, Any]:
    """Swaps by kind, and single objects by shape and colour."""
    found: dict[str, Any] = {}
    for kind in scenes.SWAP_KINDS:
        swaps = swap_rows(kind, items)
        rows, texts = [s for swap in swaps for s in swap.scenes], [c for swap in swaps for c in swap.captions]
        image, text = (part.view(items, 2, -1) for part in embed(model, tokenizer, rows, texts))
        found[kind] = report(torch.einsum("nid,ntd->nti", image, text))
    for by in ("shape", "colour"):
        rows, labels, prompts = classification(by, items)
        image, text = embed(model, tokenizer, rows, prompts)
        found[by] = percent((image @ text.T).argmax(1) == labels)
    return found


def save(model: nn.Module, tokenizer: Any, folder: Path) -> None:
    """Weights in float16, open_clip's config, the tokenizer's files."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.detach().to(torch.float16 if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(weights, folder / "open_clip_model.safetensors")
    config = {"model_cfg": configuration(tokenizer), "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("tiny-work"), help="checkpoints, to go on from")
    parser.add_argument("--seed", type=int, default=2000, help="the world and the first weights; demos use seed 0")
    parser.add_argument("--steps", type=int, nargs="+", default=[1000], help="of each cycle")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--peak-lr", type=float, default=2e-3)
    parser.add_argument("--items", type=int, default=400, help="of each kind of swap that is scored")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.enable_flash_sdp(False)
    tokenizer = caption_tokenizer()
    model = train(tokenizer, arguments)
    save(model, tokenizer, arguments.out)
    print(json.dumps(scores(model, tokenizer, arguments.items), indent=1))


if __name__ == "__main__":
    main()
