"""A language model teaches CLIP's text encoder: KL of token distributions, beside CLIP's contrastive loss on pairs.

L = scale * KL(teacher, student) + contrastive, as the user's summary of VLKD tells it (the paper goes the other way:
CLIP teaches BART). CLIP's text blocks read the teacher's tokens through a table of their own, which is the output
head, too; pictures and captions come as a second stream, by CLIP's own tokenizer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mmkd_cli.core import console, registry
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Counts, Feed, Outputs, Teacher, Trainable, TrainingData
from mmkd_cli.core.errors import UserError
from mmkd_cli.losses.contrastive import info_nce
from mmkd_cli.losses.token_distributions import KdForm, sampled_cross_entropy_per_token, topk_kl_per_token
from mmkd_cli.methods.captioned_pictures import CaptionedPictures, captioned_pictures
from mmkd_cli.methods.token_texts import POSITIONS, TokenTexts, token_texts_feed
from mmkd_cli.students.tuning import Tune
from mmkd_cli.teachers.language_models import CODECS
from mmkd_cli.training.randomness import seed_all


class PlmKlConfig(Config):
    """Keys of the method `plm-kl`."""

    stage_defaults: ClassVar[dict[str, Any]] = {
        "student": {"name": "clip"},
        "train": {"epochs": 10, "batch_size": 64, "optimizer": "adam", "peak_lr": 1e-4, "betas": (0.9, 0.999),
                  "eps": 1e-8, "weight_decay": 0.0, "schedule": "constant", "warmup_ratio": 0.0},
    }  # fmt: skip
    """[S] epochs, batch, Adam, learning rate, no schedule; [U] the rest: torch's Adam."""

    name: str = key("plm-kl", "the method")
    codec: Literal["topk", "sampled"] = key("topk", "signals of the cache that are learnt from", source="[U] as cached")
    scale: float = key(0.01, "weight of the KL", source="[S] 0.01", gt=0)
    contrastive_weight: float = key(
        1.0, "weight of CLIP's contrastive loss on pairs; 0: no pairs", source="[S] 1", ge=0
    )
    temperature: float = key(
        1.0, "tau of both distributions, which is the cache's, too (teacher.temperature)", source="[U] [S] has 2", gt=0
    )
    kd_form: KdForm = key(
        "standard", "standard, KL of softmax(z / tau); literal, the summary's code: tau after the softmax, and the "
        "arguments of kl_div changed places", source="[U] [S] is no divergence",
    )  # fmt: skip
    square: bool = key(False, "multiply the KL by tau ** 2", source="[S] has no such factor")
    reduction: Literal["tokens", "batchmean"] = key(
        "tokens", "mean over all tokens of the batch; or their sum over its texts", source="[U] [S] batchmean"
    )
    tune: Tune = key("all", "what of CLIP is trained (see sds), beside the table of tokens", source="[S] all")
    lora_rank: int = key(8, "rank of tune=lora", source="[U] a usual rank", ge=1)
    train_logit_scale: bool = key(True, "train CLIP's temperature too", source="[S] all parameters")
    captions: Literal["one", "all"] = key(
        "one", "one: a picture is a row, its caption drawn anew each epoch; all: each caption is a row", source="[U]"
    )


class PlmKl(Trainable):
    """`core.contracts.Method` and its `Trainable`. Streams: texts, which make the epoch, and pairs."""

    Config: ClassVar[type] = PlmKlConfig
    reads_tokenizer: ClassVar[bool] = True

    def __init__(self, model: Any, config: Any, feeds: Sequence[Feed], validation: Sequence[Feed]) -> None:
        self.model, self.config = model, config
        self.feeds, self.validation = list(feeds), list(validation)
        self.weights: Mapping[str, float] = {"kl": config.scale, "contrastive": config.contrastive_weight}

    # ------------------------------------------------------------------------------------------ method
    @classmethod
    def signals(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """Token distributions of texts without pictures; data with pictures are pairs (see `if_cached`)."""
        return () if "images" in tables else cls.if_cached(config, tables)

    @classmethod
    def if_cached(cls, config: Any, tables: Collection[str]) -> tuple[str, ...]:
        """What is read of captions, where a cache of them is named: they are texts, too."""
        return (POSITIONS, *CODECS[config.method.codec]) if "texts" in tables else ()

    @classmethod
    def build(cls, config: Any, data: Sequence[TrainingData], device: str) -> PlmKl:
        """CLIP with its weights, the table of tokens, and feeds of `train` and, where there is one, of `val`."""
        method, seed, said = config.method, config.train.seed, _language_model(config)
        seed_all(seed, "new weights")
        model = _student_class(config).build(config.student)
        model.tune(method.tune, method.lora_rank, method.train_logit_scale)
        model.read_tokens(said.tokenizer, said.vocabulary_size, causal=said.kind != "masked")
        positions = model.library.text_positions(model.clip)
        if said.length > positions:
            raise UserError(
                f"the cache's windows have {said.length} tokens, CLIP's text encoder {positions} positions: cache with "
                f"--set teacher.max_tokens={positions}"
            )
        mask_id = said.mask_id if said.kind == "masked" else None

        def texts(one: TrainingData, split: str) -> TokenTexts:
            return token_texts_feed(one, split, said.windows, CODECS[method.codec], mask_id, seed)

        def pairs(number: int, one: TrainingData, split: str) -> CaptionedPictures:
            made = captioned_pictures(
                one, split, model.tokenize, model.picture_transform, seed=seed, number=number,
                every_caption=method.captions == "all", scores=None,
            )  # fmt: skip
            made.stream = "pairs"
            return made

        read = [one for one in data if one.targets("train") is not None]
        seen = [one for one in data if "images" in one.tables("train")] if method.contrastive_weight > 0 else []
        if not read:
            raise UserError("plm-kl has no cache of token distributions: name it with its data, --data NAME:CACHE")
        if method.contrastive_weight > 0 and not seen:
            console.warn("no data have pictures: CLIP's contrastive loss is left out (name pairs by another --data)")
        feeds = [*(texts(one, "train") for one in read), *(pairs(n, one, "train") for n, one in enumerate(seen))]
        validation: list[Feed] = [texts(one, "val") for one in read if "val" in one.splits and one.targets("val")]
        validation += [pairs(n, one, "val") for n, one in enumerate(seen) if "val" in one.splits]
        return cls(model.to(device), method, feeds, validation)

    @classmethod
    def count(cls, config: Any, teacher: Teacher | None) -> Counts:
        """Parameters on the meta device; of CLIP and of the table of tokens apart, too."""
        model = _student_class(config).empty(config.student)
        with torch.device("meta"):
            model.tune(config.method.tune, config.method.lora_rank, config.method.train_logit_scale)
            model.read_tokens(None, _language_model(config).vocabulary_size, causal=True)
        sizes = {
            name: (sum(p.numel() for p in part.parameters()),
                   sum(p.numel() for p in part.parameters() if p.requires_grad))
            for name, part in (("clip", model.clip), ("tokens", model.token_path))
        }  # fmt: skip
        total, trainable = (sum(column) for column in zip(*sizes.values(), strict=True))
        return Counts(total, trainable, teacher.parameters_count() if teacher is not None else 0, sizes)

    @classmethod
    def files(cls, config: Any) -> dict[str, str]:
        """Key -> file, folder or name whose content decides CLIP's first weights."""
        return _student_class(config).files(config.student)

    @classmethod
    def repairs(cls, config: Any) -> dict[str, str]:
        """What of the user's summary can't run as written, and what is done instead; for the manifest."""
        method, said = config.method, _language_model(config)
        masks = "both see the same masked tokens" if said.kind == "masked" else "the model has no mask: next tokens"
        form = "softmax(z / tau)" if method.kd_form == "standard" else "kept as written (kd_form=literal)"
        return {
            "a": "texts have no pictures: the contrastive loss is of a second stream of pairs, or left out",
            "b": f"KL at the same places of teacher and student: {masks}",
            "c": f"vocabularies differ: a table of the teacher's {said.vocabulary_size:,} tokens on CLIP's text blocks",
            "d": f"temperature behind the softmax, arguments of kl_div changed places: {form}, {method.reduction}",
            "e": "49406 is CLIP's start of text, no <IMG>: it is of generation, which the method prefix trains",
            "f": "the prefix of two vectors for the language model is of generation: the method prefix trains its maps",
            "g": f"transformers has no RN50x4: the student is {config.student.arch or config.student.weights}",
        }

    # ------------------------------------------------------------------------------------------ trainable
    def forward(self, batch: Batch) -> Outputs:
        """Of texts the KL, token by token or text by text; of pairs the embeddings."""
        if "token_ids" not in batch:
            said = self.model(batch)
            return Outputs(gathered={"image": said.image, "text": said.text, "picture": batch["picture"]})
        places = batch["target_places"]
        values = self._kl(self.model.token_logits(batch["token_ids"], batch["token_mask"], places), batch)
        if self.config.reduction == "batchmean":
            values = torch.zeros(places.shape, device=values.device).masked_scatter(places, values).sum(dim=1)
        return Outputs(row_losses={"kl": values})

    def _kl(self, logits: Tensor, batch: Batch) -> Tensor:
        """[T] of logits [T, V] at the batch's targets."""
        config, places = self.config, batch["target_places"]
        stored = [batch[name][places] for name in CODECS[config.codec]]
        if config.codec == "sampled":
            return sampled_cross_entropy_per_token(
                logits, *stored, temperature=config.temperature, square=config.square
            )
        return topk_kl_per_token(
            logits, *stored, temperature=config.temperature, kd_form=config.kd_form, square=config.square
        )

    def counts(self, batch: Batch) -> Mapping[str, int]:
        """The KL counts tokens."""
        if "token_ids" not in batch or self.config.reduction == "batchmean":
            return {}
        return {"kl": int(batch["target_places"].sum())}

    def joint_losses(self, gathered: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """CLIP's loss over the global batch. Two captions of one picture are not each other's negatives."""
        if not gathered:
            return {}
        image, text, ids = gathered["image"], gathered["text"], gathered["picture"]
        return {"contrastive": info_nce(image, text, self.model.logit_scale, ids)}

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Matrices and tables; norms and biases without decay."""
        trained: list[nn.Parameter] = [p for p in self.model.parameters() if p.requires_grad]
        groups = [([p for p in trained if p.ndim > 1], weight_decay), ([p for p in trained if p.ndim <= 1], 0.0)]
        return [{"params": params, "lr": peak_lr, "weight_decay": decay} for params, decay in groups if params]

    def save(self, folder: Path) -> None:
        """The student writes model/ and heads.safetensors."""
        self.model.save(folder)


def _student_class(config: Any) -> Any:
    found = registry.load("students", config.student.name)
    if not hasattr(found, "read_tokens"):
        raise UserError(
            f"plm-kl trains a CLIP, not the student {config.student.name!r}: name one by --student open_clip:ARCH:FILE "
            "or --student hf:FOLDER"
        )
    return found


def _language_model(config: Any) -> Any:
    """The teacher's language model, nothing of it loaded; its distributions must be those that the loss is about."""
    if config.teacher is None:
        raise UserError("plm-kl learns from a language model: name its cache, --data NAME:CACHE")
    teacher = registry.load("teachers", config.teacher.name)(config.teacher)
    if not hasattr(teacher, "language_model"):
        raise UserError(f"teacher {config.teacher.name!r} is no language model: cache one, --teacher lm")
    method = config.method
    if method.kd_form == "literal" and method.codec == "sampled":
        raise UserError("method.kd_form=literal needs the teacher's logits: set method.codec=topk")
    wanted = 1.0 if method.kd_form == "literal" else method.temperature
    if teacher.config.temperature != wanted:
        raise UserError(
            f"the teacher's distributions are of temperature {teacher.config.temperature:g}, the loss needs "
            f"{wanted:g}: cache with --set teacher.temperature={wanted:g}, or set method.temperature"
        )
    return teacher.language_model
