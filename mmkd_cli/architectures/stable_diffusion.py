"""Stable Diffusion 1.x and 2.x in diffusers' layout: a folder or hub id, opened part by part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmkd_cli.architectures.transformers_folder import TOKENIZER_FILES, load_pretrained, open_tokenizer, read_json
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.core.hub import NAME_THE_FOLDER, hub_file

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
VERSIONS = Path(__file__).parents[1] / "assets" / "stable-diffusion" / "versions.json"
"""The published layouts: sizes that are known where no file is at hand."""
_CONFIGS = {"scheduler": "scheduler_config.json"}
_WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


class StableDiffusion:
    """weights: a folder or hub id of diffusers, None for the published one of `version`. Nothing is read before use."""

    def __init__(self, weights: str | None, version: str) -> None:
        self._known = json.loads(VERSIONS.read_text(encoding="utf-8"))
        self.name = weights or self._known["repositories"][version]
        published = {repository: number for number, repository in self._known["repositories"].items()}
        self._version = published.get(self.name)
        self._local = Path(self.name).is_dir()
        self._configs: dict[str, dict[str, Any]] = {}

    # ------------------------------------------------------------------------------------------ sizes
    def config(self, part: str) -> dict[str, Any]:
        """unet, vae or text_encoder. Of a published one whose files are not here: its sizes alone."""
        if part not in self._configs:
            sizes = self._published(part)
            self._configs[part] = read_json(self.file(part, _config(part))) if sizes is None else sizes
        return self._configs[part]

    def _published(self, part: str) -> dict[str, Any] | None:
        if self._version is None or self._local:
            return None
        sizes: dict[str, Any] = self._known[part]
        sizes = sizes.get(self._version.partition(".")[0], sizes)
        return {**sizes, "sample_size": self._known["sample_size"][self._version]} if part == "unet" else sizes

    @property
    def text_shape(self) -> tuple[int, int]:
        """Tokens, width."""
        config = self.config("text_encoder")
        return int(config["max_position_embeddings"]), int(config["hidden_size"])

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height, width of what the UNet denoises."""
        config = self.config("unet")
        size, kind = config["sample_size"], config.get("_class_name", "UNet2DConditionModel")
        channels = {int(config["in_channels"]), int(self.config("vae")["latent_channels"])}
        if kind != "UNet2DConditionModel" or not isinstance(size, int) or len(channels) > 1:
            raise UserError(
                f"{self.name}: its {kind} denoises {sorted(channels)} channels of {size}: name a text-to-image Stable "
                "Diffusion 1.x or 2.x"
            )
        return channels.pop(), size, size

    @property
    def picture_size(self) -> int:
        """Pixels of a side, of the pictures whose latents have the UNet's size."""
        return self.latent_shape[1] * 2 ** (len(self.config("vae")["block_out_channels"]) - 1)

    def parameters_count(self) -> int:
        """Of UNet, VAE and text encoder."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        with torch.device("meta"):
            parts = (
                UNet2DConditionModel.from_config(self.config("unet")),
                AutoencoderKL.from_config(self.config("vae")),
                CLIPTextModel(CLIPTextConfig(**self.config("text_encoder"))),
            )
        return sum(parameter.numel() for part in parts for parameter in part.parameters())

    # ------------------------------------------------------------------------------------------ files
    def file(self, part: str, *names: str) -> Path:
        """The first of `names` that a part's folder has; from the hub where the name is an id."""
        if not self._local:
            if self.name.startswith((".", "/", "~")) or self.name.count("/") > 1:
                raise UserError(f"{self.name} is not there: name a folder that diffusers wrote, or a hub's id")
            return hub_file(self.name, tuple(f"{part}/{name}" for name in names), NAME_THE_FOLDER)
        folder = Path(self.name) / part
        for name in names:
            if (folder / name).is_file():
                return folder / name
        raise UserError(f"{folder / names[0]} is not there: name a folder that diffusers wrote")

    def files(self, part: str) -> list[Path]:
        """All that decides what a part computes."""
        if part == "tokenizer":
            return self._tokenizer_files()
        config = self.file(part, _config(part))
        return [config, self._weights(part)] if part in _WEIGHTS else [config]

    def identity(self, memory: Path | None = None) -> dict[str, dict[str, str]]:
        """Part -> file -> SHA-256."""
        return {part: {file.name: sha256_file(file, memory) for file in self.files(part)} for part in PARTS}

    def _weights(self, part: str) -> Path:
        stem = _WEIGHTS[part]
        return self.file(part, f"{stem}.safetensors", f"{stem}.fp16.safetensors")

    def _tokenizer_files(self) -> list[Path]:
        found = []
        for name in TOKENIZER_FILES:
            try:
                found.append(self.file("tokenizer", name))
            except UserError:
                continue
        if not {"tokenizer.json", "vocab.json"} & {file.name for file in found}:
            self.file("tokenizer", "vocab.json")  # says what is missing
        return found

    # ------------------------------------------------------------------------------------------ loading
    def tokenizer(self) -> Any:
        return open_tokenizer(self._tokenizer_files()[0].parent)

    def load_text_encoder(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        from transformers import CLIPTextModel

        file = self._weights("text_encoder")
        self.file("text_encoder", "config.json")
        model: nn.Module = load_pretrained(CLIPTextModel, file.parent, variant=_variant(file))
        return model.to(dtype)

    def load_vae(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        from diffusers import AutoencoderKL

        return self._load(AutoencoderKL, "vae", dtype)

    def load_unet(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        from diffusers import UNet2DConditionModel

        return self._load(UNet2DConditionModel, "unet", dtype)

    def scheduler(self) -> Any:
        """Diffusers' DDPM scheduler with the published betas and kind of prediction, whatever sampler was published."""
        from diffusers import DDPMScheduler

        return DDPMScheduler.from_config(read_json(self.file("scheduler", _config("scheduler"))))

    def _load(self, model_class: Any, part: str, dtype: torch.dtype) -> nn.Module:
        file = self._weights(part)
        self.file(part, "config.json")
        try:
            model, report = model_class.from_pretrained(
                file.parent, local_files_only=True, use_safetensors=True, variant=_variant(file), torch_dtype=dtype,
                output_loading_info=True,
            )  # fmt: skip
        except (OSError, ValueError, RuntimeError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"{file.parent} does not load as {model_class.__name__}: {first}") from None
        if missing := sorted(report["missing_keys"]):
            raise UserError(
                f"{file.parent} does not fit {model_class.__name__}: {len(missing)} weights missing, the first "
                f"{missing[0]!r}: name a folder of that model"
            )
        loaded: nn.Module = model
        return loaded


def _config(part: str) -> str:
    return _CONFIGS.get(part, "config.json")


def _variant(file: Path) -> str | None:
    return "fp16" if file.name.endswith(".fp16.safetensors") else None
