"""preprocessor_config.json becomes the transform that transformers' own processor applies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmkd_cli.architectures.transformers_folder import folder_identity, picture_transform
from mmkd_cli.core.errors import UserError

CLIP = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True, "resample": 3}
OLD_CLIP = {"size": 32, "crop_size": 32, "do_center_crop": True, "resample": 3}
SQUASH = {"size": {"height": 32, "width": 32}, "do_center_crop": False, "resample": 2, "image_mean": [0.5, 0.4, 0.3],
          "image_std": [0.2, 0.3, 0.4]}  # fmt: skip


@pytest.mark.parametrize("config", [CLIP, SQUASH])
def test_a_picture_is_seen_as_transformers_shows_it(tmp_path: Path, config: dict[str, Any]) -> None:
    from transformers import AutoImageProcessor

    kind = "CLIPImageProcessor" if config is CLIP else "ViTImageProcessor"
    content = {"image_processor_type": kind, "do_resize": True, "do_rescale": True, "do_normalize": True, **config}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    transform = picture_transform(tmp_path, 32)
    smooth = np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)
    image = Image.fromarray(smooth).resize((90, 60), Image.Resampling.BICUBIC)
    said = transform.normalize(transform(image)[None], torch.float32)[0]
    reference = AutoImageProcessor.from_pretrained(tmp_path)(image, return_tensors="pt")["pixel_values"][0]
    assert said.shape == reference.shape
    assert (said - reference).abs().max() < 3.5 / 255 / min(transform.std)  # another library resizes there
    assert (said - reference).abs().mean() < 0.5 / 255 / min(transform.std)


def test_older_files_say_the_same_as_newer_ones(tmp_path: Path) -> None:
    found = []
    for config in (CLIP, OLD_CLIP):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
        found.append(picture_transform(tmp_path, 32))
    assert found[0] == found[1]
    (tmp_path / "preprocessor_config.json").unlink()
    assert picture_transform(tmp_path, 32) == found[0]


def test_rectangles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"height": 32, "width": 64}}')
    with pytest.raises(UserError, match=r"only squares are supported"):
        picture_transform(tmp_path, 32)


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "spm.model",
             "added_tokens.json"],
)  # fmt: skip
def test_a_tokenizer_is_all_files_that_transformers_reads(tmp_path: Path, name: str) -> None:
    """The file names are those of transformers' classes T5, Llama, XLM-R, DeBERTa-v2, and of its older format."""
    found = []
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).write_bytes(b"{}")
    for content in (b"one", b"two"):
        (tmp_path / name).write_bytes(content)
        found.append(folder_identity(tmp_path, None, tokenizer=True))
    assert found[0] != found[1]
