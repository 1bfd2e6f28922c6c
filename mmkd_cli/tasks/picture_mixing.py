"""What timm does to a batch of pictures that is learnt: rectangles erased in each, then two and two of them mixed.

Random erasing: arXiv 1708.04896; mixup: 1710.09412; cutmix: 1905.04899. timm draws from the global generators; these
are seeded before each picture and each batch, so that a picture is erased, and a batch mixed, in the same way whatever
came before it and however it is cut.
"""

from __future__ import annotations

import torch
from timm.data.mixup import Mixup, mixup_target
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from mmkd_cli.core.config import Config, key
from mmkd_cli.training.randomness import seed_all


class MixingConfig(Config):
    """Keys of what pictures and their labels go through, beside `task.view`."""

    rand_augment: str = key(
        "rand-m9-mstd0.5-inc1", "RandAugment, as timm spells it; empty: none", source="[P] magnitude 9; [C] the rest"
    )
    erase: float = key(0.25, "chance of an erased rectangle in a picture", source="[P] 0.25", ge=0, le=1)
    mixup: float = key(0.8, "alpha of mixup; 0: none", source="[P] 0.8", ge=0)
    cutmix: float = key(1.0, "alpha of cutmix; 0: none", source="[P] 1.0", ge=0)
    mixed: float = key(0.9, "share of batches that are mixed", source="[C] 0.9; timm 1", ge=0, le=1)
    cut: float = key(0.5, "share of mixed batches that cutmix mixes, where there is mixup, too", source="[C] 0.5", ge=0,
                     le=1)  # fmt: skip
    label_smoothing: float = key(0.1, "share of a label that all classes have", source="[P] 0.1", ge=0, lt=1)

    @property
    def mixes(self) -> bool:
        return self.mixed > 0 and (self.mixup > 0 or self.cutmix > 0)


class PictureMixing:
    """Erases and mixes normalised pictures. seed: of the run."""

    def __init__(self, config: MixingConfig, classes: int, seed: int) -> None:
        self.config, self.classes, self.seed = config, classes, seed
        self._mixup = None
        if config.mixes:
            self._mixup = Mixup(config.mixup, config.cutmix, prob=config.mixed, switch_prob=config.cut,
                                label_smoothing=config.label_smoothing, num_classes=classes)  # fmt: skip

    def __call__(self, inputs: Tensor, labels: Tensor, rows: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """inputs [B, 3, H, W], changed in place, labels int64 [B], rows int64 [B] -> inputs, targets [B, classes].

        The pictures at places 2 i and 2 i + 1 are mixed with each other: of how a batch is shared out nothing depends.
        """
        erasing = RandomErasing(self.config.erase, mode="pixel", device=inputs.device)
        for place, row in enumerate(rows.tolist()) if self.config.erase else ():
            seed_all(self.seed, "erase", epoch, row)
            erasing(inputs[place])
        if self._mixup is None:
            return inputs, mixup_target(labels, self.classes, 1.0, self.config.label_smoothing)
        places = torch.arange(len(labels), device=labels.device)
        mirrored = torch.cat([places[::2], places[1::2].flip(0)])  # timm mixes the first with the last, and so on
        seed_all(self.seed, "mix", step)
        mixed, targets = self._mixup(inputs[mirrored], labels[mirrored])
        back = mirrored.argsort()
        return mixed[back], targets[back]
