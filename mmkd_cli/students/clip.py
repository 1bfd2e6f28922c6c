"""CLIP as a student: any model of open_clip or transformers, with a map from its pictures to latents beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkd_cli.architectures.clip_models import ClipModel, clip_model, saved_clip
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, PictureTransform, Teacher, Tokenize
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.students.alignment import save_heads
from mmkd_cli.students.token_path import TokenPath, mean_of_pieces, token_texts
from mmkd_cli.students.tuning import Tune, is_image_part, merged, tune

Embedding = Literal["projected", "cls"]
INITIAL_DEVIATION = 0.02


class ClipConfig(Config):
    """Keys of the student `clip`. The files that they name enter the request by their content."""

    name: str = key("clip", "the student")
    arch: str | None = key(
        None, "open_clip's name (`ViT-B-32-quickgelu` for OpenAI's weights), `local-dir:FOLDER`; none: transformers",
        identity=False,
    )  # fmt: skip
    weights: str | None = key(
        None, "with an architecture its file or tag; without one a folder or id of transformers", identity=False
    )


class LatentMap(nn.Module):
    """h_w: a linear map of CLIP's vector of a picture to a latent that a diffusion model denoises."""

    def __init__(self, width: int, shape: tuple[int, int, int], embedding: Embedding, normalize: bool) -> None:
        super().__init__()
        self.shape, self.embedding, self.normalize = shape, embedding, normalize
        self.linear = nn.Linear(width, shape[0] * shape[1] * shape[2])
        nn.init.normal_(self.linear.weight, std=INITIAL_DEVIATION)
        nn.init.zeros_(self.linear.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """[B, width] -> [B, C, h, w], in float32."""
        with torch.autocast(vectors.device.type, enabled=False):
            vectors = vectors.float()
            latents = self.linear(F.normalize(vectors, dim=1) if self.normalize else vectors)
        return latents.view(-1, *self.shape)

    def about(self) -> dict[str, Any]:
        """What heads.safetensors says of it."""
        return {"shape": list(self.shape), "embedding": self.embedding, "normalize": self.normalize}


class Embedded(NamedTuple):
    """Of pairs: embeddings [B, D] that are not normalised, and latents [B, C, h, w] where they were asked for."""

    image: Tensor
    text: Tensor
    latents: Tensor | None


class Clip(nn.Module):
    """Both towers, as their library builds them, and what is trained of them (`core.contracts.DualEncoder`).

    Batch norms use their stored statistics, in training too: these are no parameters, and a fine-tuning batch is small.
    """

    Config: ClassVar[type] = ClipConfig
    image_signal: str | None = None
    layers: tuple[str, ...] = ("embedding",)

    def __init__(self, library: ClipModel, model: nn.Module) -> None:
        super().__init__()
        self.library, self.clip = library, model
        self.latent_map: LatentMap | None = None
        self.token_path: TokenPath | None = None
        self._loaded_from: Path | None = None

    # ------------------------------------------------------------------------------------------ making
    @classmethod
    def build(cls, config: ClipConfig) -> Self:
        """The model with the weights that the configuration names."""
        library = clip_model(config.arch, config.weights, "student")
        return cls(library, library.load())

    @classmethod
    def empty(cls, config: ClipConfig) -> Self:
        """The model on the meta device; of weights with an architecture not even the file need be there."""
        library = clip_model(config.arch, None if config.arch else config.weights, "student")
        with torch.device("meta"):
            return cls(library, library.build())

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], teacher: Teacher | None = None) -> Self:
        """The tuned model of a run's folder, without its latent map: its library opens `model/` in the same way."""
        library = saved_clip(folder / "model")
        student = cls(library, library.load())
        student._loaded_from = folder
        return student.eval()

    @staticmethod
    def files(config: ClipConfig) -> dict[str, str]:
        """Key -> file, folder or name whose content decides the first weights."""
        found = clip_model(config.arch, config.weights, "student").files()
        return {f"student.{name}": place for name, place in found.items()}

    def map_to_latents(self, shape: tuple[int, int, int], embedding: Embedding, normalize: bool) -> None:
        """Add h_w; where it starts from the CLS, the image tower must have one."""
        width = self.library.cls_width if embedding == "cls" else self.library.embedding_width
        self.latent_map = LatentMap(width, shape, embedding, normalize)

    def read_tokens(self, tokenizer: Any, size: int, causal: bool) -> None:
        """Add a path for another tokenizer's `size` tokens (students.token_path); None: its table is not begun."""
        embeddings = self.library.token_embeddings(self.clip)
        if tokenizer is None:
            table = torch.empty((size, embeddings.shape[1]), device=embeddings.device)
        else:
            table = mean_of_pieces(token_texts(tokenizer, size), self.tokenize, embeddings.detach())
        self.token_path = TokenPath(table, causal)

    def token_logits(self, ids: Tensor, attention_mask: Tensor, places: Tensor) -> Tensor:
        """ids, attention_mask int64 [B, L] of the other tokenizer, places bool [B, L] -> [T, V] at the places."""
        assert self.token_path is not None
        return self.token_path(self.library, self.clip, ids, attention_mask, places)

    def tune(self, how: Tune, lora_rank: int, scale: bool) -> None:
        """Leave gradients to a part of CLIP (students.tuning); UserError where it has no such part."""
        tune(self.clip, how, self.library.image_parts, lora_rank, scale)
        if not self.tuned():
            raise UserError(f"method.tune={how}: this CLIP has no such parameters, nothing of it would be trained")

    # ------------------------------------------------------------------------------------------ parameters
    def tuned(self) -> list[nn.Parameter]:
        """CLIP's parameters that are trained (not the latent map's)."""
        return [parameter for parameter in self.clip.parameters() if parameter.requires_grad]

    def tunes_pictures(self) -> bool:
        """Whether any parameter of the image tower is trained."""
        named = self.clip.named_parameters()
        return any(p.requires_grad and is_image_part(name, self.library.image_parts) for name, p in named)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    # ------------------------------------------------------------------------------------------ running
    def forward(self, batch: Batch, latents: bool = False) -> Embedded:
        """batch: pixels uint8 [B, 3, H, W], input_ids and attention_mask [B, L]. latents: whether h_w is asked."""
        text = self.library.embed_texts(self.clip, batch["input_ids"], batch["attention_mask"])
        pixels = self.picture_transform.normalize(batch["pixels"], torch.float32)
        if not latents or self.latent_map is None:
            return Embedded(self.library.embed_images(self.clip, pixels), text, None)
        if self.latent_map.embedding == "cls":
            image, cls = self.library.embed_images_with_cls(self.clip, pixels)
            return Embedded(image, text, self.latent_map(cls))
        image = self.library.embed_images(self.clip, pixels)
        return Embedded(image, text, self.latent_map(image))

    @property
    def logit_scale(self) -> Tensor:
        """The factor of the contrastive loss, a scalar."""
        log_scale: Any = self.clip.logit_scale
        return log_scale.exp().reshape(())

    # ------------------------------------------------------------------------------------------ dual encoder
    def identity(self) -> dict[str, Any]:
        assert self._loaded_from is not None, "a student is identified by its folder"
        return {"student": "clip", "model": sha256_file(self._loaded_from / "model")}

    @property
    def picture_transform(self) -> PictureTransform:
        return self.library.picture_transform

    @property
    def tokenize(self) -> Tokenize:
        return self.library.tokenize

    @torch.no_grad()
    def embed_images(self, batch: Batch, layer: str | None = None) -> Tensor:
        """[B, D] of pixels."""
        self._check_layer(layer)
        pixels = self.picture_transform.normalize(batch["pixels"].to(self._device), torch.float32)
        return self.library.embed_images(self.clip, pixels)

    @torch.no_grad()
    def embed_texts(self, batch: Batch, layer: str | None = None) -> Tensor:
        """[B, D] of token ids."""
        self._check_layer(layer)
        tokens = {name: batch[name].to(self._device) for name in ("input_ids", "attention_mask")}
        return self.library.embed_texts(self.clip, **tokens)

    def save(self, folder: Path) -> None:
        """Write model/ in its library's layout (LoRA merged) and, with a latent map or tokens, heads.safetensors."""
        self.library.save(merged(self.clip), folder / "model")
        if self.latent_map is not None:
            named = {f"latent_map.{name}": value for name, value in self.latent_map.linear.state_dict().items()}
            save_heads(folder, named, self.latent_map.about())
        if self.token_path is not None:
            save_heads(folder, {"token_path.table": self.token_path.table}, {"causal": self.token_path.causal})

    @property
    def _device(self) -> torch.device:
        return next(self.clip.parameters()).device

    def _check_layer(self, layer: str | None) -> None:
        if layer is not None and layer not in self.layers:
            raise UserError(f"layer {layer!r} is not one of this student's{nearest(layer, self.layers)}")
