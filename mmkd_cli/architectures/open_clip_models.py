"""open_clip's models by name and weights, with the activation that the weights were trained with.

OpenAI's weights were trained with QuickGELU. open_clip loads them into a plain-GELU architecture with a warning only,
and the model is then quietly worse; here it is an error that names the right architecture.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import CLIP, CustomTextCLIP, convert_to_custom_text_state_dict
from open_clip.transform import PreprocessCfg
from safetensors.torch import save_file
from torch import Tensor, nn

from mmkd_cli.architectures.state_dicts import load_strictly, read_state_dict
from mmkd_cli.architectures.transformers_folder import TOKENIZER_FILES, read_json
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.core.hub import hub_file
from mmkd_cli.core.paths import write_json
from mmkd_cli.data.pictures import Transform

OPENAI_ENTRIES = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's own files keep among the weights."""
CONFIG = "open_clip_config.json"
FOLDER_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class OpenClipModel:
    """An open_clip architecture (a name, `local-dir:FOLDER` or `hf-hub:ID`) with weights (a file or a tag)."""

    image_parts: tuple[str, ...] = ("visual.",)

    def __init__(self, arch: str, weights: str | None) -> None:
        self.arch, self.weights = arch, weights
        self.config = _config(arch)
        self.tag = open_clip.get_pretrained_cfg(arch, weights) if weights else {}
        if weights and not self.tag and not Path(weights).is_file():
            tags = open_clip.list_pretrained_tags_by_model(arch)
            raise UserError(
                f"weights {weights!r}: neither a file nor a tag of open_clip's {arch}{nearest(weights, tags)}"
            )
        self._check_activation()

    def _check_activation(self) -> None:
        quick = bool(self.config["model_cfg"].get("quick_gelu", False))
        if self.tag:
            wanted = bool(self.tag.get("quick_gelu", False))
        elif self.weights and _is_openais(Path(self.weights)):
            wanted = True
        else:
            return
        if wanted == quick:
            return
        right = f"{self.arch}-quickgelu" if wanted else self.arch.removesuffix("-quickgelu")
        trained = "QuickGELU" if wanted else "GELU"
        raise UserError(
            f"weights {self.weights} were trained with {trained}, {self.arch} computes another activation: "
            f"name the architecture {right}"
        )

    def file(self) -> Path:
        """The file of the weights: the one named, the folder's, or the hub's."""
        if self.weights and not self.tag:
            return Path(self.weights)
        schema, _, place = self.arch.partition(":")
        if schema in ("local-dir", "hf-hub") and place:
            folder = Path(place)
            for name in FOLDER_WEIGHTS:
                if schema == "local-dir" and (folder / name).is_file():
                    return folder / name
            if schema == "local-dir":
                raise UserError(f"{folder} holds no {FOLDER_WEIGHTS[0]}: put the weights there")
            return hub_file(place, FOLDER_WEIGHTS)
        if not self.weights:
            raise UserError(f"open_clip's {self.arch} has no default weights: name a file or a tag by --weights")
        known = Path.home() / ".cache" / "clip" / Path(self.tag.get("url", "")).name
        if known.is_file():
            return known
        repository, _, name = self.tag.get("hf_hub", "").rpartition("/")
        if not repository:
            raise UserError(f"tag {self.weights!r} of {self.arch}: get {known.name}, and name it by --weights FILE")
        return hub_file(repository, (name,) if name else FOLDER_WEIGHTS)

    def build(self) -> nn.Module:
        """The model with random weights. Its config is open_clip's own; towers of other libraries load no weights."""
        config = deepcopy(self.config["model_cfg"])
        if "timm_model_name" in config["vision_cfg"]:
            config["vision_cfg"]["timm_model_pretrained"] = False
        if "hf_model_name" in config["text_cfg"]:
            config["text_cfg"]["hf_model_pretrained"] = False
        custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
        kind = open_clip.CoCa if "multimodal_cfg" in config else CustomTextCLIP if custom else CLIP
        try:
            return kind(**config)
        except OSError as error:
            first = str(error).strip().splitlines()[0]
            raise UserError(f"open_clip's {self.arch} needs files of a hub that is out of reach: {first}") from None

    def load(self) -> nn.Module:
        """The model with its weights, nothing missing and nothing left over."""
        file, model = self.file(), self.build()
        state = _read(file)
        state = convert_state_dict(model, state)
        if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
            state = convert_to_custom_text_state_dict(state)
        state.pop("text.transformer.embeddings.position_ids", None)
        scale: Any = model.logit_scale
        if "logit_scale" in state and state["logit_scale"].ndim != scale.ndim:
            state["logit_scale"] = state["logit_scale"].reshape(scale.shape)
        load_strictly(model, state, f"open_clip's {self.arch}", file)
        return model

    def embed_images(self, model: Any, pixels: Tensor) -> Tensor:
        """Normalised pixels [B, 3, H, W] -> [B, D], not normalised."""
        return model.encode_image(pixels.contiguous(memory_format=torch.channels_last))  # convolutions are faster so

    @property
    def cls_width(self) -> int:
        """Of a plain vision transformer; a ResNet, or another library's tower, has no CLS before its projection."""
        vision = self.config["model_cfg"]["vision_cfg"]
        plain = isinstance(vision.get("layers", 12), int) and "timm_model_name" not in vision
        if not plain or vision.get("pool_type", "tok") != "tok" or vision.get("attentional_pool", False):
            raise UserError(f"the image tower of open_clip's {self.arch} has no CLS: set method.embedding=projected")
        return int(vision.get("width", 768))

    def embed_images_with_cls(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised pixels [B, 3, H, W] -> embedding [B, D], CLS behind the last norm [B, W]."""
        said = model.visual.forward_intermediates(
            pixels, indices=1, normalize_intermediates=True, output_fmt="NLC", output_extra_tokens=True
        )
        return said["image_features"], said["image_intermediates_prefix"][-1][:, 0]

    def embed_texts(self, model: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids [B, L] -> [B, D], not normalised. open_clip finds the end token by itself."""
        return model.encode_text(input_ids)

    def _text_tower(self, model: Any) -> Any:
        tower = getattr(model, "text", model)
        if not hasattr(tower, "token_embedding"):
            raise UserError(f"the text tower of open_clip's {self.arch} is another library's: name a CLIP with its own")
        return tower

    def token_embeddings(self, model: Any) -> Tensor:
        """The text tower's table [V, W]."""
        return self._text_tower(model).token_embedding.weight

    def text_positions(self, model: Any) -> int:
        return int(self._text_tower(model).positional_embedding.shape[0])

    def run_text_blocks(self, model: Any, embedded: Tensor, bias: Tensor) -> Tensor:
        """Embedded tokens [B, L, W], attention bias [B, L, L] -> states [B, L, W] behind the last norm."""
        tower = self._text_tower(model)
        heads = tower.transformer.resblocks[0].attn.num_heads
        embedded = embedded + tower.positional_embedding[: embedded.shape[1]]
        return tower.ln_final(tower.transformer(embedded, attn_mask=bias.repeat_interleave(heads, dim=0)))

    @cached_property
    def picture_transform(self) -> Transform:
        """open_clip's evaluation transform of these weights."""
        given = {**vars(PreprocessCfg()), **self.config.get("preprocess_cfg", {})}
        given |= {name: value for name, value in self.tag.items() if name in given}
        size = self.config["model_cfg"]["vision_cfg"].get("image_size", 224)
        size = size if isinstance(size, int) else size[0]
        if given["resize_mode"] not in ("shortest", "squash"):
            raise UserError(f"open_clip's resize mode {given['resize_mode']!r} of {self.arch} is not supported")
        return Transform(
            (size, size), given["resize_mode"], size, given["interpolation"], tuple(given["mean"]), tuple(given["std"])
        )

    @cached_property
    def tokenize(self) -> OpenClipTokenizer:
        return OpenClipTokenizer(self.arch)

    @property
    def embedding_width(self) -> int:
        return int(self.config["model_cfg"]["embed_dim"])

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """The model's config, SHA-256 of its weights, transform and tokenizer."""
        return {
            "library": "open_clip",
            "config": self.config["model_cfg"],
            "weights_sha256": sha256_file(self.file(), memory),
            "transform": self.picture_transform.identity(),
            "tokenizer": self.tokenize.identity(),
        }

    def files(self) -> dict[str, str]:
        """arch, weights -> the file that decides it; an architecture's name is its own."""
        schema, _, place = self.arch.partition(":")
        arch = str(Path(place) / CONFIG) if schema == "local-dir" else self.arch
        return {"arch": arch, "weights": str(self.file())}

    def save(self, model: nn.Module, folder: Path) -> None:
        """Weights and configuration as `open_clip.create_model("local-dir:FOLDER")` reads them.

        The weights alone are what `create_model(ARCH, pretrained=FILE)` reads.
        """
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        save_file(state, folder / FOLDER_WEIGHTS[0], metadata={"format": "pt"})
        seen = self.picture_transform
        preprocess = {"mean": list(seen.mean), "std": list(seen.std), "interpolation": seen.interpolation,
                      "resize_mode": seen.resize}  # fmt: skip
        write_json(folder / CONFIG, {"model_cfg": self.config["model_cfg"], "preprocess_cfg": preprocess})
        schema, _, place = self.arch.partition(":")
        for file in (Path(place) / name for name in TOKENIZER_FILES):
            if schema == "local-dir" and file.is_file():
                shutil.copyfile(file, folder / file.name)


class OpenClipTokenizer:
    """open_clip's tokenizer of an architecture, with the mask that the contract of `Tokenize` asks for."""

    def __init__(self, arch: str) -> None:
        self.arch = arch
        try:
            self._tokenizer = open_clip.get_tokenizer(arch)
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise UserError(f"the tokenizer of open_clip's {arch} is not on this machine: {first}") from None

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """input_ids, attention_mask int64 [B, L]: 1 up to and with the end token."""
        ids = self._tokenizer(list(texts))
        return {"input_ids": ids, "attention_mask": self._mask(ids)}

    def _mask(self, ids: Tensor) -> Tensor:
        end = getattr(self._tokenizer, "eot_token_id", None)
        if end is None:
            return (ids != (self._tokenizer.tokenizer.pad_token_id or 0)).long()
        ended = (ids == end).long().cumsum(1)
        return ((ended == 0) | ((ended == 1) & (ids == end))).long()

    def identity(self) -> dict[str, Any]:
        """Kind, length, and the files of a tokenizer that comes with its model; the rest is the model's config."""
        _, _, place = self.arch.partition(":")
        files = [Path(place) / name for name in TOKENIZER_FILES] if place else []
        return {
            "kind": type(self._tokenizer).__name__,
            "max_tokens": int(self._tokenizer.context_length),
            "files": {file.name: sha256_file(file) for file in files if file.is_file()},
        }


def _config(arch: str) -> dict[str, Any]:
    """{"model_cfg", "preprocess_cfg"} of a name or a folder."""
    schema, _, place = arch.partition(":")
    if place and schema in ("local-dir", "hf-hub"):
        content = read_json(Path(place) / CONFIG if schema == "local-dir" else hub_file(place, (CONFIG,)))
        if not isinstance(content.get("model_cfg"), dict):
            raise UserError(f"{arch}: {CONFIG} has no table 'model_cfg': name a folder that open_clip wrote")
        return content
    config = open_clip.get_model_config(arch)
    if config is None:
        raise UserError(f"open_clip has no architecture {arch!r}{nearest(arch, open_clip.list_models())}")
    return {"model_cfg": config}


def _is_openais(file: Path) -> bool:
    """Whether a file holds OpenAI's weights: by its name, its TorchScript form, or the numbers among its weights."""
    if "openai" in file.name.lower() or file.parent.name.lower().endswith(".openai"):
        return True
    if _is_torchscript(file):
        return True
    return any(name in read_state_dict(file, device="meta") for name in OPENAI_ENTRIES)


def _is_torchscript(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read(file: Path) -> dict[str, Tensor]:
    if _is_torchscript(file):
        raise UserError(
            f"{file} is a TorchScript program, which is not run: use the tag openai, or keep its state_dict alone "
            "(torch.jit.load(FILE).state_dict(), written by safetensors)"
        )
    state = read_state_dict(file)
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return {name: value for name, value in state.items() if name not in OPENAI_ENTRIES}
