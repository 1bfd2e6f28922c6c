"""MM-D2V2 on BEiT-2's blocks with relative positions: J's side test that the notes' code begins and does not finish.

Specific blocks share BEiT-2's attention; pictures have its feed-forward parts, texts data2vec 2.0's, and its token
table. Layers: `encoder`, the first token after the specific blocks; `shared`, after the shared ones and the last norm.
Source: public repository TimCares/MasterThesis, src/models/mm_data2vec_beit_rpb.py; what it leaves open is marked [U].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mmkd_cli.architectures.beit2 import SHARED_TABLE, beit2_sizes, beit2_weights
from mmkd_cli.architectures.d2v2 import IMAGE_EPS, PAD_ID
from mmkd_cli.architectures.d2v2_checkpoints import load_text_checkpoint
from mmkd_cli.architectures.gpt2_bpe import bpe_files
from mmkd_cli.architectures.relative_blocks import RelativeBlock, RelativePositions
from mmkd_cli.architectures.state_dicts import load_strictly, read_state_dict
from mmkd_cli.core.config import key
from mmkd_cli.core.contracts import Batch, Teacher
from mmkd_cli.core.errors import UserError
from mmkd_cli.students.alignment import Aligned, read_heads
from mmkd_cli.students.beginnings import freeze
from mmkd_cli.students.d2v2_text import VOCABULARY, BpeTokenizer, check_width, tokenizer_folder
from mmkd_cli.students.projections import Heads, Projections, new_linear
from mmkd_cli.students.two_modalities import MODALITIES, TwoModalities, TwoModalitiesConfig

_BLOCK = {"norm1": "norm", "attn.qkv": "qkv", "attn.q_bias": "q_bias", "attn.v_bias": "v_bias", "attn.proj": "proj",
          "gamma_1": "layer_scale", "norm2": "experts.image.norm", "mlp.fc1": "experts.image.fc1",
          "mlp.fc2": "experts.image.fc2", "gamma_2": "experts.image.layer_scale"}  # fmt: skip
"""BEiT-2's names of a block's parts -> ours."""


class MmBeit2Config(TwoModalitiesConfig):
    """Keys of the student `mm-beit2`."""

    name: str = key("mm-beit2", "the student")
    image_weights: str | None = key(
        None, "BEiT-2's self-supervised checkpoint (beitv2_base_patch16_224_pt1k.pth)", identity=False
    )
    text_weights: str | None = key(None, "data2vec 2.0's text checkpoint (nlp_base.pt)", identity=False)
    tokenizer: str | None = key(None, "folder of GPT-2's BPE (None: the one that text_weights lies in)", identity=False)
    depth: int = key(6, "blocks that an input goes through", unit="layers", source="[C] MM-D2V2: 6", ge=1)
    shared: int = key(1, "how many of them, the last, are shared", unit="layers", source="[U] as G; [C] 2", ge=1)
    vocabulary: int = key(VOCABULARY, "tokens that the text model knows", source="[P] data2vec 2.0 base", ge=4)


class MmBeit2(TwoModalities):
    """The student; a linear head follows where the teacher's width is another."""

    Config: ClassVar[type] = MmBeit2Config
    kind: ClassVar[str] = "mm-beit2"

    def __init__(self, config: MmBeit2Config, tokenizer: Any, signal: str, target_width: int, heads: Heads) -> None:
        super().__init__(config, tokenizer, signal, target_width, heads)
        if config.init_image or config.init_text or config.shared > config.depth:
            raise UserError("student mm-beit2 begins with no run, and has no more shared blocks than student.depth")
        width = config.width
        self.patches = nn.Conv2d(3, width, config.patch_size, config.patch_size)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.words = nn.Embedding(config.vocabulary, width, padding_idx=PAD_ID)
        nn.init.normal_(self.words.weight, std=0.02)
        self.types = nn.ParameterDict({modality: 0.02 * torch.randn(width) for modality in MODALITIES})
        self.positions = RelativePositions(config.image_size // config.patch_size, config.max_tokens, config.heads)
        own = config.depth - config.shared
        self.specific = nn.ModuleList(
            RelativeBlock(width, config.heads, MODALITIES, config.dropout) for _ in range(own)
        )
        self.shared = nn.ModuleList(
            RelativeBlock(width, config.heads, ("both",), config.dropout) for _ in range(config.shared)
        )
        self.norm = nn.LayerNorm(width, eps=IMAGE_EPS)
        needs_head = heads.regression and width != target_width
        self.head = new_linear(width, target_width, bias=True) if needs_head else None
        self.projections = None
        if heads.layout is not None:
            stages = {"output": (width, width), "encoder": (width, width)}
            self.projections = Projections(heads.layout, heads.dim or target_width, stages)
        self.layers = ("encoder", "shared", *(("projection",) if self.projections is not None else ()))
        freeze(self, config.freeze)

    @classmethod
    def build(
        cls, config: MmBeit2Config, heads: Heads, signal: str, width: int, captions: Callable[[], Iterable[str]]
    ) -> Self:
        """The student before its first step. width: of the teacher's signal. captions: not needed."""
        tokenizer = BpeTokenizer(tokenizer_folder(config.tokenizer, config.text_weights), config.max_tokens)
        student = cls(config, tokenizer, signal, width, heads)
        if config.init == "pretrained":
            student._load_checkpoints()
        return student

    @classmethod
    def empty(cls, config: MmBeit2Config, heads: Heads, signal: str, width: int) -> Self:
        """The student on the meta device: sizes without weights."""
        with torch.device("meta"):
            return cls(config, None, signal, width, heads)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], teacher: Teacher | None = None) -> Self:
        """The student of a run's folder. config: the run's, with its table `student`. No teacher is needed."""
        keys = MmBeit2Config.model_validate(config["student"])
        tensors, about = read_heads(folder)
        heads = Heads(about["regression"], about["layout"], about["dim"])
        student = cls(keys, BpeTokenizer(folder / "model", keys.max_tokens), about["signal"], about["width"], heads)
        state = {**load_file(folder / "model" / "model.safetensors"), **tensors}
        load_strictly(student, state, "a student on BEiT-2's blocks", folder)
        student._loaded_from = folder
        return student.eval()

    @staticmethod
    def files(config: MmBeit2Config) -> dict[str, str]:
        """Key -> file or folder whose content decides the student's first weights."""
        folder = tokenizer_folder(config.tokenizer, config.text_weights)
        weights = {"student.image_weights": config.image_weights, "student.text_weights": config.text_weights}
        return {f"student.tokenizer/{name}": str(folder / name) for name in bpe_files(folder)} | {
            name: path for name, path in weights.items() if path is not None
        }

    def forward(self, batch: Batch) -> Aligned:
        """batch: "pixels" uint8 [B, 3, H, W], input_ids and attention_mask [B, L], and the teacher's signal [B, D]."""
        image, text = (self.stages(modality, batch) for modality in MODALITIES)
        target = batch[self.signal].float() if self.signal in batch else None
        regressed = {}
        if self.heads.regression:
            said = zip(MODALITIES, (image, text), strict=True)
            regressed = {modality: self._in_teacher_space(stages["output"]) for modality, stages in said}
        if self.projections is None:
            return Aligned(target, regressed, {}, image["output"], text["output"])
        images, texts = self.projections.project("image", image), self.projections.project("text", text)
        contrasted = {stage: (images[stage], texts[stage]) for stage in self.projections.stages}
        return Aligned(target, regressed, contrasted, *contrasted[self.projections.stages[-1]])

    def parts_without_decay(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that weight-decay rules name: the text embedding table, all embedding tables, the image's CLS."""
        tables = [self.words.weight, self.positions.image, self.positions.text]
        return {"text_embedding": tables[:1], "embeddings": tables, "image_cls": [self.cls_token]}

    def save(self, folder: Path) -> None:
        """Write model/ (safetensors, sizes, tokenizer) and heads.safetensors."""
        self.tokenize.save(folder / "model")
        self._save_weights(folder)

    def tokens(self, modality: str, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """[B, L, D] after the specific blocks, and after the shared ones and the norm."""
        attend: Tensor | None = None
        if modality == "image":
            x = self.patches(self._pixels(batch)).flatten(2).transpose(1, 2)
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        else:
            input_ids, attention_mask = self._tokens(batch)
            attend, x = attention_mask.bool(), self.words(input_ids)
        x, bias = x + self.types[modality], self.positions.bias(modality, x.shape[1], attend)
        for block in self.specific:
            x = block(x, modality, bias)
        output = x
        for block in self.shared:
            output = block(output, "both", bias)
        return {"encoder": x, "output": self.norm(output)}, attend

    def at_layer(self, modality: str, stages: Mapping[str, Tensor], layer: str) -> Tensor:
        """[..., E] at one of `layers`, of [..., D] at each stage."""
        if layer == "projection" and self.projections is not None:
            return self.projections.project(modality, stages)[self.projections.stages[-1]]
        return stages["encoder" if layer == "encoder" else "output"]

    def _in_teacher_space(self, output: Tensor) -> Tensor:
        return output if self.head is None else self.head(output)

    def _load_checkpoints(self) -> None:
        """BEiT-2's patches, class token, positions, blocks and norm; data2vec 2.0's tokens and feed-forward parts,
        under BEiT-2's LayerScale ([U])."""
        config = self.config
        if config.image_weights is None or config.text_weights is None:
            raise UserError(
                "student.image_weights and student.text_weights are needed: BEiT-2's checkpoint and data2vec 2.0's of "
                "text; or set student.init=random"
            )
        place = Path(config.image_weights)
        state = beit2_weights(read_state_dict(place, stand_ins=True))
        sizes, text = beit2_sizes(state, place), load_text_checkpoint(Path(config.text_weights), heads=config.heads)
        check_width(text.sizes, config.width, config.text_weights)
        mine = (config.width, config.heads, config.image_size, config.patch_size)
        if not sizes.shared_table or (sizes.width, sizes.heads, sizes.image_size, sizes.patch_size) != mine:
            raise UserError(
                f"{place} does not fit the student ({sizes.width} wide, {sizes.heads} heads, {sizes.image_size} px, or "
                "a table a block): name a self-supervised BEiT-2 of its sizes"
            )
        if len(self.specific) > min(sizes.depth, len(text.blocks)):
            raise UserError(f"the checkpoints have too few blocks for student.depth {config.depth}: make it smaller")
        parts: list[tuple[nn.Module, str]] = [(self.patches, "patch_embed.proj."), (self.norm, "norm.")]
        for module, prefix in parts:
            load_strictly(module, _below(state, prefix), "the student", place)
        load_strictly(self.words, text.embed.tokens.state_dict(), "the student's tokens", config.text_weights)
        with torch.no_grad():
            self.cls_token.copy_(state["cls_token"])
            self.positions.image.copy_(state[SHARED_TABLE])
        for index, block in enumerate(self.specific):
            given = _below(state, f"blocks.{index}.")
            own = {_ours(name): value for name, value in given.items()}
            block.load_state_dict({**block.state_dict(), **own})
            words, scale = text.blocks[index], block.experts["image"].layer_scale
            theirs = {"norm": words.norm2, "fc1": words.mlp.fc1, "fc2": words.mlp.fc2}
            for name, module in theirs.items():
                getattr(block.experts["text"], name).load_state_dict(module.state_dict())
            block.experts["text"].layer_scale.data.copy_(scale.data)


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _ours(name: str) -> str:
    part = next(part for part in _BLOCK if name == part or name.startswith(f"{part}."))
    return _BLOCK[part] + name.removeprefix(part)
