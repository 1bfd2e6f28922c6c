"""Token distributions made small: bytes a token, their error, and what a student learns from them, by codec and size.

    python examples/benchmarks/token_targets.py [--captions captions_val2017.json] [--quick]

The teacher is the simplest language model there is, in CLIP's own vocabulary of 49,408 tokens: counts of pairs of
tokens in nine tenths of COCO's captions (or, without the file, of the built-in scenes'), mixed with those of single
tokens by Witten and Bell's weights. Each row keeps less of its distributions: `topk` the k largest logits and log Z,
`sampled` so many importance-weighted draws, in the types of a cache; `dense` is all of them in bfloat16. bytes: of a
token, offsets of texts left out. kl: of topk KL(dense || stored), what is left out spread evenly; of sampled KL(stored
|| dense), in nats a token, on held-out captions. student: KL(teacher || student) there, over all tokens, of a CLIP text
tower after the same batches in every row, from the same random weights; its 95 % interval is over captions.

The table goes to stderr, one JSON document to stdout. `--quick`: fewer steps and captions.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import open_clip
import torch
from torch import Tensor, nn

from mmkd_cli.architectures.clip_models import ClipModel
from mmkd_cli.losses.token_distributions import sampled_cross_entropy_per_token, topk_kl_per_token
from mmkd_cli.metrics.bootstrap import bootstrap_means, percentile_interval
from mmkd_cli.scenes.captions import captions as scene_captions
from mmkd_cli.scenes.world import scene
from mmkd_cli.students.clip import Clip, ClipConfig
from mmkd_cli.students.token_path import TokenPath
from mmkd_cli.teachers.token_codecs import against_dense, draw, top_k

MAX_TOKENS, WIDTH, AT_ONCE = 32, 64, 16
ROWS = (("dense", 0), *(("topk", k) for k in (4, 16, 64, 256)), *(("sampled", n) for n in (8, 24, 64)))
STORED = {"topk_ids": torch.uint16, "topk_logits": torch.float16, "log_z": torch.float32, "sampled_ids": torch.uint16,
          "sampled_weights": torch.float16}  # fmt: skip
POSITION_BYTES = 2


class Batch(NamedTuple):
    """ids, mask int64 [B, L]; places bool [B, L]: tokens that have a next one."""

    ids: Tensor
    mask: Tensor
    places: Tensor


class Bigrams:
    """p(next | token) of texts of tokens, over a whole vocabulary."""

    def __init__(self, texts: Sequence[Sequence[int]], vocabulary: int) -> None:
        single = np.full(vocabulary, 0.1)
        followed: dict[int, dict[int, int]] = {}
        for text in texts:
            np.add.at(single, text[1:], 1)
            for token, after in pairwise(text):
                own = followed.setdefault(token, {})
                own[after] = own.get(after, 0) + 1
        self.single = torch.from_numpy(single / single.sum()).float()
        self.followed = {token: (torch.tensor([*own]), torch.tensor([*own.values()]).float())
                         for token, own in followed.items()}  # fmt: skip

    def logits(self, tokens: Tensor) -> Tensor:
        """int64 [T] -> log p [T, V]."""
        rows = []
        for token in tokens.tolist():
            ids, counts = self.followed.get(token, (torch.empty(0, dtype=torch.int64), torch.empty(0)))
            total, kinds = counts.sum(), len(ids)
            row = self.single * (kinds / (total + kinds) if kinds else 1.0)
            rows.append(row.index_add(0, ids, counts / (total + kinds)) if kinds else row)
        return torch.stack(rows).log()


def read_captions(file: Path | None) -> tuple[list[str], list[str]]:
    """For counting and training, and held out; no picture has captions in both."""
    if file is None:
        rows = [(row, text) for row in range(4000) for text in scene_captions(scene(0, row, "train"))]
    else:
        rows = [(row["image_id"], row["caption"]) for row in json.loads(file.read_text("utf-8"))["annotations"]]
    pictures = np.random.default_rng(0).permutation(sorted({owner for owner, _ in rows}))
    held_out = set(pictures[: len(pictures) // 10].tolist())
    parts: tuple[list[str], list[str]] = ([], [])
    for owner, text in rows:
        parts[owner in held_out].append(text.strip())
    return parts


def batch_of(texts: Sequence[Sequence[int]]) -> Batch:
    ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = torch.tensor(text), 1
    places = mask.bool()
    places[range(len(texts)), mask.sum(dim=1) - 1] = False
    return Batch(ids, mask, places)


def new_student(vocabulary: int) -> Clip:
    """A small CLIP of random weights."""
    torch.manual_seed(0)
    model = open_clip.model.CLIP(
        embed_dim=32, vision_cfg={"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        text_cfg={"context_length": MAX_TOKENS, "width": WIDTH, "heads": 2, "layers": 2},
    )  # fmt: skip
    library: ClipModel = Clip.empty(ClipConfig(arch="ViT-B-32")).library
    student = Clip(library, model)
    student.token_path = TokenPath(nn.Parameter(0.02 * torch.randn(vocabulary, WIDTH)).data, causal=True)
    return student


def kept_of(codec: str, size: int, dense: Tensor, random: np.random.Generator) -> dict[str, Tensor]:
    """What a cache keeps of logits [T, V]: name -> [T, ...]."""
    if codec == "dense":
        return {"logits": dense.bfloat16()}
    uniform = random.random((len(dense), size))
    found = top_k(dense, size, 1.0) if codec == "topk" else draw(dense, uniform, 1.0, 1.0)
    return {name: value.to(STORED[name]) for name, value in found.items()}


def bytes_a_token(kept: dict[str, Tensor]) -> int:
    return sum(value[0].numel() * value.element_size() for value in kept.values()) + POSITION_BYTES


def widened(kept: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value if value.is_floating_point() else value.long() for name, value in kept.items()}


def loss(codec: str, student: Tensor, kept: dict[str, Tensor]) -> Tensor:
    """Of student's logits [T, V]."""
    values = [*widened(kept).values()]
    if codec == "dense":
        return kl_to(values[0].float(), student).mean()
    per_token = topk_kl_per_token if codec == "topk" else sampled_cross_entropy_per_token
    return per_token(student, *values).mean()


def kl_to(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of logits [T, V] -> [T]."""
    p = teacher.log_softmax(dim=1)
    return (p.exp() * (p - student.log_softmax(dim=1))).sum(dim=1)


def trained(teacher: Bigrams, texts: Sequence[Sequence[int]], steps: int, batch_size: int, vocabulary: int
            ) -> list[Clip]:  # fmt: skip
    """A student of each row, all from the same weights, by the same batches."""
    first = new_student(vocabulary)
    students = [copy.deepcopy(first) for _ in ROWS]
    optimizers = [torch.optim.Adam(list(one.parameters()), lr=1e-2) for one in students]
    for step in range(steps):
        random = np.random.default_rng((0, step))
        batch = batch_of([texts[row] for row in random.choice(len(texts), batch_size, replace=False)])
        dense = teacher.logits(batch.ids[batch.places])
        for (codec, size), student, optimizer in zip(ROWS, students, optimizers, strict=True):
            optimizer.zero_grad(set_to_none=True)
            loss(codec, student.token_logits(*batch), kept_of(codec, size, dense, random)).backward()
            optimizer.step()
        if step % 10 == 0:
            print(f"students, step {step} of {steps}", file=sys.stderr, flush=True)
    return students


@torch.no_grad()
def measure(teacher: Bigrams, texts: Sequence[Sequence[int]], held_out: Sequence[Sequence[int]], steps: int,
            batch_size: int, vocabulary: int) -> list[dict[str, Any]]:  # fmt: skip
    with torch.enable_grad():
        students = trained(teacher, texts, steps, batch_size, vocabulary)
    batches = [batch_of(held_out[first : first + AT_ONCE]) for first in range(0, len(held_out), AT_ONCE)]
    captions = np.concatenate([np.nonzero(batch.places.numpy())[0] + AT_ONCE * n for n, batch in enumerate(batches)])
    found: list[dict[str, Any]] = [{"codec": codec, "size": size} for codec, size in ROWS]
    kl: list[list[float]] = [[] for _ in ROWS]
    to_student: list[list[float]] = [[] for _ in ROWS]
    for number, batch in enumerate(batches):
        dense = teacher.logits(batch.ids[batch.places])
        for place, ((codec, size), student) in enumerate(zip(ROWS, students, strict=True)):
            kept = kept_of(codec, size, dense, np.random.default_rng((1, number)))
            found[place]["bytes_a_token"] = bytes_a_token(kept) - (POSITION_BYTES if codec == "dense" else 0)
            own = (kl_to(dense.double(), kept["logits"].double()) if codec == "dense"
                   else against_dense(dense, widened(kept), 1.0)["kl"])  # fmt: skip
            kl[place] += own.tolist()
            to_student[place] += kl_to(dense, student.eval().token_logits(*batch)).tolist()
    for row, errors, values in zip(found, kl, to_student, strict=True):
        row["kl"], row["student"] = float(np.mean(errors)), float(np.mean(values))
        row["interval"] = percentile_interval(bootstrap_means(np.array(values)[:, None], captions)[:, 0])
        row["of_dense"] = row["bytes_a_token"] / found[0]["bytes_a_token"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, help="COCO's official captions_val2017.json")
    parser.add_argument("--quick", action="store_true", help="fewer steps and captions")
    arguments = parser.parse_args()
    steps, batch_size, asked = (20, 12, 24) if arguments.quick else (300, 64, 500)
    bpe = open_clip.get_tokenizer("ViT-B-32")
    start, end, vocabulary = bpe.sot_token_id, bpe.eot_token_id, bpe.vocab_size
    texts, held_out = ([[start, *bpe.encode(text)[: MAX_TOKENS - 2], end] for text in part]
                       for part in read_captions(arguments.captions))  # fmt: skip
    rows = measure(Bigrams(texts, vocabulary), texts, held_out[:asked], steps, batch_size, vocabulary)
    print(
        f"{'codec':10}{'size':>6}{'bytes a token':>15}{'of dense':>10}{'kl':>11}{'student':>10}  95 %", file=sys.stderr
    )
    for row in rows:
        (low, high), share = row["interval"], f"1/{1 / row['of_dense']:.0f}"
        print(f"{row['codec']:10}{row['size'] or '':>6}{row['bytes_a_token']:>15,}{share:>10}"
              f"{row['kl']:>11.2e}{row['student']:>10.4f}  {low:.4f} to {high:.4f}", file=sys.stderr)  # fmt: skip
    of = "COCO" if arguments.captions else "scenes"
    print(json.dumps({"rows": rows, "steps": steps, "batch_size": batch_size, "captions": asked, "of": of}, indent=2))


if __name__ == "__main__":
    main()
