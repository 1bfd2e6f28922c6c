"""KL of a language model's token distributions and a CLIP's, on texts that neither learnt from, over all tokens.

    python token_kl.py --data flickr8k --split val --teacher FOLDER --model runs/NAME

--model: the folder of a run of plm-kl, or of a CLIP of open_clip, whose table of the teacher's tokens is then as plm-kl
begins it. The mean over tokens, in nats, at temperature 1, with a 95 % interval over pictures. One JSON line.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mmkd_cli.core.paths import default_root
from mmkd_cli.data.prepared import open_data
from mmkd_cli.metrics.bootstrap import bootstrap_means, percentile_interval
from mmkd_cli.students.alignment import read_heads
from mmkd_cli.students.clip import Clip, ClipConfig
from mmkd_cli.students.token_path import TokenPath
from mmkd_cli.teachers.language_models import LanguageModelConfig, LanguageModelTeacher

AT_ONCE = 64


def open_student(folder: Path, teacher: LanguageModelTeacher) -> Clip:
    """A run with its table of tokens; a CLIP with the table that training begins with."""
    said = teacher.language_model
    if not (folder / "heads.safetensors").is_file():
        place = folder / "model" if (folder / "model").is_dir() else folder
        student = Clip.build(ClipConfig(arch=f"local-dir:{place}")).eval()
        student.read_tokens(said.tokenizer, said.vocabulary_size, causal=said.kind != "masked")
        return student
    student = Clip.load(folder, {})
    tensors, about = read_heads(folder)
    student.token_path = TokenPath(nn.Parameter(tensors["token_path.table"]), bool(about["causal"]))
    return student


@torch.no_grad()
def divergences(student: Clip, teacher: LanguageModelTeacher, texts: list[str], split: str) -> list[np.ndarray]:
    """Of each text: [its targets], KL(teacher || student)."""
    found: list[np.ndarray] = []
    for first in range(0, len(texts), AT_ONCE):
        part = texts[first : first + AT_ONCE]
        batch: dict[str, Any] = {**teacher.tokenize(part), "row": torch.arange(first, first + len(part)),
                                 "split": split}  # fmt: skip
        targets = teacher.targets(batch)
        ids = batch["input_ids"]
        if teacher.language_model.kind == "masked":
            ids = ids.masked_fill(targets, teacher.language_model.mask_id)
        p = torch.cat([*teacher.logits(batch, targets)]).log_softmax(dim=1)
        q = student.token_logits(ids, batch["attention_mask"], targets).log_softmax(dim=1)
        found += (p.exp() * (p - q)).sum(dim=1).split(targets.sum(dim=1).tolist())
    return [own.numpy() for own in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=default_root())
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--teacher", type=Path, required=True, help="folder of a language model of transformers")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--max-tokens", type=int, default=32, help="of a text")
    parser.add_argument("--texts", type=int, help="at most so many, the first ones")
    arguments = parser.parse_args()
    teacher = LanguageModelTeacher(LanguageModelConfig(weights=str(arguments.teacher), max_tokens=arguments.max_tokens))
    teacher.load("cpu")
    table = open_data(arguments.root, arguments.data).table("texts", arguments.split)
    texts, owners = list(table["text"])[: arguments.texts], list(table["image_row"])[: arguments.texts]
    own = divergences(open_student(arguments.model, teacher), teacher, texts, arguments.split)
    values = np.concatenate(own).astype(np.float64)
    of = np.unique(np.repeat(owners, [len(one) for one in own]), return_inverse=True)[1]
    low, high = percentile_interval(bootstrap_means(values[:, None], of)[:, 0])
    print(json.dumps({"model": str(arguments.model), "teacher": str(arguments.teacher), "split": arguments.split,
                      "texts": len(texts), "tokens": len(values), "kl": float(values.mean()),
                      "interval": [low, high]}))  # fmt: skip


if __name__ == "__main__":
    main()
