"""The frozen teacher beside a student whose pictures it sees. Its weights are read when it is first asked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmkd_cli.core.contracts import Batch, PictureTransform, Teacher, Tokenize
from mmkd_cli.core.errors import UserError


class LiveTeacher:
    """None in place of the teacher: the pictures' signal comes from a cache. No module: it is no part of the model."""

    def __init__(self, teacher: Teacher | None) -> None:
        self._teacher, self._loaded = teacher, False

    @property
    def picture_transform(self) -> PictureTransform:
        transform = self._required().picture_transform
        if transform is None:
            raise UserError("the student's teacher takes no pictures: evaluate with its cache")
        return transform

    @property
    def tokenize(self) -> Tokenize:
        tokenize = self._required().tokenize
        if tokenize is None:
            raise UserError("the student's teacher reads no texts: measure another model")
        return tokenize

    def offered(self, names: Sequence[str]) -> list[str]:
        """Of these signals those that the teacher gives."""
        given = self._required().signals()
        return [name for name in names if name in given]

    def signal(self, batch: Batch, name: str, device: torch.device) -> Tensor:
        """[B, D]: the batch's own, or what the teacher says of its pixels."""
        if name in batch:
            return batch[name].to(device)
        teacher = self._required()
        if not self._loaded:
            teacher.load(str(device))
            self._loaded = True
        return teacher(batch, [name])[name].to(device)

    def _required(self) -> Teacher:
        if self._teacher is None:
            raise UserError("the student's pictures need its teacher: name the cache, or the teacher's weights")
        return self._teacher
