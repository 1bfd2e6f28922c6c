"""Which parameters of a CLIP are trained: its norms, LoRA beside its linear maps, or all."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

Tune = Literal["norms", "norms+batchnorm", "image-norms", "lora", "all"]
SCALES = ("logit_scale", "logit_bias")
_IN_A_BLOCK = re.compile(r"\.(resblocks|layers)\.\d+\.")


def tune(model: nn.Module, how: Tune, image_parts: Sequence[str], lora_rank: int, scale: bool) -> None:
    """Leave gradients to what `how` names, and to nothing else; `lora` adds its own parameters to the model.

    image_parts: prefixes of the image tower's names. scale: whether the logit scale is trained, too.
    """
    model.requires_grad_(how == "all")
    if how == "lora":
        _add_lora(model, lora_rank)
    elif how != "all":
        for name, module in model.named_modules():
            norm = isinstance(module, nn.LayerNorm) and (how != "image-norms" or is_image_part(name, image_parts))
            if norm or (how == "norms+batchnorm" and isinstance(module, nn.modules.batchnorm._BatchNorm)):
                module.requires_grad_(True)
    for name, parameter in model.named_parameters():
        if name in SCALES:
            parameter.requires_grad_(scale and name == "logit_scale")


def is_image_part(name: str, image_parts: Sequence[str]) -> bool:
    """Whether a parameter or module of this name belongs to the image tower."""
    return name.startswith(tuple(image_parts))


def _add_lora(model: nn.Module, rank: int) -> None:
    """A low-rank map beside each linear map of the transformers' blocks (LoRA, arXiv 2106.09685), by peft.

    open_clip's attention keeps its four maps in one module that peft can only merge and unmerge around each forward
    pass, which rounds the frozen weights anew every time: there the two maps of the feed-forward alone are adapted.
    """
    from peft import LoraConfig, inject_adapter_in_model

    names = [name for name, module in model.named_modules() if type(module) is nn.Linear and _IN_A_BLOCK.search(name)]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=names), model)


def merged(model: nn.Module) -> nn.Module:
    """The model without LoRA modules, what they say added to the weights; itself where it has none."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if not any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        return model
    plain = copy.deepcopy(model)
    for name, module in list(plain.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            base: Any = module.get_base_layer()
            setattr(plain.get_submodule(parent), child, base)
    return plain
