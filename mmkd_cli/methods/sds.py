"""Tune a CLIP by its contrastive loss and by score distillation from a frozen diffusion model (SDS-CLIP).

L = L_CLIP + lambda L_SDS. A linear map h_w brings CLIP's vector of the picture to a latent; noised, it goes through
the frozen UNet, conditioned on the picture's caption, and L_SDS is the UNet's error about the noise (arXiv 2307.09233).
`contrastive` is the control arm: the same code with lambda 0. No public code of the paper is known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmkd_cli.architectures.denoiser import Denoiser
from mmkd_cli.core import console, registry
from mmkd_cli.core.contracts import Batch, Counts, Outputs, Targets, Teacher, Trainable, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.losses.contrastive import info_nce
from mmkd_cli.losses.score_distillation import score_distillation_per_row, squared_distance_per_row
from mmkd_cli.methods.captioned_pictures import CaptionedPictures, ScoreInputs, captioned_pictures
from mmkd_cli.methods.sds_config import ContrastiveConfig, SdsConfig
from mmkd_cli.training.randomness import seed_all

_SPLITS = ("train", "val")


class Sds(Trainable):
    """`core.contracts.Method` and its `Trainable`.

    measured: CLIP's trained parameters at the steps at which each loss's share in their gradient is logged.
    """

    Config: ClassVar[type] = SdsConfig
    runs_teacher: ClassVar[bool] = True

    def __init__(self, model: Any, config: Any, feeds: Sequence[CaptionedPictures],
                 validation: Sequence[CaptionedPictures], denoiser: Denoiser | None) -> None:  # fmt: skip
        self.model, self.config, self.denoiser = model, config, denoiser
        self.feeds, self.validation = list(feeds), list(validation)
        self.frozen = (denoiser,) if denoiser is not None else ()
        self.weights: Mapping[str, float] = {"contrastive": config.contrastive_weight}
        if denoiser is not None:
            self.weights = {**self.weights, "sds": config.sds_weight, "latents": 1.0}
        self.measured: Sequence[Tensor] = ()
        self._tuned: list[nn.Parameter] = model.tuned()

    # ------------------------------------------------------------------------------------------ method
    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """The captions' text states, where h_w warms up by them the pictures' latents; nothing without the SDS loss."""
        if config.method.sds_weight == 0:
            return ()
        return ("text_states", "latents") if config.method.latent_steps else ("text_states",)

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], device: str) -> Sds:
        """CLIP with its weights, h_w, the UNet, and feeds of `train` and, where there is one, of `val`."""
        method, seed = config.method, config.train.seed
        seed_all(seed, "new weights")
        model = _student_class(config).build(config.student)
        model.tune(method.tune, method.lora_rank, method.train_logit_scale)
        _warn_of_an_untrained_image_tower(model, method)
        denoiser = None
        if method.sds_weight > 0:
            seed_all(seed, "h_w")
            _add_latent_map(model, config, _diffusion(config).latent_shape)
            denoiser = _denoiser(config, device)

        def scores(one: TrainingData, split: str) -> ScoreInputs | None:
            if denoiser is None:
                return None
            targets, shape = one.targets(split), model.latent_map.shape
            steps = method.latent_steps if split == "train" else 0
            return ScoreInputs(
                _known(targets, one, split), shape, _range(method, denoiser.timesteps), seed, split, steps
            )

        def feed(number: int, one: TrainingData, split: str) -> CaptionedPictures:
            return captioned_pictures(
                one, split, model.tokenize, model.picture_transform, seed=seed, number=number,
                every_caption=method.captions == "all", scores=scores(one, split),
            )  # fmt: skip

        feeds, validation = (
            [feed(number, one, split) for number, one in enumerate(data) if split == "train" or _usable(one, denoiser)]
            for split in _SPLITS
        )
        return cls(model.to(device), method, feeds, validation, denoiser)

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """Parameters on the meta device; of CLIP and of h_w apart, too."""
        model = _student_class(config).empty(config.student)
        with torch.device("meta"):
            model.tune(config.method.tune, config.method.lora_rank, config.method.train_logit_scale)
            if config.method.sds_weight > 0:
                _add_latent_map(model, config, _diffusion(config).latent_shape)
        parts = {"clip": model.clip, **({"h_w": model.latent_map} if model.latent_map is not None else {})}
        sizes = {
            name: (sum(p.numel() for p in part.parameters()),
                   sum(p.numel() for p in part.parameters() if p.requires_grad))
            for name, part in parts.items()
        }  # fmt: skip
        total, trainable = (sum(column) for column in zip(*sizes.values(), strict=True))
        return Counts(total, trainable, teacher.parameters_count() if teacher is not None else 0, sizes)

    @classmethod
    def files(cls, config: Any) -> dict[str, str]:
        """Key -> file, folder or name whose content decides CLIP's first weights."""
        return _student_class(config).files(config.student)

    # ------------------------------------------------------------------------------------------ trainable
    def forward(self, batch: Batch) -> Outputs:
        """Embeddings for the contrastive loss, and row by row the SDS loss, or h_w's distance from given latents."""
        # in training, a pass without gradients is asked for its embeddings alone: the UNet can be left out
        scored = self.denoiser is not None and (torch.is_grad_enabled() or not self.model.training)
        said = self.model(batch, latents=scored)
        outputs = Outputs()
        if self.config.contrastive_weight > 0:
            outputs.gathered = {"image": said.image, "text": said.text, "picture": batch["picture"]}
        if scored:
            given = batch.get("latents")
            if given is None:
                outputs.row_losses["sds"] = self._score(said.latents, batch)
            else:
                outputs.row_losses["latents"] = squared_distance_per_row(said.latents, given, self.config.reduction)
            outputs.report["latent_rms"] = said.latents.detach().square().flatten(1).mean(dim=1).sqrt()
        return outputs

    def _score(self, latents: Tensor, batch: Batch) -> Tensor:
        """[B]: the weighted squared error of the UNet about each row's noise."""
        assert self.denoiser is not None
        timesteps, noise = batch["timestep"], batch["noise"]
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.jacobian == "full"):
            noisy = self.denoiser.noised(latents, noise, timesteps) if self.config.noise_input else latents
            predicted = self.denoiser(noisy, timesteps, batch["text_states"])
        share = 1 - self.denoiser.alphas_cumprod[timesteps]
        weight = share if self.config.w_t == "noise" else torch.ones_like(share)
        return score_distillation_per_row(
            latents, noise, predicted, weight, jacobian=self.config.jacobian, reduction=self.config.reduction
        )

    def joint_losses(self, gathered: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """CLIP's loss over the global batch. Two captions of one picture are not each other's negatives."""
        image, text, ids = gathered["image"], gathered["text"], gathered["picture"]
        return {"contrastive": info_nce(image, text, self.model.logit_scale, ids)}

    def before_step(self, step: int) -> None:
        """While h_w warms up, no gradient reaches CLIP."""
        waits = step < self.config.projection_warmup_steps
        self._train_clip(not waits)
        several = self.denoiser is not None and self.config.contrastive_weight > 0 and not waits
        every = self.config.grad_share_every if several else 0
        self.measured = self._tuned if every and (step + 1) % every == 0 else ()

    def after_step(self, step: int, gathered: Mapping[str, Tensor]) -> None:
        """What is trained in all, whatever this step left out."""
        self._train_clip(True)

    def _train_clip(self, trained: bool) -> None:
        for parameter in self._tuned:
            parameter.requires_grad_(trained)

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """CLIP's matrices, its norms and biases without decay, and h_w at a rate of its own."""
        groups = [
            ([p for p in self._tuned if p.ndim > 1], peak_lr, weight_decay),
            ([p for p in self._tuned if p.ndim <= 1], peak_lr, 0.0),
        ]
        if self.model.latent_map is not None:
            own = self.config.projection_lr
            trained = [p for p in self.model.latent_map.parameters() if p.requires_grad]
            groups.append((trained, peak_lr if own is None else own, 0.0))
        return [{"params": params, "lr": lr, "weight_decay": decay} for params, lr, decay in groups if params]

    def save(self, folder: Path) -> None:
        """The student writes model/ and heads.safetensors."""
        self.model.save(folder)


class Contrastive(Sds):
    """The control arm: the same code with lambda 0, so with no teacher and no h_w."""

    Config: ClassVar[type] = ContrastiveConfig


def _student_class(config: Any) -> Any:
    found = registry.load("students", config.student.name)
    if not hasattr(found, "map_to_latents"):
        raise UserError(
            f"{config.method.name} tunes a CLIP, not the student {config.student.name!r}: name one by "
            "--student open_clip:ARCH:FILE or --student hf:FOLDER"
        )
    if config.method.contrastive_weight == 0 == config.method.sds_weight:
        raise UserError("method.contrastive_weight and method.lambda are both 0: nothing would be learnt")
    return found


def _diffusion(config: Any) -> Any:
    """The teacher's diffusion model, nothing of it loaded."""
    if config.teacher is None:
        raise UserError("sds needs the teacher whose UNet it asks: name it by --teacher diffusers:FOLDER")
    teacher = registry.load("teachers", config.teacher.name)(config.teacher)
    if not hasattr(teacher, "diffusion"):
        raise UserError(f"teacher {config.teacher.name!r} has no UNet to ask: name one by --teacher diffusers:FOLDER")
    return teacher.diffusion


def _denoiser(config: Any, device: str) -> Denoiser:
    """UNet and schedule, frozen; with gradient checkpointing where the loss is differentiated through it."""
    diffusion, asked = _diffusion(config), config.method.unet_precision
    if asked == "auto":
        native = torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        asked = "bfloat16" if native else "float32"
    unet = diffusion.load_unet(getattr(torch, asked))
    if config.method.jacobian == "full":
        unet.enable_gradient_checkpointing()
    denoiser = Denoiser(unet, diffusion.scheduler()).to(device)
    live = "beside its live text encoder and VAE" if config.method.latent_steps else "beside its live text encoder"
    beside = live if config.live else "no VAE, no text encoder"
    console.say(f"loaded from {diffusion.name}: the UNet ({asked}), {beside}")
    denoiser.eval().requires_grad_(False)
    return denoiser


def _add_latent_map(model: Any, config: Any, shape: tuple[int, int, int]) -> None:
    model.map_to_latents(shape, config.method.embedding, config.method.normalize)
    model.latent_map.requires_grad_(config.method.projection_lr != 0)


def _range(method: Any, timesteps: int) -> tuple[int, int]:
    """First and last time step that is drawn."""
    first, last = method.t_range or (0, timesteps - 1)
    if not 0 <= first <= last < timesteps:
        raise UserError(f"method.t_range {[first, last]}: the scheduler has time steps 0 to {timesteps - 1}")
    return first, last


def _usable(data: TrainingData, denoiser: Denoiser | None) -> bool:
    """Whether a data set has a validation split, with all that its rows need."""
    return "val" in data.splits and (denoiser is None or data.targets("val") is not None)


def _known(targets: Targets | None, data: TrainingData, split: str) -> Targets:
    if targets is None:
        raise UserError(f"no cache holds the text states of {split!r} of data {data.name!r}: cache that split")
    return targets


def _warn_of_an_untrained_image_tower(model: Any, method: Any) -> None:
    if model.tunes_pictures():
        return
    follows = "the SDS loss will train h_w alone and never reach CLIP" if method.sds_weight > 0 else "it stays as it is"
    console.warn(
        f"method.tune={method.tune} trains nothing in this CLIP's image tower (a ResNet has no layer norms): "
        f"{follows}; set method.tune=norms+batchnorm to train its batch norms' scales and shifts"
    )
