"""S-SMKE and SHRe: blocks of data2vec 2.0's image model, blocks of BERT, and what both share (Q to X of the thesis).

Pictures and texts go through separately. Layers: `encoder`, the first token after a modality's own blocks; `shared`,
after the shared block or MLP; `head`, in the teacher's space. Retrieval compares `shared`, of an MLP `head`. Source:
public repositories TimCares/EV-LP (S_SMKE.py) and TimCares/MasterThesis (src/models/SHRe.py; Sx3HRe.py, an older name).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mmkd_cli.architectures.d2v2 import ImageEncoder, Sizes, init_bert_parameters
from mmkd_cli.architectures.d2v2_checkpoints import load_image_checkpoint
from mmkd_cli.architectures.shared_block import SharedBlock, SharedMlp
from mmkd_cli.architectures.state_dicts import load_strictly
from mmkd_cli.architectures.text_layers import BERT_BASE, TextLayers, text_config
from mmkd_cli.architectures.transformers_folder import open_tokenizer
from mmkd_cli.core.config import key
from mmkd_cli.core.contracts import Batch, Teacher
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.hub import hub_folder
from mmkd_cli.losses.logit_scale import new_logit_scale
from mmkd_cli.students.alignment import Aligned, read_heads
from mmkd_cli.students.beginnings import encoder_of_run, encoder_run, freeze
from mmkd_cli.students.d2v2_text import check_width
from mmkd_cli.students.projections import Heads, new_linear
from mmkd_cli.students.tokenizers import FixedLengthTokenizer
from mmkd_cli.students.two_modalities import MODALITIES, TwoModalities, TwoModalitiesConfig


class SSmkeConfig(TwoModalitiesConfig):
    """Keys of the student `s-smke`."""

    name: str = key("s-smke", "the student")
    text_weights: str | None = key(
        None, "folder or hub id of a BERT (None: of random weights, BERT base's sizes)", identity=False
    )
    tokenizer: str | None = key(None, "folder of the tokenizer (None: text_weights)", identity=False)
    depth: int = key(6, "blocks of each encoder, the first ones", unit="layers", source="[P] 6 and 6", ge=1)
    shared: Literal["block", "mlp"] = key(
        "block", "what both modalities share: a Transformer block, or an MLP on the first token", source="[P] Q, R: mlp"
    )
    layer_scale: float = key(
        0.2, "where the shared block's LayerScale begins; 0: it has none", source="[C] 0.2; [P] 1e-5, before it none",
        ge=0,
    )  # fmt: skip
    token_types: Literal["none", "before", "after"] = key(
        "after", "a learned vector a modality: none, added to the embeddings, or after the encoders",
        source="[P] after them, from T2 on",
    )  # fmt: skip
    taps: Literal["output", "both", "all"] = key(
        "both", "what the contrastive loss compares: the output of what is shared; its feed-forward part's hidden "
        "layer, too; and the head's output: terms that are averaged", source="[C] S-SMKE: both; [P] SHRe's MLP: all",
    )  # fmt: skip

    @property
    def sizes(self) -> Sizes:
        """Of data2vec 2.0's architecture, cut to the student's depth."""
        return Sizes(
            width=self.width, depth=self.depth, heads=self.heads, mlp_width=4 * self.width, image_size=self.image_size,
            patch_size=self.patch_size,
        )  # fmt: skip


class Taps(nn.Module):
    """What the contrastive loss compares of what is shared, unprojected, with a learned logit scale each.

    dims: stage -> width: `hidden` of the feed-forward part, `output`, `head`.
    """

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__()
        self.dims, self.stages = dict(dims), tuple(dims)
        self.logit_scales = nn.ParameterDict({stage: new_logit_scale() for stage in dims})


class SSmke(TwoModalities):
    """The student."""

    Config: ClassVar[type] = SSmkeConfig
    kind: ClassVar[str] = "s-smke"

    def __init__(
        self, config: SSmkeConfig, image: ImageEncoder, text: TextLayers, tokenizer: Any, signal: str,
        target_width: int, heads: Heads,
    ) -> None:  # fmt: skip
        super().__init__(config, tokenizer, signal, target_width, heads)
        width = config.width
        if text.width != width:
            raise UserError(f"student.width is {width}, the text encoder's {text.width}: name encoders of one width")
        self.image, self.text = image, text
        self.shared: nn.Module = SharedMlp(width)
        if config.shared == "block":
            self.shared = SharedBlock(width, config.heads, config.layer_scale, config.dropout)
        typed = MODALITIES if config.token_types != "none" else ()
        self.types = nn.ParameterDict({modality: 0.02 * torch.randn(width) for modality in typed})
        self.head = None
        if heads.regression:
            self.head = nn.Sequential(nn.LayerNorm(width, eps=1e-6), new_linear(width, target_width, bias=True))
        self.projections = None
        if heads.dim is not None or heads.layout not in (None, "clip"):
            raise UserError(
                "method.layout and method.projection_dim have no effect here: student.taps says what is contrasted"
            )
        if heads.layout is not None:
            if config.taps == "all" and self.head is None:
                raise UserError("student.taps=all is of the head, and nothing is distilled: set student.taps=both")
            dims = {"hidden": 4 * width, "output": width, "head": target_width}
            kept = {"output": ("output",), "both": ("hidden", "output"), "all": tuple(dims)}[config.taps]
            self.projections = Taps({stage: dims[stage] for stage in kept})
        freeze(self, config.freeze)
        head = ("head",) if heads.regression else ()
        self.layers = ("encoder", *head, "shared") if config.shared == "block" else ("encoder", "shared", *head)

    @classmethod
    def build(
        cls, config: SSmkeConfig, heads: Heads, signal: str, width: int, captions: Callable[[], Iterable[str]]
    ) -> Self:
        """The student before its first step. width: of the teacher's signal. captions: not needed."""
        tokenizer = FixedLengthTokenizer(open_tokenizer(_tokenizer_folder(config)), config.max_tokens)
        if config.init == "random":
            return cls(config, _random_image(config), _random_text(config), tokenizer, signal, width, heads)
        image, text = _first_image(config), _first_text(config)
        return cls(config, image, text, tokenizer, signal, width, heads)

    @classmethod
    def empty(cls, config: SSmkeConfig, heads: Heads, signal: str, width: int) -> Self:
        """The student on the meta device: sizes without weights."""
        with torch.device("meta"):
            return cls(config, _random_image(config), _random_text(config), None, signal, width, heads)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], teacher: Teacher | None = None) -> Self:
        """The student of a run's folder. config: the run's, with its table `student`. No teacher is needed."""
        keys = SSmkeConfig.model_validate(config["student"])
        tensors, about = read_heads(folder)
        model = folder / "model"
        text = TextLayers.load(model / "text")
        tokenizer = FixedLengthTokenizer(open_tokenizer(model / "text"), keys.max_tokens)
        heads = Heads(about["regression"], about["layout"], about["dim"])
        student = cls(keys, ImageEncoder(keys.sizes, keys.dropout), text, tokenizer, about["signal"], about["width"],
                      heads)  # fmt: skip
        own = {f"text.{name}": value for name, value in text.state_dict().items()}
        state = {**load_file(model / "model.safetensors"), **tensors, **own}
        load_strictly(student, state, "an S-SMKE student", folder)
        student._loaded_from = folder
        return student.eval()

    @staticmethod
    def files(config: SSmkeConfig) -> dict[str, str]:
        """Key -> file or folder whose content decides the student's first weights."""
        named = {"student.image_weights": config.image_weights, "student.tokenizer": config.tokenizer}
        if config.text_weights is not None:
            named["student.text_weights"] = str(hub_folder(config.text_weights))
        return {name: path for name, path in named.items() if path is not None}

    def forward(self, batch: Batch) -> Aligned:
        """batch: "pixels" uint8 [B, 3, H, W], input_ids and attention_mask [B, L], and the teacher's signal [B, D].

        Of a signal of tokens [B, n, D] all tokens of both modalities are regressed, [B, L, D].
        """
        target = batch[self.signal].float() if self.signal in batch else None
        tokens = {modality: self.tokens(modality, batch)[0] for modality in MODALITIES}
        said = {
            modality: {stage: of_all[:, 0] for stage, of_all in tokens[modality].items()} for modality in MODALITIES
        }
        image, text = said["image"], said["text"]
        regressed = {}
        if self.head is not None:
            for modality, stages in said.items():
                stages["head"] = self.head(stages["output"])
                of_tokens = target is not None and target.ndim == 3
                regressed[modality] = self.head(tokens[modality]["output"]) if of_tokens else stages["head"]
        taps = self.projections.stages if self.projections is not None else ()
        contrasted = {stage: (image[stage], text[stage]) for stage in taps}
        return Aligned(target, regressed, contrasted, image["output"], text["output"])

    @property
    def regresses_tokens(self) -> bool:
        """Whether what is shared gives all tokens: an MLP gives the first one."""
        return self.config.shared == "block"

    def parts_without_decay(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that weight-decay rules name: the text embedding table, all embedding tables, the image's CLS."""
        tables = [module.weight for module in self.text.modules() if isinstance(module, nn.Embedding)]
        return {"text_embedding": tables[:1], "embeddings": tables, "image_cls": [self.image.embed.cls_token]}

    def save(self, folder: Path) -> None:
        """Write model/ (the text encoder in transformers' layout, all else in one file) and heads.safetensors."""
        self.text.save(folder / "model" / "text")
        self.tokenize.save(folder / "model" / "text")
        self._save_weights(folder, apart="text.")

    def tokens(self, modality: str, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """After a modality's own blocks [B, L, D], in the hidden layer of what is shared [B, L, 4 D], and after it
        [B, L, D]; of an MLP, which sees the first token alone, L is 1 there."""
        offset = self.types[modality] if self.types else None
        before = offset if self.config.token_types == "before" else None
        attend: Tensor | None = None
        if modality == "image":
            x = self.image.embed(self._pixels(batch))
            x = x if before is None else x + before
            for block in self.image.blocks:
                x = block(x)
        else:
            input_ids, attention_mask = self._tokens(batch)
            attend = attention_mask.bool()
            x = self.text.layers(input_ids, attention_mask, before)[-1]
        output, hidden = self.shared(x if self.config.token_types != "after" else x + offset, attend)
        return {"encoder": x, "hidden": hidden, "output": output}, attend

    @torch.no_grad()
    def image_encoder(self) -> ImageEncoder:
        """The blocks before what is shared; a vector that is added before them goes into the embedding's norm."""
        if self.config.token_types == "before":
            self.image.embed.norm.bias += self.types["image"]
        return self.image

    def at_layer(self, modality: str, stages: Mapping[str, Tensor], layer: str) -> Tensor:
        """[..., E] at one of `layers`, of [..., D] at each stage."""
        if layer == "encoder":
            return stages["encoder"]
        return stages["output"] if layer == "shared" or self.head is None else self.head(stages["output"])


def _tokenizer_folder(config: SSmkeConfig) -> Path:
    if config.tokenizer is not None:
        return Path(config.tokenizer)
    if config.init_text is not None:
        return encoder_run(config.init_text, "text", "transformers").path / "model"
    if config.text_weights is None:
        raise UserError("student.text_weights is needed: a folder or id of BERT, for its blocks and tokenizer")
    return hub_folder(config.text_weights)


def _first_image(config: SSmkeConfig) -> ImageEncoder:
    """Of a run or of a checkpoint."""
    if config.init_image is not None:
        found: ImageEncoder = encoder_of_run(config.init_image, "image", config.width, config.depth)
        found.blocks = found.blocks[: config.depth]
        return found
    if config.image_weights is None:
        raise UserError(
            "student.image_weights is needed: data2vec 2.0's image checkpoint; or student.init_image, or "
            "student.init=random"
        )
    made = load_image_checkpoint(
        Path(config.image_weights), depth=config.depth, heads=config.heads, dropout=config.dropout
    )
    check_width(made.sizes, config.width, config.image_weights)
    return made


def _first_text(config: SSmkeConfig) -> TextLayers:
    """Of a run or of a folder."""
    if config.init_text is not None:
        encoder_of_run(config.init_text, "text", config.width, config.depth, "transformers")
        return TextLayers.load(Path(config.init_text) / "model", range(config.depth), config.dropout)
    if config.text_weights is None:
        raise UserError("student.text_weights is needed: a folder or id of BERT; or student.init_text")
    return TextLayers.load(hub_folder(config.text_weights), range(config.depth), config.dropout)


def _random_image(config: SSmkeConfig) -> ImageEncoder:
    made = ImageEncoder(config.sizes, config.dropout)
    init_bert_parameters(made)
    return made


def _random_text(config: SSmkeConfig) -> TextLayers:
    return TextLayers.of(text_config(config.text_weights or BERT_BASE), config.depth, config.dropout)
