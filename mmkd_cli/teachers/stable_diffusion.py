"""Stable Diffusion as a teacher: what its text encoder and its VAE say. Its UNet's score is no signal.

The UNet's answer depends on the latent that the student proposes, and so on the student: no cache can hold it. The
method that needs it (`sds`) runs the UNet itself, from the same files.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mmkd_cli.architectures.stable_diffusion import StableDiffusion
from mmkd_cli.architectures.transformers_clip import FixedLength
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, SignalSpec, Tokenize
from mmkd_cli.data.pictures import Transform

NOT_CACHEABLE = "the UNet's score depends on the student and can't be cached: `distill --method sds` runs it live"


class StableDiffusionConfig(Config):
    """A model in diffusers' layout."""

    name: str = key("stable-diffusion", f"the teacher; {NOT_CACHEABLE}")
    weights: str | None = key(
        None, "a folder or hub id of diffusers (none: the published one of `version`)", identity=False
    )
    version: Literal["1.4", "1.5", "2.1-base", "2.1"] = key(
        "1.4", "the published model, where no weights are named", source="[U] the papers name none", identity=False
    )


class StableDiffusionTeacher:
    """`text_states` of captions, `latents` of pictures: the VAE's mean times its scaling factor.

    Each part is loaded when a signal of it is first asked for: a cache of text states alone reads no VAE.
    """

    Config: ClassVar[type] = StableDiffusionConfig
    not_cacheable: ClassVar[str] = NOT_CACHEABLE

    def __init__(self, config: StableDiffusionConfig) -> None:
        self.config = config
        self.diffusion = StableDiffusion(config.weights, config.version)
        self.loaded: dict[str, Any] = {}
        """Part -> its module, of the parts that were needed so far."""
        self._device: str | None = None
        self._dtype = torch.float32

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of the files of all parts, the UNet's and the scheduler's too; how pictures are seen."""
        return {"files": self.diffusion.identity(memory), "transform": self.picture_transform.identity()}

    def signals(self) -> dict[str, SignalSpec]:
        return {
            "text_states": SignalSpec("text_states", "texts", self.diffusion.text_shape),
            "latents": SignalSpec("latents", "images", self.diffusion.latent_shape),
        }

    @cached_property
    def picture_transform(self) -> Transform:
        """Short side and centre crop to the model's size, pixels from -1 to 1; resampled as diffusers' own pipelines
        do."""
        size = self.diffusion.picture_size
        return Transform((size, size), "shortest", size, "lanczos", (0.5,) * 3, (0.5,) * 3)

    @cached_property
    def tokenize(self) -> Tokenize:
        return FixedLength(self.diffusion.tokenizer(), self.diffusion.text_shape[0])

    def parameters_count(self) -> int:
        """Of UNet, VAE and text encoder."""
        return self.diffusion.parameters_count()

    def load(self, device: str, dtype: str = "float32") -> None:
        """Where parts will go, and in which precision; each is read when it is first needed."""
        self._device, self._dtype = device, getattr(torch, dtype)

    @torch.no_grad()
    def __call__(self, batch: Batch, signals: Sequence[str]) -> dict[str, Tensor]:
        said = {}
        if "text_states" in signals:
            encoder = self._part("text_encoder")
            said["text_states"] = encoder(batch["input_ids"].to(encoder.device)).last_hidden_state
        if "latents" in signals:
            vae = self._part("vae")
            pixels = self.picture_transform.normalize(batch["pixels"].to(vae.device), self._dtype)
            said["latents"] = vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor
        return said

    def _part(self, name: str) -> Any:
        if self._device is None:
            raise RuntimeError("Teacher.load comes before the first call")
        if name not in self.loaded:
            made: Any = getattr(self.diffusion, f"load_{name}")(self._dtype)
            if name == "vae":
                made.enable_slicing()  # picture by picture: its activations are a hundred times a picture's size
            self.loaded[name] = made.eval().requires_grad_(False).to(self._device)
        return self.loaded[name]
