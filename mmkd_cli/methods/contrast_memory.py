"""What losses have of their own: memory banks, a moving average that gives their keys, a scale, a map of tokens.

It is a part of the model while that is trained, and is left behind when it is saved.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch
from mmkd_cli.core.errors import UserError
from mmkd_cli.losses.bank_contrast import Weighing, bank_contrast
from mmkd_cli.losses.contrastive import same_picture_pairs
from mmkd_cli.losses.logit_scale import new_logit_scale
from mmkd_cli.students.projections import new_linear
from mmkd_cli.students.two_modalities import MODALITIES
from mmkd_cli.training.memory_bank import MemoryBank, MovingAverage, Start

PART = "memory"
"""The name of the model's part."""


class BankConfig(Config):
    """Keys of the contrastive loss's memory banks."""

    size: int = key(0, "vectors that each bank keeps beside the batch; 0: no banks", source="[P] MM-D2V2: none", ge=0)
    keys: Literal["model", "average"] = key(
        "model", "whose vectors are kept, and are the batch's keys: the model's, or its moving average's",
        source="[P] U1 the model's, U2 an average's",
    )  # fmt: skip
    momentum: float = key(0.995, "m of the moving average", source="[P] U2: 0.995", ge=0, lt=1)
    start: Start = key(
        "empty", "unwritten places: left out, zeros, or random unit vectors", source="[U] [C] zeros, then random"
    )
    gamma: float = key(1.0, "weight of a kept vector for each step of its age", source="[C] 0.99 where it decays",
                       gt=0, le=1)  # fmt: skip
    gamma_end: float | None = key(
        None, "gamma after ramp_steps, between them a line (None: constant)", source="[C] 0.99999", gt=0, le=1
    )
    weighing: Weighing = key(
        "log", "how a weight enters: log, its logarithm added to the logit; logits, times the logit; classes, as "
        "cross-entropy's class weight, which changes nothing", source="[U] what weighs; [C] logits, then classes",
    )  # fmt: skip
    grown_from: int | None = key(
        None, "vectors at first, growing in a line to `size` over ramp_steps (None: all places from the start)",
        source="[C] a variant", ge=1,
    )  # fmt: skip
    ramp_steps: int | None = key(None, "steps over which gamma and the banks' size change", source="[C] all", ge=1)


class ContrastMemory(nn.Module):
    """Banks of both modalities for each stage of a student's contrastive loss, and of the teacher's vectors.

    widths: stage -> width of its vectors. teacher: size and start of the teacher's bank (0: none). log_scale: where
    the scale of the teacher's contrast is learnt, its first logarithm. token_map: widths of a learned linear map of
    words and patches, None without.
    """

    def __init__(
        self, student: nn.Module, config: BankConfig, widths: Mapping[str, int], *, teacher_width: int,
        teacher: tuple[int, Start], log_scale: float | None, token_map: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.config = config
        if config.ramp_steps is None and (config.gamma_end is not None or config.grown_from is not None):
            raise UserError("method.bank.ramp_steps is needed: over how many steps gamma or the banks change")
        self.average = (
            MovingAverage(copy.deepcopy(student), config.momentum) if config.size and config.keys == "average" else None
        )
        self.banks = nn.ModuleDict(
            {f"{modality}_{stage}": MemoryBank(config.size, width, config.start, config.grown_from)
             for stage, width in widths.items() for modality in MODALITIES} if config.size else {}
        )  # fmt: skip
        self.teacher = MemoryBank(teacher[0], teacher_width, teacher[1]) if teacher[0] else None
        self.log_scale = new_logit_scale(log_scale) if log_scale is not None else None
        self.token_map = new_linear(*token_map, bias=True) if token_map is not None else None
        self._gamma = config.gamma

    def before_step(self, step: int) -> None:
        """Set gamma and the banks' size, pure functions of the step."""
        config = self.config
        share = min(1.0, step / config.ramp_steps) if config.ramp_steps else 0.0
        if config.gamma_end is not None:
            self._gamma = config.gamma + share * (config.gamma_end - config.gamma)
        if config.grown_from is not None:
            for bank in self.banks.values():
                bank.grow(config.grown_from + int(share * (config.size - config.grown_from)))

    @torch.no_grad()
    def keys(self, batch: Batch) -> dict[str, Tensor]:
        """The average's vectors of a share, by the names of `Outputs.gathered`; none where the model gives the keys."""
        if self.average is None:
            return {}
        said = self.average.model(batch).contrasted
        return {f"key_{modality}_{stage}": pair[side]
                for stage, pair in said.items() for side, modality in enumerate(MODALITIES)}  # fmt: skip

    def contrast(
        self, stage: str, gathered: Mapping[str, Tensor], scale: Tensor, ids: Tensor | None, use_bank: bool
    ) -> Tensor:
        """The symmetric loss of a stage, each modality against the other's keys and bank."""
        terms = []
        for anchor, other in (MODALITIES, MODALITIES[::-1]):
            keys = gathered.get(f"key_{other}_{stage}", gathered[f"{other}_{stage}"])
            bank = self.banks[f"{other}_{stage}"] if use_bank and self.banks else None
            terms.append(self._against(gathered[f"{anchor}_{stage}"], keys, bank, scale, ids, self._gamma))
        return torch.stack(terms).mean()

    def target(self, student: Tensor, teacher: Tensor, scale: float, ids: Tensor | None, use_bank: bool) -> Tensor:
        """Contrast of a modality's vectors with the teacher's, along the student's rows alone."""
        learnt = scale if self.log_scale is None else self.log_scale.exp()
        return self._against(student, teacher, self.teacher if use_bank else None, learnt, ids, 1.0)

    def _against(
        self, anchors: Tensor, keys: Tensor, bank: MemoryBank | None, scale: Tensor | float, ids: Tensor | None,
        gamma: float,
    ) -> Tensor:  # fmt: skip
        same = None if ids is None else same_picture_pairs(ids)
        if bank is None:
            return bank_contrast(anchors, keys, None, scale, left_out=same)
        vectors, pictures, ages, kept = bank.read()
        unused = (~kept).expand(len(anchors), -1)
        if ids is not None:
            unused = unused | (pictures == ids[:, None])
        own = torch.zeros((len(anchors),) * 2, dtype=torch.bool, device=unused.device) if same is None else same
        return bank_contrast(
            anchors, keys, vectors, scale, left_out=torch.cat([own, unused], dim=1), ages=ages, gamma=gamma,
            weighing=self.config.weighing,
        )  # fmt: skip

    def after_step(self, model: nn.Module, gathered: Mapping[str, Tensor], ids: Tensor | None) -> None:
        """Keep the batch's vectors, then let the average follow."""
        for name, bank in self.banks.items():
            bank.append(gathered.get(f"key_{name}", gathered[name]), ids)
        if self.teacher is not None:
            self.teacher.append(gathered["target"], ids)
        if self.average is not None:
            self.average.follow(model)


@contextmanager
def left_behind(model: Any) -> Iterator[None]:
    """The model without its memory, for as long as it is saved."""
    memory = model._modules.pop(PART, None)
    try:
        yield
    finally:
        if memory is not None:
            model._modules[PART] = memory
