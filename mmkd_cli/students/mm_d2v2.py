"""MM-D2V2: blocks of data2vec 2.0's image and text models, and blocks that both share (variants F to L of the notes).

Pictures and texts go through separately. Layers: `encoder`, the first token after a modality's own blocks;
`projection`, after the linear maps between encoders and shared blocks, or (with a contrastive loss) in its space;
`shared`, after the shared blocks. Source: public repository TimCares/MasterThesis, src/models/mm_data2vec_beit.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mmkd_cli.architectures.d2v2 import ImageEmbedding, ImageEncoder, Sizes, TextEmbedding, init_bert_parameters
from mmkd_cli.architectures.d2v2_checkpoints import load_image_checkpoint, load_text_checkpoint
from mmkd_cli.architectures.gpt2_bpe import bpe_files
from mmkd_cli.architectures.state_dicts import load_strictly
from mmkd_cli.core.config import key
from mmkd_cli.core.contracts import Batch, Teacher
from mmkd_cli.core.errors import UserError
from mmkd_cli.students.alignment import Aligned, read_heads
from mmkd_cli.students.beginnings import encoder_of_run, encoder_run, freeze
from mmkd_cli.students.d2v2_text import VOCABULARY, BpeTokenizer, check_width, tokenizer_folder
from mmkd_cli.students.modality_blocks import SpecificBlock, shared_block
from mmkd_cli.students.projections import Heads, Projections, new_linear
from mmkd_cli.students.two_modalities import MODALITIES, TwoModalities, TwoModalitiesConfig


class MmD2v2Config(TwoModalitiesConfig):
    """Keys of the student `mm-d2v2`."""

    name: str = key("mm-d2v2", "the student")
    text_weights: str | None = key(None, "data2vec 2.0's text checkpoint (nlp_base.pt)", identity=False)
    tokenizer: str | None = key(None, "folder of GPT-2's BPE (None: the one that text_weights lies in)", identity=False)
    depth: int = key(6, "blocks that an input goes through", unit="layers", source="[S] MM-D2V2: 6 or 7", ge=1)
    shared: int = key(1, "how many of them, the last, are shared", unit="layers", source="[S] MM-D2V2: 1 or 2", ge=0)
    attention: Literal["separate", "shared"] = key(
        "separate", "of the specific blocks: one a modality, or the image model's for both",
        source="[C] MM-D2V2: separate; shared is VLMo's",
    )  # fmt: skip
    shared_init: Literal["random", "text"] = key(
        "random",
        "shared blocks: N(0, 0.02), or the text model's last",
        source="[S] MM-D2V2: random; text gained nothing",
    )
    embeddings: Literal["frozen", "trained"] = key(
        "frozen", "patches, class token, tokens, positions and their norms; sine positions are never trained",
        source="[S] MM-D2V2: frozen",
    )  # fmt: skip
    token_types: bool = key(
        False, "add a learned vector a modality to the embeddings, and normalise", source="[C] MM-D2V2: a side test"
    )
    mm_projections: bool = key(
        False, "a bias-free linear map a modality between its blocks and the shared ones, as in FLAVA",
        source="[S] MM-D2V2: a variant",
    )  # fmt: skip
    vocabulary: int = key(VOCABULARY, "tokens that the text model knows", source="[P] data2vec 2.0 base", ge=4)

    @property
    def sizes(self) -> Sizes:
        """Of the architecture, as the two checkpoints must have them."""
        return Sizes(
            width=self.width, depth=self.depth, heads=self.heads, mlp_width=4 * self.width, image_size=self.image_size,
            patch_size=self.patch_size, vocabulary=self.vocabulary,
        )  # fmt: skip


class MmD2v2(TwoModalities):
    """The student; a linear head follows the shared blocks where the teacher's width is another."""

    Config: ClassVar[type] = MmD2v2Config
    kind: ClassVar[str] = "mm-d2v2"

    def __init__(self, config: MmD2v2Config, tokenizer: Any, signal: str, target_width: int, heads: Heads) -> None:
        super().__init__(config, tokenizer, signal, target_width, heads)
        if config.shared > config.depth:
            raise UserError(
                f"student.shared {config.shared} is more than student.depth {config.depth}: make it smaller"
            )
        sizes, width = config.sizes, config.width
        self.embed = nn.ModuleDict({"image": ImageEmbedding(sizes), "text": TextEmbedding(sizes)})
        self.specific = nn.ModuleList(
            SpecificBlock(sizes, config.dropout, config.attention == "shared")
            for _ in range(config.depth - config.shared)
        )
        self.shared = nn.ModuleList(shared_block(sizes, config.dropout) for _ in range(config.shared))
        init_bert_parameters(self)
        self.types = nn.ParameterDict({m: torch.zeros(width) for m in MODALITIES} if config.token_types else {})
        for vector in self.types.values():
            nn.init.normal_(vector, std=0.02)
        self.type_norm = nn.LayerNorm(width, eps=1e-6) if config.token_types else None
        mapped = MODALITIES if config.mm_projections else ()
        self.to_shared = nn.ModuleDict({m: new_linear(width, width) for m in mapped})
        needs_head = heads.regression and width != target_width
        self.head = new_linear(width, target_width, bias=True) if needs_head else None
        self.projections = None
        if heads.layout is not None:
            stages = {"output": (width, width), **({"encoder": (width, width)} if config.shared else {})}
            self.projections = Projections(heads.layout, heads.dim or target_width, stages)
        self.embed.requires_grad_(config.embeddings == "trained")
        self.embed["image"].positions.requires_grad_(False)
        freeze(self, config.freeze)
        if self.projections is not None:
            self.layers = ("encoder", "shared", "projection")
        else:
            self.layers = ("encoder", "projection", "shared") if config.mm_projections else ("encoder", "shared")

    @classmethod
    def build(
        cls, config: MmD2v2Config, heads: Heads, signal: str, width: int, captions: Callable[[], Iterable[str]]
    ) -> Self:
        """The student before its first step. width: of the teacher's signal. captions: not needed."""
        student = cls(config, BpeTokenizer(_tokenizer_folder(config), config.max_tokens), signal, width, heads)
        if config.init == "pretrained":
            student._load_checkpoints()
        return student

    @classmethod
    def empty(cls, config: MmD2v2Config, heads: Heads, signal: str, width: int) -> Self:
        """The student on the meta device: sizes without weights."""
        with torch.device("meta"):
            return cls(config, None, signal, width, heads)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], teacher: Teacher | None = None) -> Self:
        """The student of a run's folder. config: the run's, with its table `student`. No teacher is needed."""
        keys = MmD2v2Config.model_validate(config["student"])
        tensors, about = read_heads(folder)
        heads = Heads(about["regression"], about["layout"], about["dim"])
        tokenizer = BpeTokenizer(folder / "model", keys.max_tokens)
        student = cls(keys, tokenizer, about["signal"], about["width"], heads)
        state = {**load_file(folder / "model" / "model.safetensors"), **tensors}
        load_strictly(student, state, "an MM-D2V2 student", folder)
        student._loaded_from = folder
        return student.eval()

    @staticmethod
    def files(config: MmD2v2Config) -> dict[str, str]:
        """Key -> file or folder whose content decides the student's first weights."""
        folder = _tokenizer_folder(config)
        weights = {"student.image_weights": config.image_weights, "student.text_weights": config.text_weights}
        return {f"student.tokenizer/{name}": str(folder / name) for name in bpe_files(folder)} | {
            name: path for name, path in weights.items() if path is not None
        }

    def forward(self, batch: Batch) -> Aligned:
        """batch: "pixels" uint8 [B, 3, H, W], input_ids and attention_mask [B, L], and the teacher's signal [B, D]."""
        image, text = self.stages("image", batch), self.stages("text", batch)
        target = batch[self.signal].float() if self.signal in batch else None
        regressed = {}
        if self.heads.regression:
            regressed = {
                "image": self._in_teacher_space(image["output"]),
                "text": self._in_teacher_space(text["output"]),
            }
        if self.projections is None:
            return Aligned(target, regressed, {}, image["output"], text["output"])
        images, texts = self.projections.project("image", image), self.projections.project("text", text)
        contrasted = {stage: (images[stage], texts[stage]) for stage in self.projections.stages}
        return Aligned(target, regressed, contrasted, *contrasted[self.projections.stages[-1]])

    def parts_without_decay(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that weight-decay rules name: the text embedding table, all embedding tables, the image's CLS."""
        text = self.embed["text"]
        return {
            "text_embedding": [text.tokens.weight],
            "embeddings": [text.tokens.weight, text.positions.weight],
            "image_cls": [self.embed["image"].cls_token],
        }

    def save(self, folder: Path) -> None:
        """Write model/ (safetensors, sizes, tokenizer) and heads.safetensors."""
        self.tokenize.save(folder / "model")
        self._save_weights(folder)

    def tokens(self, modality: str, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """[B, L, D] after a modality's own blocks, after the map to the shared ones, and after those."""
        attend: Tensor | None = None
        if modality == "image":
            x = self.embed["image"](self._pixels(batch))
        else:
            input_ids, attention_mask = self._tokens(batch)
            attend = attention_mask.bool()
            x = self.embed["text"](input_ids, attention_mask)
        if self.type_norm is not None:
            x = self.type_norm(x + self.types[modality])
        for block in self.specific:
            x = block(x, modality, attend)
        mapped = self.to_shared[modality](x) if self.config.mm_projections else x
        output = mapped
        for block in self.shared:
            output = block(output, attend)
        return {"encoder": x, "mapped": mapped, "output": output}, attend

    def image_encoder(self) -> ImageEncoder:
        """The blocks before the shared ones."""
        if self.type_norm is not None:
            raise UserError("student.token_types: a norm stands between embeddings and blocks: they are no image model")
        if not len(self.specific):
            raise UserError("all of the student's blocks are shared: there are none of pictures alone")
        made = ImageEncoder(replace(self.config.sizes, depth=len(self.specific)), self.config.dropout)
        made.embed, made.blocks = self.embed["image"], nn.ModuleList(block.image for block in self.specific)
        return made

    def at_layer(self, modality: str, stages: Mapping[str, Tensor], layer: str) -> Tensor:
        """[..., E] at one of `layers`, of [..., D] at each stage."""
        if layer != "projection":
            return stages["encoder" if layer == "encoder" else "output"]
        if self.projections is None:
            return stages["mapped"]
        return self.projections.project(modality, stages)[self.projections.stages[-1]]

    def _in_teacher_space(self, output: Tensor) -> Tensor:
        return output if self.head is None else self.head(output)

    def _load_checkpoints(self) -> None:
        """Embeddings and specific blocks of both models; the shared blocks from the text model's last, if so asked."""
        config = self.config
        own = len(self.specific)
        first = _first_encoders(config, own)
        image, text = first.values()
        if max(own, config.shared) > min(len(image.blocks), len(text.blocks)):
            raise UserError(f"the checkpoints have too few blocks for student.depth {config.depth}: make it smaller")
        for (place, source), modality in zip(first.items(), MODALITIES, strict=True):
            load_strictly(self.embed[modality], source.embed.state_dict(), "the student's embeddings", place)
        for index, block in enumerate(self.specific):
            block.load(image.blocks[index], text.blocks[index])
        if config.shared_init == "text":
            before = len(text.blocks) - config.shared
            for index, block in enumerate(self.shared):
                block.load_state_dict(text.blocks[before + index].state_dict())


def _tokenizer_folder(config: MmD2v2Config) -> Path:
    """Where GPT-2's BPE lies: as named, beside the text model's checkpoint, or in the run that it begins with."""
    if config.tokenizer is None and config.init_text is not None:
        return encoder_run(config.init_text, "text", "d2v2").path / "model"
    return tokenizer_folder(config.tokenizer, config.text_weights)


def _first_encoders(config: MmD2v2Config, blocks: int) -> dict[str, Any]:
    """Place -> the image and the text model that the student begins with, of runs or of checkpoints."""
    named = ((config.init_image, config.image_weights), (config.init_text, config.text_weights))
    if any(run is None and weights is None for run, weights in named):
        raise UserError(
            "student.image_weights and student.text_weights are needed: data2vec 2.0's two checkpoints; or runs of the "
            "student encoder (student.init_image, student.init_text), or set student.init=random"
        )
    found: dict[str, Any] = {}
    loaders = (load_image_checkpoint, load_text_checkpoint)
    for modality, load, (run, weights) in zip(MODALITIES, loaders, named, strict=True):
        place = str(run or weights)
        if run is not None:
            family = "d2v2" if modality == "text" else None
            found[place] = encoder_of_run(run, modality, config.width, blocks, family)
        else:
            found[place] = load(Path(place), heads=config.heads)
        check_width(found[place].sizes, config.width, place)
    return found
