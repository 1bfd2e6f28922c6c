"""timm's vision models as teachers: pooled feature or CLS, logits, tokens."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import timm
import torch
from timm.data import resolve_data_config
from torch import Tensor, nn

from mmkd_cli.architectures.state_dicts import load_strictly, misfit, read_state_dict
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, SignalSpec
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.core.hub import hub_file
from mmkd_cli.data.pictures import Transform

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmConfig(Config):
    """Any timm model."""

    name: str = key("timm", "the teacher")
    arch: str = key(
        description="timm's name (`resnet50`, `resnet50.a1_in1k`), `local-dir:FOLDER` or `hf-hub:ID`", identity=False
    )
    weights: str | None = key(None, "file of weights, or timm's tag (default: the name's own tag)", identity=False)
    pool: Literal["model", "cls", "pooled"] = key(
        "model",
        "image_cls: what the model's classifier sees, the class token after the last norm, or the mean over space",
        source="[U] what its authors trained to be linear in the classes",
    )


class Timm:
    """A timm model: `image_cls`, `image_tokens` where it keeps tokens, `logits` where its weights hold a classifier."""

    Config: ClassVar[type] = TimmConfig
    default_signals: ClassVar[tuple[str, ...]] = ("image_cls",)

    def __init__(self, config: TimmConfig) -> None:
        self.config = config
        self._model: nn.Module | None = None
        self._device, self._dtype = "cpu", torch.float32

    @cached_property
    def _source(self) -> _Source:
        return _Source.of(self.config.arch, self.config.weights)

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """Architecture, its arguments, SHA-256 of the weights, transform, pooling."""
        return {
            "library": "timm",
            **self._source.identity,
            "weights_sha256": sha256_file(self._source.weights_file(), memory),
            "transform": self.picture_transform.identity(),
            "pool": self.config.pool,
        }

    @cached_property
    def _skeleton(self) -> nn.Module:
        """The model on the meta device: shapes and counts, no memory."""
        with torch.device("meta"):
            return self._source.build().eval()

    def signals(self) -> dict[str, SignalSpec]:
        with torch.device("meta"), torch.no_grad():
            said = self._say(self._skeleton, torch.empty(1, *self._data_config["input_size"]))
        return {
            name: SignalSpec(name, "images", tuple(value.shape[1:]), default=name in self.default_signals)
            for name, value in said.items()
        }

    @cached_property
    def _data_config(self) -> dict[str, Any]:
        return resolve_data_config(pretrained_cfg=self._source.pretrained_cfg)

    @cached_property
    def picture_transform(self) -> Transform:
        return Transform.from_timm(self._data_config)

    @property
    def tokenize(self) -> None:
        return None

    def parameters_count(self) -> int:
        return sum(parameter.numel() for parameter in self._skeleton.parameters())

    def load(self, device: str, dtype: str = "float32") -> None:
        file = self._source.weights_file()
        model = self._source.build()
        _load(model, read_state_dict(file), f"timm's {self._source.name}", file)
        self._device, self._dtype = device, getattr(torch, dtype)
        model = model.eval().requires_grad_(False).to(device, self._dtype)
        self._model = model.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, batch: Batch, signals: Sequence[str]) -> dict[str, Tensor]:
        if self._model is None:
            raise RuntimeError("Teacher.load comes before the first call")
        pixels = self.picture_transform.normalize(batch["pixels"].to(self._device), self._dtype)
        said = self._say(self._model, pixels.contiguous(memory_format=torch.channels_last), signals)
        return {name: said[name] for name in signals}

    def _say(self, model: Any, pixels: Tensor, signals: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Signals of normalised pixels [B, 3, H, W]; of all that the model has where none are named."""
        features = model.forward_features(pixels)
        said = {"image_cls": self._pool(model, features)}
        if features.ndim == 3:
            said["image_tokens"] = features
        if model.num_classes and (signals is None or "logits" in signals):
            said["logits"] = model.forward_head(features)
        return said

    def _pool(self, model: Any, features: Tensor) -> Tensor:
        """[B, d] of forward_features: tokens [B, n, d], or a map [B, d, h, w] (in some models [B, h, w, d])."""
        if self.config.pool == "model":
            return model.forward_head(features, pre_logits=True)
        if self.config.pool == "cls":
            if features.ndim != 3 or getattr(model, "cls_token", None) is None:
                raise UserError(
                    f"teacher.pool=cls: {self._source.name} has no class token: use pool=model or pool=pooled"
                )
            return features[:, 0]
        if features.ndim == 3:
            return features[:, getattr(model, "num_prefix_tokens", 0) :].mean(1)
        return features.mean((1, 2) if getattr(model, "output_fmt", None) == "NHWC" else (2, 3))


class DinoConfig(TimmConfig):
    """DINO's ViT: no classifier; its CLS after the final norm."""

    name: str = key("dino", "the teacher")
    arch: str = key("vit_base_patch16_224.dino", "timm's name", source="[C] TimCares/MasterThesis", identity=False)


class Dino(Timm):
    """DINO by timm (papers: Caron et al. 2021)."""

    Config: ClassVar[type] = DinoConfig


class ResNet50Config(TimmConfig):
    """Supervised ResNet-50."""

    name: str = key("resnet50", "the teacher")
    arch: str = key("resnet50.a1_in1k", "timm's name", source="[C] TimCares/MasterThesis", identity=False)


class ResNet50(Timm):
    """ResNet-50 by timm: 1,000 logits."""

    Config: ClassVar[type] = ResNet50Config
    default_signals: ClassVar[tuple[str, ...]] = ("image_cls", "logits")


class _Source:
    """Where a timm model comes from: its registered name and tag, or a folder with config.json.

    identity: architecture, tag and arguments, no path.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any], pretrained_cfg: Mapping[str, Any], folder: Path | None,
                 weights: str | None) -> None:  # fmt: skip
        self.name, self.pretrained_cfg, self.folder = name, pretrained_cfg, folder
        self.file = Path(weights) if weights else None
        self.arguments = {**arguments, **self._classes()}
        self.identity = {"arch": name.partition(".")[0], "arguments": dict(self.arguments)}

    @classmethod
    def of(cls, arch: str, weights: str | None) -> _Source:
        source, colon, rest = arch.partition(":")
        if colon and source in ("local-dir", "hf-hub"):
            folder = Path(rest) if source == "local-dir" else hub_file(rest, ("config.json",)).parent
            name, arguments, pretrained_cfg = _read_folder(folder, arch)
            return cls(name, arguments, pretrained_cfg, folder if source == "local-dir" else None, weights)
        name, _, tag = arch.partition(".")
        if not timm.is_model(name):
            raise UserError(f"timm has no model {name!r}{nearest(name, timm.list_models())}")
        tags = [entry.partition(".")[2] for entry in timm.list_pretrained(f"{name}.*")]
        if weights in tags:
            tag, weights = str(weights), None
        elif weights and not Path(weights).exists():
            raise UserError(f"weights {weights!r}: neither a file nor a tag of timm's {name}{nearest(weights, tags)}")
        if tag and tag not in tags:
            raise UserError(f"timm's {name} has no tag {tag!r}{nearest(tag, tags)}")
        full = f"{name}.{tag}" if tag else name
        return cls(full, {}, timm.models.get_pretrained_cfg(full).to_dict(), None, weights)

    def _local_file(self) -> Path | None:
        """The weights, where they are a file that was named or lies in the folder."""
        candidates = [self.file] if self.file else [self.folder / name for name in WEIGHT_FILES] if self.folder else []
        return next((file for file in candidates if file.is_file()), None)

    def _classes(self) -> dict[str, int]:
        """num_classes as weights on disk have it; 0 where they hold no classifier."""
        file = self._local_file()
        if file is None:
            return {}
        names = self.pretrained_cfg.get("classifier") or ()
        first = names if isinstance(names, str) else next(iter(names), "")
        weight = read_state_dict(file, device="meta").get(f"{first}.weight")
        return {"num_classes": 0 if weight is None else weight.shape[0]}

    def build(self) -> nn.Module:
        """The model with random weights."""
        return timm.create_model(self.name, pretrained=False, **self.arguments)

    def weights_file(self) -> Path:
        """The file of the weights: the one named, the folder's, or the hub's."""
        local = self._local_file()
        if local is not None:
            return local
        if self.file is not None:
            raise UserError(f"weights {self.file} are not there: name a file")
        if self.folder is not None:
            raise UserError(
                f"{self.folder} holds no {' or '.join(WEIGHT_FILES)}: put the weights there, or name a file"
            )
        hub = self.pretrained_cfg.get("hf_hub_id")
        if not hub:
            raise UserError(f"timm publishes no weights of {self.name}: name a file by --weights FILE")
        filename = self.pretrained_cfg.get("hf_hub_filename")
        return hub_file(hub, (filename,) if filename else WEIGHT_FILES)


def _read_folder(folder: Path, arch: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Architecture, arguments and pretrained_cfg of a folder in timm's own layout."""
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        name, arguments = content["architecture"], content.get("model_args") or {}
        pretrained_cfg = content.get("pretrained_cfg", content)
        if not (isinstance(name, str) and isinstance(arguments, dict) and isinstance(pretrained_cfg, dict)):
            raise TypeError("a field has another type")
    except FileNotFoundError:
        raise UserError(
            f"teacher.arch {arch!r}: {folder} holds no config.json: name a folder that timm wrote"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / 'config.json'} is not timm's: {error!r}: name a folder that timm wrote") from None
    if not timm.is_model(name):
        raise UserError(f"{folder / 'config.json'}: timm has no model {name!r}{nearest(name, timm.list_models())}")
    return name, dict(arguments), dict(pretrained_cfg)


def _load(model: nn.Module, state: dict[str, Tensor], what: str, where: Path) -> None:
    """Strictly; where the keys are the authors' and not timm's, through the architecture's own mapping."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is not None and misfit(model, state):
        with suppress(KeyError, IndexError, AttributeError, RuntimeError, ValueError):  # not the authors' keys either
            state = convert(dict(state), model)
    load_strictly(model, state, what, where)
