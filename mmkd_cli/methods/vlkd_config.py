"""Keys of `vlkd`. Marks: [P] what the paper's opening pages show, [P2] another paper's quotation of it, [U] unknown:
our choice and why."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import model_validator

from mmkd_cli.core.config import Config, key
from mmkd_cli.losses.text_distance import Reduction
from mmkd_cli.students.bart import Pool


class VlkdConfig(Config):
    """Keys of the method `vlkd`."""

    stage_defaults: ClassVar[dict[str, Any]] = {
        "student": {"name": "bart"},
        "train": {"epochs": 10, "batch_size": 1024, "peak_lr": 1e-5, "betas": (0.9, 0.999), "eps": 1e-8,
                  "weight_decay": 0.01, "clip_norm": 1.0, "schedule": "linear", "warmup_steps": 2000},
    }  # fmt: skip
    """[U] all of it: usual for BART; the paper says no more than that little data and compute are needed."""

    name: str = key("vlkd", "the method")
    image_signal: str = key("image_embedding", "teacher signal of the picture, v", source="[P2] CLIP's joint space")
    text_signal: str = key("text_embedding", "teacher signal of the caption, t", source="[P2] CLIP's joint space")
    ttdm_weight: float = key(1.0, "weight of the distance of e to t; 0 leaves it out", source="[U] equal", ge=0)
    itcl_weight: float = key(1.0, "weight of the contrastive loss of v and e; 0 leaves it out", source="[U] equal",
                             ge=0)  # fmt: skip
    icti_weight: float = key(1.0, "weight of writing the caption back beside the picture; 0 leaves it out",
                             source="[U] equal", ge=0)  # fmt: skip
    normalize: bool = key(True, "bring e and t to length 1 before their distance", source="[U] free of the scale")
    reduction: Reduction = key("sum", "of the squared distance over dimensions", source="[U] 2 - 2 cos")
    temperature: float = key(0.01, "divides the cosines of the contrastive loss", source="[U] CLIP's own: 1/100", gt=0)
    train_temperature: bool = key(False, "learn the temperature, from this one on", source="[U] CLIP's is frozen")
    dedup: bool = key(
        False, "captions of one picture in a batch are not each other's negatives", source="[U] the plain formula"
    )
    pool: Pool = key("eos", "the encoder state that W_e takes: the last token's, the first's, or their mean",
                     source="[U] a second-hand report says pooled")  # fmt: skip
    share_pass: bool = key(False, "take e from the masked caption: one encoder pass", source="[U] e is the caption's")
    map_bias: bool = key(False, "give W_e and W_d a bias", source="[U] 407 M parameters either way")
    map_lr_scale: float = key(
        10.0, "learning rate of W_e, W_d and the temperature, times train.peak_lr", source="[U] new maps need more",
        gt=0,
    )  # fmt: skip
    image_scale: float | None = key(
        None, "length of v before W_d (None: the square root of its width)",
        source="[U] at length 1 it is small beside the encoder's normed states", gt=0,
    )  # fmt: skip
    mask_ratio: tuple[float, float] = key(
        (0.3, 0.3), "least and most share of a caption's tokens that are masked, drawn evenly for each",
        source="[C] fairseq's BART: 0.3",
    )  # fmt: skip
    mask_whole: float = key(
        0.0, "share of the captions that are one mask as a whole, as a zero-shot prompt is", source="[U] none", ge=0,
        le=1,
    )  # fmt: skip
    span_length: float = key(
        3.0, "mean of the Poisson lengths of masked spans; each becomes one mask", unit="tokens",
        source="[C] fairseq's BART: 3, elsewhere 3.5", ge=0.5,
    )  # fmt: skip
    label_smoothing: float = key(0.0, "share of each target that is spread over all tokens", source="[U] none", ge=0,
                                 lt=1)  # fmt: skip

    @model_validator(mode="after")
    def _checked(self) -> Self:
        least, most = self.mask_ratio
        if not 0 <= least <= most <= 1:
            raise ValueError("mask_ratio is two shares from 0 to 1, the smaller one first")
        if self.ttdm_weight == self.itcl_weight == self.icti_weight == 0:
            raise ValueError("ttdm_weight, itcl_weight and icti_weight are all 0: nothing would be learnt")
        return self
