"""Linear maps into the space of the contrastive loss, in the layouts that the MM-D2V2 notes compare.

The notes (public repository TimCares/MasterThesis, docs/thesis/experiments/multimodal_knowledge_distillation.typ)
name them after their models. E: a modality's own encoder, before shared blocks; O: the student's output after them.

| layout | projections |
|---|---|
| clip | one a modality, on O |
| flava | one a modality, on E |
| vlmo | one a modality on E, and one a modality on O: two terms, averaged |
| shared | one for both modalities, on O |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from torch import Tensor, nn

from mmkd_cli.core.errors import UserError
from mmkd_cli.losses.logit_scale import new_logit_scale

Layout = Literal["clip", "flava", "vlmo", "shared"]

STAGES: Mapping[str, tuple[str, ...]] = {
    "clip": ("output",),
    "flava": ("encoder",),
    "vlmo": ("encoder", "output"),
    "shared": ("output",),
}
"""Layout -> the stages whose CLS is projected, one contrastive term each; retrieval uses the last."""

NEW_WEIGHT_STD = 0.02
"""Standard deviation of new weights (fairseq's init_bert_params)."""


class Heads(NamedTuple):
    """What a student carries beside its encoders.

    regression: whether the teacher's CLS is regressed. layout, dim: of the contrastive projections, None without them.
    """

    regression: bool
    layout: Layout | None
    dim: int | None


class Projections(nn.Module):
    """The projections of a layout, bias-free, and a learned logit scale for each of its terms.

    widths: stage -> (image width, text width); stages that the student doesn't have are absent.
    """

    def __init__(self, layout: Layout, dim: int, widths: Mapping[str, tuple[int, int]]) -> None:
        super().__init__()
        self.stages = STAGES[layout]
        self.dims: Mapping[str, int] = dict.fromkeys(self.stages, dim)
        if missing := [stage for stage in self.stages if stage not in widths]:
            raise UserError(
                f"layout {layout!r} projects the {missing[0]} before shared blocks, and this student has none: "
                "set method.layout=clip"
            )
        self.maps = nn.ModuleDict()
        self._shared = layout == "shared"
        for stage in self.stages:
            image_width, text_width = widths[stage]
            if self._shared and image_width != text_width:
                raise UserError(
                    f"layout 'shared' needs one width, the picture's is {image_width} and the text's {text_width}: "
                    "set method.layout=clip"
                )
            for modality, width in (("image", image_width), ("text", text_width)):
                name = self._name(modality, stage)
                if name not in self.maps:
                    self.maps[name] = new_linear(width, dim)
        self.logit_scales = nn.ParameterDict({stage: new_logit_scale() for stage in self.stages})

    def _name(self, modality: str, stage: str) -> str:
        return stage if self._shared else f"{modality}_{stage}"

    def project(self, modality: str, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Stage -> [B, dim], of a modality's features by stage [B, width]."""
        return {stage: self.maps[self._name(modality, stage)](features[stage]) for stage in self.stages}


def new_linear(inputs: int, outputs: int, bias: bool = False) -> nn.Linear:
    """A linear layer N(0, 0.02), bias 0."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(layer.weight, std=NEW_WEIGHT_STD)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
