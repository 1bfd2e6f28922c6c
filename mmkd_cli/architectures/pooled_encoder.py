"""A classifier on data2vec 2.0's image model, and on any model of timm: the mean of patches, a norm, a linear layer.

Source: public repository TimCares/EV-LP, src/models/image_classification.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from mmkd_cli.architectures.d2v2 import IMAGE_EPS, ImageEncoder
from mmkd_cli.architectures.state_dicts import read_state_dict
from mmkd_cli.architectures.timm_source import TimmSource, load_timm
from mmkd_cli.core.errors import UserError

NEW_WEIGHT_STD = 0.02
"""Of a new linear layer ([C])."""


class PooledEncoder(nn.Module):
    """An image model whose patches' mean, without the class token, is classified. Its parts are as timm asks."""

    def __init__(self, encoder: ImageEncoder, classes: int) -> None:
        super().__init__()
        width = encoder.sizes.width
        self.encoder, self.norm = encoder, nn.LayerNorm(width, eps=IMAGE_EPS)
        self.head = nn.Linear(width, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [B, 3, H, W] -> logits [B, classes]."""
        return self.head(self.norm(self.encoder(pixels)[:, 1:].mean(dim=1)))

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """What layer a parameter is of, by its name; norm and head are the last."""
        return {"stem": r"^encoder\.embed", "blocks": [(r"^encoder\.blocks\.(\d+)", None)]}

    def no_weight_decay(self) -> set[str]:
        return {"encoder.embed.cls_token"}


def head_of(model: Any) -> list[nn.Module]:
    """What a linear probe trains: the linear layer, and the norm between it and the pooling where there is one."""
    if isinstance(model, PooledEncoder):
        return [model.norm, model.head]
    norm = getattr(model, "fc_norm", None)
    return [*_linear(model), *([norm] if norm is not None else [])]


def _linear(model: Any) -> list[nn.Module]:
    found = model.head if isinstance(model, PooledEncoder) else model.get_classifier()
    return [*found] if isinstance(found, Sequence) else [found]


def new_head(model: Any) -> None:
    """A linear layer N(0, 0.02), cut at two, bias 0."""
    for layer in _linear(model):
        nn.init.trunc_normal_(layer.weight, std=NEW_WEIGHT_STD)  # type: ignore[arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def timm_classifier(source: TimmSource, classes: int, pretrained: bool) -> nn.Module:
    """A timm model with a new head of so many classes; where it classifies a class token, its patches' mean instead.

    The norm that such a model's weights have after the last block goes on as the one after the mean.
    """
    with torch.device("meta"):
        usual = getattr(source.build(), "global_pool", None)
    arguments = {name: value for name, value in source.arguments.items() if name != "num_classes"}
    arguments |= {"num_classes": classes, **({"global_pool": "avg"} if usual == "token" else {})}
    model: Any = timm.create_model(source.name, pretrained=False, **arguments)
    if pretrained:
        file, whole = source.weights_file(), source.build()
        load_timm(whole, read_state_dict(file, stand_ins=True), f"timm's {source.name}", file)
        linear = {id(parameter) for part in _linear(model) for parameter in part.parameters()}
        wanted = [name for name, value in model.state_dict(keep_vars=True).items() if id(value) not in linear]
        state = {_moved(name, model): value for name, value in whole.state_dict().items()}
        if missing := [name for name in wanted if name not in state]:
            raise UserError(f"timm's {source.name} has no weights for {missing[0]!r} when its tokens are averaged: "
                            "name another architecture")  # fmt: skip
        model.load_state_dict({name: state[name] for name in wanted}, strict=False)
    new_head(model)
    return model


def _moved(name: str, model: Any) -> str:
    """Where a Transformer's last norm goes: after the mean, if that is where the model has one."""
    after = name.startswith("norm.") and isinstance(getattr(model, "norm", None), nn.Identity)
    return f"fc_{name}" if after else name
