"""Keys of the training loop (`[train]`)."""

from __future__ import annotations

from typing import Literal

from mmkd_cli.core.config import Config, key


class TrainConfig(Config):
    """How a model is trained. Defaults are MM-D2V2's where the notes give a value."""

    epochs: int = key(10, "passes over the training rows", source="[U] a usual length", ge=1)
    max_steps: int | None = key(None, "optimiser steps in all; overrides epochs", source="[U] off", ge=1)
    batch_size: int = key(
        256, "rows of the global batch, over all processes", unit="rows", source="[P] MM-D2V2: 256", ge=1
    )
    micro_batch_size: int | None = key(
        None,
        "rows of one forward pass; the batch is cut into these without changing its loss (None: a process's share)",
        unit="rows",
        source="[U] whole share",
        ge=1,
    )
    drop_last: bool = key(True, "leave out an epoch's last rows that fill no batch", source="[U] equal batches")

    optimizer: Literal["adamw", "adam", "adamax", "rmsprop", "sgd"] = key("adamw", "optimiser", source="[P] MM-D2V2")
    peak_lr: float = key(5e-4, "learning rate after the warm-up", source="[P] MM-D2V2: 5e-4", gt=0)
    betas: tuple[float, float] = key((0.9, 0.98), "decay of Adam's two averages", source="[U] usual for transformers")
    eps: float = key(1e-6, "Adam's divisor floor", source="[U] usual for transformers", gt=0)
    momentum: float = key(0.9, "momentum of sgd and rmsprop", source="[U] usual", ge=0, lt=1)
    weight_decay: float = key(0.01, "weight decay where a group decays", source="[P] MM-D2V2: 0.01", ge=0)
    schedule: Literal["cosine", "linear", "constant", "steps", "inverse-sqrt"] = key(
        "cosine", "learning rate after the warm-up: to 0 at the last step; as it is; smaller at each of `drops`; "
        "as 1 / sqrt(step), which with the warm-up is Noam's", source="[P] MM-D2V2"
    )  # fmt: skip
    drops: tuple[float, ...] = key(
        (), "of schedule steps: shares of all steps at which the rate is multiplied by drop_factor",
        source="[U] none", absent=(),
    )  # fmt: skip
    drop_factor: float = key(0.1, "of schedule steps", source="[U] usual", absent=0.1, gt=0)
    warmup_steps: int | None = key(None, "linear warm-up; overrides warmup_ratio", unit="steps", source="[U] off", ge=0)
    warmup_ratio: float = key(0.1, "linear warm-up as a share of all steps", source="[P] MM-D2V2: 10 %", ge=0, le=1)
    warmup_from: float = key(
        0.0, "share of the rate from which the warm-up starts", source="[U] 0", absent=0.0, ge=0, le=1
    )
    clip_norm: float | None = key(None, "bound of the gradient's norm", source="[C] MM-D2V2: none", gt=0)
    clip_value: float | None = key(
        None, "bound of each of the gradient's values, before its norm's", source="[U] none", absent=None, gt=0
    )

    precision: Literal["auto", "float32", "bfloat16"] = key(
        "auto", "of the forward pass; weights stay float32 (auto: bfloat16 on a GPU, else float32)", source="[U]"
    )
    seed: int = key(0, "of order, dropout, views and new weights", source="[U]", ge=0)
    gradient_checkpointing: bool = key(
        False, "compute activations again in the backward pass: less memory, more time", source="[U]", identity=False
    )
    on_nan: Literal["stop", "skip"] = key(
        "stop", "a NaN or infinite loss or gradient: stop, or leave the step out and count it", source="[U]"
    )
    validation: bool = key(True, "measure the loss on the validation split", source="[U]")
    validate_every: int | None = key(
        None, "steps between validations (None: once an epoch)", unit="steps", source="[U] once an epoch", ge=1
    )

    keep: str = key(
        "last", "weights that the run ends with: of the last step, or of the validation where a number was best, as "
        "min:val/loss or max:val/accuracy", source="[U] last", absent="last", pattern=r"^(last|(min|max):\S+)$",
    )  # fmt: skip

    log_every: int = key(10, "steps between writes of metrics.jsonl", unit="steps", identity=False, ge=1)
    checkpoint_every: int = key(
        500, "steps between checkpoints; there is one at each epoch's end too", unit="steps", identity=False, ge=1
    )
    track: Literal["tensorboard", "wandb"] | None = key(
        None, "log the run's numbers there, too (extra: pip install 'mmkd[track]')", source="[U] off", identity=False
    )
    checkpoints_kept: int = key(2, "newest checkpoints that are kept", identity=False, ge=1)
