"""Keys of `sds` and of its control arm `contrastive`. Marks: [P] what the paper's opening pages show, [S] the user's
summary of it, [U] unknown: our choice and why."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import create_model

from mmkd_cli.core.config import Config, key
from mmkd_cli.losses.score_distillation import Jacobian, Reduction
from mmkd_cli.students.clip import Embedding
from mmkd_cli.students.tuning import Tune


class ContrastiveConfig(Config):
    """Keys of the method `contrastive`: those of `sds` that have a meaning without its loss."""

    stage_defaults: ClassVar[dict[str, Any]] = {
        "student": {"name": "clip"},
        "train": {"epochs": 5, "batch_size": 32, "optimizer": "adam", "peak_lr": 5e-5, "betas": (0.9, 0.999),
                  "eps": 1e-8, "weight_decay": 0.0, "schedule": "constant", "warmup_ratio": 0.0},
    }  # fmt: skip
    """[S] epochs, batch, Adam, learning rate; [U] the rest: a constant rate without warm-up or decay, torch's Adam."""

    name: str = key("contrastive", "the method")
    contrastive_weight: float = key(1.0, "weight of CLIP's contrastive loss", source="[P] SDS-CLIP: 1, figure 1", ge=0)
    tune: Tune = key(
        "norms", "what of CLIP is trained: norms, the layer norms of both towers; norms+batchnorm, a ResNet's scales "
        "and shifts too; image-norms, those of the image tower; lora, a low-rank map beside the blocks' linear maps; "
        "all, everything",
        source="[S] layer norms; [P] figure 1 has both towers learnable",
    )  # fmt: skip
    lora_rank: int = key(8, "rank of tune=lora", source="[U] a usual rank", ge=1)
    train_logit_scale: bool = key(
        False, "train CLIP's temperature too", source="[S] layer norms alone; the summary's code trains it"
    )
    captions: Literal["one", "all"] = key(
        "one", "one: a picture is a row, its caption drawn anew each epoch; all: each caption is a row",
        source="[U] the paper's 118k pairs are the pictures of COCO's train2017",
    )  # fmt: skip
    projection_warmup_steps: int = key(
        0, "steps before CLIP is trained: h_w alone (in the control arm CLIP waits as long)",
        source="[U] none is mentioned", unit="steps", ge=0,
    )  # fmt: skip

    @property
    def sds_weight(self) -> float:
        """lambda."""
        return 0.0


class _SdsKeys(ContrastiveConfig):
    """Keys of the method `sds`."""

    name: str = key("sds", "the method")
    noise_input: bool = key(
        True, "noise the latent before the UNet sees it; false: the UNet sees what h_w says",
        source="[U] diffusion's own formula; the summary's code does not noise",
    )  # fmt: skip
    jacobian: Jacobian = key(
        "full", "full: differentiate the loss as it stands, through the UNet; skip: DreamFusion's gradient, "
        "w(t) (eps_hat - eps) on the latent",
        source="[U] the text minimises a loss",
    )  # fmt: skip
    reduction: Reduction = key(
        "sum", "of the squared error over a latent's numbers; mean is as many times smaller",
        source="[U] the formula's squared norm",
    )  # fmt: skip
    embedding: Embedding = key(
        "projected", "what h_w starts from: projected, the joint embedding; cls, the image tower's CLS before it",
        source="[S] the joint width; [P] figure 1 says CLS",
    )  # fmt: skip
    projection_warmup: Literal["sds", "latents"] = key(
        "sds", "what h_w warms up by: sds, the SDS loss; latents, the VAE's latents of the pictures, from the cache",
        source="[U] the loss that the paper has", absent="sds",
    )  # fmt: skip
    normalize: bool = key(False, "bring that vector to length 1", source="[U] raw: nothing is said of it")
    projection_lr: float | None = key(
        None, "learning rate of h_w (None: train.peak_lr; 0: h_w keeps its first weights)",
        source="[U] the same", ge=0,
    )  # fmt: skip
    t_range: tuple[int, int] | None = key(
        None, "first and last time step that is drawn (None: all of the scheduler's)", source="[S] uniform over all"
    )
    w_t: Literal["one", "noise"] = key(
        "one", "weight of a time step: one, 1; noise, the noise's share of the variance, 1 - abar_t",
        source="[U] 1; DreamFusion: the noise's share",
    )  # fmt: skip
    unet_precision: Literal["auto", "float32", "bfloat16"] = key(
        "auto", "of the frozen UNet (auto: bfloat16 where the GPU has it, else float32)", source="[U] half the memory"
    )
    grad_share_every: int = key(
        10, "steps between measurements of each loss's share in the gradient of CLIP's parameters; 0: never",
        source="[U] as often as metrics are written", unit="steps", ge=0,
    )  # fmt: skip

    @property
    def sds_weight(self) -> float:
        """lambda."""
        return float(getattr(self, "lambda"))

    @property
    def latent_steps(self) -> int:
        """Steps in which h_w learns the VAE's latents."""
        return self.projection_warmup_steps if self.projection_warmup == "latents" else 0


_LAMBDA: dict[str, Any] = {"lambda": (float, key(0.001, "weight of the SDS loss", source="[S] SDS-CLIP: 0.001", ge=0))}
SdsConfig = create_model("SdsConfig", __base__=_SdsKeys, __module__=__name__, **_LAMBDA)
"""The keys with `lambda`, whose name no class body can hold."""
