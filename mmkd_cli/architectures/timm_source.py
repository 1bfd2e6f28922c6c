"""Where a timm model comes from: a registered name and tag, a folder that timm wrote, or a file of weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from mmkd_cli.architectures.state_dicts import load_strictly, misfit, read_state_dict
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.core.hub import hub_file

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmSource:
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
    def of(cls, arch: str, weights: str | None) -> TimmSource:
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
        weight = read_state_dict(file, stand_ins=True, device="meta").get(f"{first}.weight")
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
        raise UserError(f"timm model {arch!r}: {folder} holds no config.json: name a folder that timm wrote") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / 'config.json'} is not timm's: {error!r}: name a folder that timm wrote") from None
    if not timm.is_model(name):
        raise UserError(f"{folder / 'config.json'}: timm has no model {name!r}{nearest(name, timm.list_models())}")
    return name, dict(arguments), dict(pretrained_cfg)


def load_timm(model: nn.Module, state: dict[str, Tensor], what: str, where: Path) -> None:
    """Strictly; where the keys are the authors' and not timm's, through the architecture's own mapping."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is not None and misfit(model, state):
        with suppress(KeyError, IndexError, AttributeError, RuntimeError, ValueError):  # not the authors' keys either
            state = convert(dict(state), model)
    load_strictly(model, state, what, where)
