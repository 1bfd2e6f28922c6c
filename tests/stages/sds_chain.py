"""A small chain for SDS-CLIP: drawn pictures, the text states of a tiny Stable Diffusion, a tiny CLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmkd_cli.stages import cache_teacher, distill, prepare_data
from tests.architectures.tiny_clip import tiny_clip
from tests.architectures.tiny_stable_diffusion import stable_diffusion
from tests.stages.small_chain import config_of, context, draw


def make_sds_chain(folder: Path) -> Path:
    """Data `squares` (32 and 8 pictures), cache `states`; models in FOLDER/sd and FOLDER/clip. Returns the root."""
    root = folder / "work"
    draw(folder / "squares", 40)
    keys = {"source__name": "flickr8k", "source__images": str(folder / "squares"),
            "source__annotations": str(folder / "squares" / "annotations.json")}  # fmt: skip
    prepare_data.run(config_of(prepare_data, image_size=0, **keys), context(root, "squares"))
    stable_diffusion(folder / "sd")
    tiny_clip(folder / "clip")
    states(folder, "states", folder / "sd")
    return root


def states(folder: Path, name: str, diffusion: Path) -> None:
    """Cache the captions' text states."""
    keys = {"data": "squares", "signals": ["text_states"], "cache__threads": 1,
            "teacher__name": "stable-diffusion", "teacher__weights": str(diffusion)}  # fmt: skip
    cache_teacher.run(config_of(cache_teacher, **keys), context(folder / "work", name))


def sds_keys(folder: Path, **more: Any) -> dict[str, Any]:
    """A run of seconds."""
    return {"method__name": "sds", "student__arch": f"local-dir:{folder / 'clip'}", "data": "squares",
            "train__batch_size": 8, "train__max_steps": 6, "train__peak_lr": 0.01, **more}  # fmt: skip


def tuned(folder: Path, name: str | None, dry_run: bool = False, **keys: Any) -> dict[str, Any]:
    """Run the stage; its document."""
    return distill.run(config_of(distill, **sds_keys(folder, **keys)), context(folder / "work", name, dry_run=dry_run))
