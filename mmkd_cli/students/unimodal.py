"""A text encoder beside the teacher's own image tower: variants C and D of the MM-D2V2 notes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from mmkd_cli.core.config import key
from mmkd_cli.core.contracts import Batch, PictureTransform, Teacher, Tokenize
from mmkd_cli.core.errors import UserError, nearest
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.students.alignment import Aligned, read_heads, save_heads
from mmkd_cli.students.live_teacher import LiveTeacher
from mmkd_cli.students.projections import Heads, Projections, new_linear
from mmkd_cli.students.text import TextEncoder, build_text_encoder, empty_text_encoder, load_text_encoder, text_files
from mmkd_cli.students.text_config import TextEncoderConfig


class UnimodalConfig(TextEncoderConfig):
    """Keys of the student `unimodal`."""

    name: str = key("unimodal", "the student")
    standardize: bool = key(
        False, "bring each dimension of the teacher's signal to mean 0 and deviation 1 on the training split",
        source="[P] MM-D2V2 regresses the CLS as it is",
    )  # fmt: skip
    signal_dropout: float = key(
        0.0, "dropout in training of the teacher's signal on its way to the projection; the regressed one stays whole",
        source="[P] MM-D2V2: none", ge=0, lt=1,
    )  # fmt: skip


class Unimodal(nn.Module):
    """Texts through a trained encoder, pictures through the frozen teacher (or its cache).

    A linear head brings the text to the teacher's width where the two differ and the CLS is regressed. Layers:
    `encoder`, both in the teacher's space; `projection`, both in the contrastive one. Only those that exist.
    """

    Config: ClassVar[type] = UnimodalConfig
    needs_pictures: ClassVar[bool] = False
    signal_mean: Tensor
    signal_std: Tensor

    def __init__(
        self, config: UnimodalConfig, encoder: TextEncoder, tokenizer: Any, signal: str, width: int, heads: Heads,
        teacher: Teacher | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.image_signal, self.heads, self.target_width = encoder, signal, heads, width
        self._tokenizer = tokenizer
        self._loaded_from: Path | None = None
        self._teacher = LiveTeacher(teacher)
        self.head = new_linear(encoder.width, width, bias=True) if heads.regression and encoder.width != width else None
        self.projections: Projections | None = None
        if heads.layout is not None:
            widths = {"output": (width, encoder.width)}
            self.projections = Projections(heads.layout, heads.dim or width, widths)
        self.standardize, self.signal_dropout = config.standardize, nn.Dropout(config.signal_dropout)
        self.register_buffer("signal_mean", torch.zeros(width))
        self.register_buffer("signal_std", torch.ones(width))
        comparable = self.head is not None or encoder.width == width
        self.layers: tuple[str, ...] = (
            *(("encoder",) if comparable else ()),
            *(("projection",) if self.projections is not None else ()),
        )

    @classmethod
    def build(
        cls, config: UnimodalConfig, heads: Heads, signal: str, width: int, captions: Callable[[], Iterable[str]]
    ) -> Self:
        """The student before its first step. width: of the teacher's signal. captions: of the training split."""
        encoder, tokenizer = build_text_encoder(config, captions)
        return cls(config, encoder, tokenizer, signal, width, heads)

    @classmethod
    def empty(cls, config: UnimodalConfig, heads: Heads, signal: str, width: int) -> Self:
        """The student on the meta device: sizes without weights."""
        encoder = empty_text_encoder(config)
        with torch.device("meta"):
            return cls(config, encoder, None, signal, width, heads)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], teacher: Teacher | None = None) -> Self:
        """The student of a run's folder. config: the run's, with its table `student`. teacher: for pictures."""
        keys = UnimodalConfig.model_validate(config["student"])
        tensors, about = read_heads(folder)
        encoder, tokenizer = load_text_encoder(folder / "model", keys)
        heads = Heads(about["regression"], about["layout"], about["dim"])
        student = cls(keys, encoder, tokenizer, about["signal"], about["width"], heads, teacher)
        student.load_state_dict({**student.state_dict(), **tensors})
        student._loaded_from = folder
        return student.eval()

    @staticmethod
    def files(config: UnimodalConfig) -> dict[str, str]:
        """Key -> file or folder whose content decides the student's first weights."""
        return text_files(config)

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """The signal's mean and standard deviation on the training split, [D] each."""
        self.signal_mean.copy_(mean)
        self.signal_std.copy_(std)

    def forward(self, batch: Batch) -> Aligned:
        """batch: the signal [B, D], input_ids and attention_mask [B, L]."""
        target = self._image(batch)
        encoded = self.encoder(batch["input_ids"], batch["attention_mask"])
        regressed = {"text": self._in_teacher_space(encoded)} if self.heads.regression else {}
        image, text, contrasted = target, regressed.get("text", encoded), {}
        if self.projections is not None:
            images = self.projections.project("image", {"output": self.signal_dropout(target)})
            texts = self.projections.project("text", {"output": encoded})
            contrasted = {stage: (images[stage], texts[stage]) for stage in self.projections.stages}
            image, text = images["output"], texts["output"]
        return Aligned(target, regressed, contrasted, image, text)

    def parts_without_decay(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that weight-decay rules name: the text embedding table, all embedding tables, the image's CLS."""
        tables = [m.weight for m in self.encoder.modules() if isinstance(m, nn.Embedding)]
        return {"text_embedding": tables[:1], "embeddings": tables, "image_cls": []}

    # ------------------------------------------------------------------------------------------ dual encoder
    def identity(self) -> dict[str, Any]:
        folder = self._require_folder()
        return {
            "student": "unimodal",
            "model": sha256_file(folder / "model"),
            "heads": sha256_file(folder / "heads.safetensors"),
        }

    @property
    def picture_transform(self) -> PictureTransform:
        return self._teacher.picture_transform

    @property
    def tokenize(self) -> Tokenize:
        assert self._tokenizer is not None, "a student on the meta device has no tokenizer"
        return self._tokenizer

    @torch.no_grad()
    def embed_images(self, batch: Batch, layer: str | None = None) -> Tensor:
        """[B, E] of the cached signal, or of pixels through the live teacher."""
        said = self._teacher.signal(batch, self.image_signal, self.signal_mean.device)
        signal = self._image({self.image_signal: said})
        if self._layer(layer) == "encoder":
            return signal
        return self.projections.project("image", {"output": signal})["output"]

    @torch.no_grad()
    def embed_texts(self, batch: Batch, layer: str | None = None) -> Tensor:
        """[B, E] of token ids."""
        device = self.signal_mean.device
        encoded = self.encoder(batch["input_ids"].to(device), batch["attention_mask"].to(device))
        if self._layer(layer) == "encoder":
            return self._in_teacher_space(encoded)
        return self.projections.project("text", {"output": encoded})["output"]

    def save(self, folder: Path) -> None:
        """Write model/ in transformers' layout, with its tokenizer, and heads.safetensors."""
        self.encoder.save(folder / "model")
        if self._tokenizer is not None:
            self._tokenizer.save(folder / "model")
        ours = {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("encoder.")}
        about = {**self.heads._asdict(), "signal": self.image_signal, "width": len(self.signal_mean)}
        save_heads(folder, ours, about)

    def _image(self, batch: Batch) -> Tensor:
        """The signal [B, D], float32, standardised with the training split's statistics (0 and 1 without)."""
        return (batch[self.image_signal].float() - self.signal_mean) / self.signal_std

    def _in_teacher_space(self, encoded: Tensor) -> Tensor:
        return encoded if self.head is None else self.head(encoded)

    def _layer(self, layer: str | None) -> str:
        if layer is not None and layer not in self.layers:
            raise UserError(f"layer {layer!r} is not one of this student's{nearest(layer, self.layers)}")
        return layer or self.layers[-1]

    def _require_folder(self) -> Path:
        assert self._loaded_from is not None, "a student is identified by its folder"
        return self._loaded_from
