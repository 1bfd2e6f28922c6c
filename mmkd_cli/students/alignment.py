"""What a student that is aligned with a teacher's CLS says of a batch, and the files that it keeps beside its model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmkd_cli.core.errors import Refused
from mmkd_cli.core.fingerprints import canonical_json


@dataclass
class Aligned:
    """A student's outputs for pairs of a picture and a text.

    target [B, D]: the teacher's CLS, as the student regresses it; None without a teacher. regressed: modality ->
    [B, D]. contrasted: stage -> (image, text), [B, P] each. image, text [B, E]: what retrieval compares.
    """

    target: Tensor | None
    regressed: dict[str, Tensor]
    contrasted: dict[str, tuple[Tensor, Tensor]]
    image: Tensor
    text: Tensor


def save_heads(folder: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write heads.safetensors: tensors, and one canonical JSON string under the metadata key `mmkd`."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    save_file(kept, folder / "heads.safetensors", metadata={"mmkd": canonical_json(dict(about))})


def read_heads(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_heads` wrote; Refused where the file is not one of ours."""
    path = folder / "heads.safetensors"
    if not path.is_file():
        raise Refused(f"{folder} has no heads.safetensors: run its `mmkd distill` command again")
    with safe_open(path, framework="pt") as file:
        about = (file.metadata() or {}).get("mmkd")
        if about is None:
            raise Refused(f"{path} has no `mmkd` in its metadata: it is not a run's file")
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(about)  # noqa: SIM118
