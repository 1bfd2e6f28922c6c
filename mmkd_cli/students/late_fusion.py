"""A student of two modalities whose vectors of a picture and of a text meet in a head that chooses an answer.

The notes' students never see both at once (public repository TimCares/MasterThesis): what they know is asked for by a
head on what each modality says for itself. B questions about P pictures each, D width of a vector, A answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmkd_cli.core import paths
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import Batch, Teacher
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.pictures import Transform
from mmkd_cli.students.grid_answerers import Vocabulary
from mmkd_cli.students.projections import new_linear
from mmkd_cli.students.two_modalities import MODALITIES, TwoModalities, open_student
from mmkd_cli.training.optim import decay_groups

_HEAD, _VOCABULARY = "answers.safetensors", "vocabulary.json"


class LateFusionConfig(Config):
    """Keys of the student `late-fusion`."""

    name: str = key("late-fusion", "the student")
    layer: str = key(
        "shared", "whose vectors the head sees, of both modalities: shared, encoder, or what else the run has "
        "(projection, head)", source="[U] the last that is the student's own",
    )  # fmt: skip
    frozen: bool = key(False, "the head alone is trained", source="[U] trained end to end")
    dropout: float = key(0.1, "of the head", source="[U] BERT's", ge=0, lt=1)
    head_lr_scale: float = key(20.0, "learning rate of the head, times train.peak_lr", source="[C] VLMo: 20", gt=0)


class LateFusion(nn.Module):
    """The student. Its head: linear to 2 D, norm, GELU, linear ([C] as VLMo's for VQA v2), of [image; text; image *
    text; |image - text|] ([U] as of pairs of sentences in arXiv 1705.02364)."""

    Config: ClassVar[type] = LateFusionConfig
    image_signal: str | None = None
    layers: tuple[str, ...] = ()
    tower: None = None
    """Pictures are read by its own encoder."""

    def __init__(self, config: LateFusionConfig, body: TwoModalities, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config, self.body, self.vocabulary = config, body, vocabulary
        width = self._freeze_what_is_not_reached()
        self.head = nn.Sequential(
            new_linear(4 * vocabulary.pictures * width, 2 * width, bias=True), nn.LayerNorm(2 * width), nn.GELU(),
            nn.Dropout(config.dropout), new_linear(2 * width, len(vocabulary.answers), bias=True),
        )  # fmt: skip

    @classmethod
    def build(cls, config: LateFusionConfig, channels: int, vocabulary: Vocabulary, start: Path | None = None) -> Self:
        """The run's student with a new head; one that was trained for the same answers stays. channels: of no cells."""
        assert start is not None, "the stage opens the run"
        made = cls(config, open_student(start), vocabulary)
        place = start / "model"
        if (place / _VOCABULARY).exists() and paths.read_json(place / _VOCABULARY) == made._about():
            made.head.load_state_dict(load_file(place / _HEAD))
        return made

    @classmethod
    def empty(cls, config: LateFusionConfig, channels: int, vocabulary: Vocabulary) -> Self:
        """UserError: nothing is known of it without its run."""
        raise UserError("student late-fusion has the sizes of the run that it starts from: name it by --model")

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], teacher: Teacher | None = None) -> Self:
        """The student of a run's folder. config: the run's, with its table `student`."""
        about = paths.read_json(folder / "model" / _VOCABULARY)
        vocabulary = Vocabulary([], about["answers"], about["pictures"])
        made = cls(LateFusionConfig.model_validate(config["student"]), open_student(folder), vocabulary)
        made.head.load_state_dict(load_file(folder / "model" / _HEAD))
        return made.eval()

    @property
    def tokenize(self) -> Any:
        return self.body.tokenize

    @property
    def picture_transform(self) -> Transform:
        return self.body.picture_transform

    def train(self, mode: bool = True) -> Self:
        """What is frozen stays as in evaluation."""
        super().train(mode)
        self.body.train(mode and not self.config.frozen)
        return self

    def logits(self, batch: Batch) -> Tensor:
        """float32 [B, A] of input_ids, attention_mask [B, L] and pixels: B pictures uint8 [3, H, W], or lists of P."""
        pixels = batch["pixels"]
        every = [one for row in pixels for one in row] if isinstance(pixels[0], list) else list(pixels)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.frozen):
            image = self._vectors("image", {"pixels": torch.stack(every)})
            text = self._vectors("text", batch).repeat_interleave(self.vocabulary.pictures, 0)
        pairs = torch.cat([image, text, image * text, (image - text).abs()], dim=1)
        said: Tensor = self.head(pairs.view(len(pixels), -1))
        return said.float()

    @torch.no_grad()
    def answer(self, questions: Sequence[str], pictures: Batch) -> list[str]:
        """The likeliest answer to each question. pictures: `pixels` of each question's."""
        said = self.logits({**self.tokenize(questions), **pictures})
        return [self.vocabulary.answers[place] for place in said.argmax(1).tolist()]

    def parameter_groups(self, peak_lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Of the run's student and of the head: matrices; tables, norms and biases without decay."""
        body = [p for p in self.body.parameters() if p.requires_grad]
        head_lr = peak_lr * self.config.head_lr_scale
        return [
            *decay_groups(self, body, peak_lr, weight_decay, self.body.parts_without_decay()),
            *decay_groups(self, self.head.parameters(), head_lr, weight_decay),
        ]

    def save(self, folder: Path) -> None:
        """Write the student as it lies in its own runs, and in model/ the head and what its answers are."""
        self.body.save(folder)
        state = {name: value.detach().cpu().contiguous() for name, value in self.head.state_dict().items()}
        save_file(state, folder / "model" / _HEAD, metadata={"format": "pt"})
        paths.write_json(folder / "model" / _VOCABULARY, self._about())

    def _about(self) -> dict[str, Any]:
        vocabulary = self.vocabulary
        return {"answers": [*vocabulary.answers], "pictures": vocabulary.pictures, "layer": self.config.layer}

    def _vectors(self, modality: str, batch: Batch) -> Tensor:
        return self.body.vectors(modality, batch, self.config.layer)

    def _freeze_what_is_not_reached(self) -> int:
        """Parameters that the layer's vectors do not depend on (heads, logit scales, later blocks) have no gradient and
        are not trained; nor is anything that is to be frozen. Returns D."""
        side = self.picture_transform.size[0]
        example = {"pixels": torch.zeros(1, 3, side, side, dtype=torch.uint8), **self.tokenize(["a"])}
        trained = [p for p in self.body.parameters() if p.requires_grad]
        with torch.enable_grad():
            vectors = [self._vectors(modality, example) for modality in MODALITIES]
            said = torch.cat(vectors).sum()
            reached = (
                torch.autograd.grad(said, trained, allow_unused=True) if said.requires_grad else [None] * len(trained)
            )
        for parameter, gradient in zip(trained, reached, strict=True):
            parameter.requires_grad_(gradient is not None and not self.config.frozen)
        return vectors[0].shape[1]
