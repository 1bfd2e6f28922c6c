"""A small chain for VLKD: drawn pictures, the embeddings of a tiny CLIP, a tiny BART."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmkd_cli.stages import cache_teacher, distill, prepare_data
from tests.architectures.tiny_bart import tiny_bart
from tests.architectures.tiny_clip import tiny_clip
from tests.stages.small_chain import config_of, context, draw


def make_vlkd_chain(folder: Path) -> Path:
    """Data `squares` (32 and 8 pictures), cache `clip`; models in FOLDER/clip and FOLDER/bart. Returns the root."""
    root = folder / "work"
    draw(folder / "squares", 40)
    keys = {"source__name": "flickr8k", "source__images": str(folder / "squares"),
            "source__annotations": str(folder / "squares" / "annotations.json")}  # fmt: skip
    prepare_data.run(config_of(prepare_data, image_size=0, **keys), context(root, "squares"))
    tiny_clip(folder / "clip")
    tiny_bart(folder / "bart")
    keys = {"data": "squares", "signals": ["image_embedding", "text_embedding"], "cache__threads": 1,
            "cache__dtype": "float32", **clip_keys(folder)}  # fmt: skip
    cache_teacher.run(config_of(cache_teacher, **keys), context(root, "clip"))
    return root


def clip_keys(folder: Path) -> dict[str, Any]:
    return {"teacher__name": "clip", "teacher__arch": f"local-dir:{folder / 'clip'}"}


def vlkd_keys(folder: Path, **more: Any) -> dict[str, Any]:
    """A run of seconds."""
    return {"method__name": "vlkd", "student__weights": str(folder / "bart"), "student__max_tokens": 48,
            "data": "squares", "train__batch_size": 8, "train__max_steps": 6, "train__peak_lr": 0.001,
            "train__warmup_steps": 0, **more}  # fmt: skip


def taught(folder: Path, name: str | None, dry_run: bool = False, **keys: Any) -> dict[str, Any]:
    """Run the stage; its document."""
    return distill.run(config_of(distill, **vlkd_keys(folder, **keys)), context(folder / "work", name, dry_run=dry_run))
