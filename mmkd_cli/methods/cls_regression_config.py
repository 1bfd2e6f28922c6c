"""Keys of the method `cls-regression`."""

from __future__ import annotations

from typing import Literal

from mmkd_cli.core.config import Config, key
from mmkd_cli.methods.contrast_memory import BankConfig
from mmkd_cli.students.projections import Heads, Layout
from mmkd_cli.training.memory_bank import Start


class ClsRegressionConfig(Config):
    """Keys of the method `cls-regression`."""

    name: str = key("cls-regression", "the method")
    signal: str = key("image_cls", "teacher signal of the picture that is regressed", source="[P] MM-D2V2: the CLS")
    regression_weight: float | None = key(
        None, "weight of each modality's regression; 0 leaves it out (None: 1, beside a contrastive term 1/2)",
        source="[C] MM-D2V2: the sum, halved beside the contrastive loss", ge=0,
    )  # fmt: skip
    contrastive_weight: float = key(0.0, "weight of the contrastive loss; 0 leaves it out", source="[P] D, L: 1", ge=0)
    layout: Layout = key(
        "clip", "what the contrastive loss projects: clip, a map a modality on the student's output; flava, the same "
        "on the encoders before shared blocks; vlmo, both; shared, one map for both modalities on the output",
        source="[S] MM-D2V2 compares the four",
    )  # fmt: skip
    projection_dim: int | None = key(
        None, "width of the contrastive space (None: the teacher's)", source="[C] MM-D2V2: 768 to 768", ge=1
    )
    dedup: bool = key(
        False, "captions of one picture in a batch are not each other's negatives",
        source="[C] MM-D2V2 accepts these false negatives",
    )  # fmt: skip
    clamp_logit_scale: bool = key(
        False, "bound the logit scale by 100 after each step", source="[C] MM-D2V2: not in 2024-06, later it is"
    )
    wd_rule: Literal["all", "notes", "embeddings"] = key(
        "notes", "what weight decay leaves out: all, nothing; notes, vectors, biases, the image's CLS and the text "
        "embedding table; embeddings, vectors, biases, the CLS and every embedding table",
        source="[C] MM-D2V2: all until 2024-06-15, notes from then on, embeddings in the thesis",
    )  # fmt: skip

    head_lr_scale: float = key(
        1.0, "learning rate of the heads (regression, projections, logit scale), times train.peak_lr",
        source="[C] MM-D2V2: one rate; beside a pretrained encoder new heads want more", gt=0, absent=1.0,
    )  # fmt: skip

    target_loss: Literal["mse", "contrastive-target", "kl", "target-cmli"] = key(
        "mse", "of each modality and the teacher's signal: mse; contrast, the pair's own signal against those of the "
        "batch and of target_bank; the divergence of their softmaxes, where the signal is logits; or, where it is "
        "tokens, of patches mse and of words mse to the patch each is most like",
        source="[P] MM-D2V2: mse; S-SMKE's last: contrast; SHRe: kl; V: target-cmli",
        absent="mse",
    )  # fmt: skip
    target_scale: float = key(
        1 / 0.07, "logit scale of contrastive-target", source="[C] S-SMKE: fixed at 1/0.07", absent=1 / 0.07, gt=0
    )
    train_target_scale: bool = key(False, "train target_scale, too", source="[C] S-SMKE: not", absent=False)
    target_bank: int = key(
        0, "teacher's signals of earlier batches that contrastive-target sees as negatives, too; 0: none",
        source="[P] S-SMKE: 65,536 in its last form", absent=0, ge=0,
    )  # fmt: skip
    target_bank_start: Start = key(
        "empty", "its unwritten places: left out, zeros, or random unit vectors", source="[U] [C] S-SMKE: random",
        absent="empty",
    )  # fmt: skip
    cmli_width: int = key(
        32, "of target-cmli: width that a learned map brings words and patches to, where they are compared",
        source="[P] V: 32", absent=32, ge=1,
    )  # fmt: skip
    bank: BankConfig = key(BankConfig(), "memory banks of the contrastive loss", absent=BankConfig())

    @property
    def heads(self) -> Heads:
        """What the student carries beside its encoders."""
        contrastive = self.contrastive_weight > 0
        return Heads(
            regression=self.regression_weight != 0,
            layout=self.layout if contrastive else None,
            dim=self.projection_dim if contrastive else None,
        )

    @property
    def each_regression(self) -> float:
        """The weight of one modality's regression."""
        if self.regression_weight is not None:
            return self.regression_weight
        return 0.5 if self.contrastive_weight > 0 else 1.0
