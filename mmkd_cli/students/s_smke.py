"""S-SMKE and SHRe: blocks of data2vec 2.0's image model, blocks of BERT, and what both share (O to X of the thesis).

Pictures and texts go through separately. Layers: `encoder`, the first token after a modality's own blocks; `shared`,
after the shared block or MLP; `head`, in the teacher's space; `projection`, of the last tap where taps are mapped.
Retrieval compares `shared`, of an MLP `head`, of mapped taps `projection`. Source:
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
from mmkd_cli.architectures.shared_block import SharedBlock, SharedHidden, SharedMlp
from mmkd_cli.architectures.state_dicts import load_strictly
from mmkd_cli.core.config import key
from mmkd_cli.core.contracts import Batch, Teacher
from mmkd_cli.core.errors import UserError
from mmkd_cli.losses.logit_scale import new_logit_scale
from mmkd_cli.students.alignment import Aligned, read_heads
from mmkd_cli.students.beginnings import encoder_of_run, freeze
from mmkd_cli.students.d2v2_text import VOCABULARY, check_width
from mmkd_cli.students.projections import Heads, new_linear
from mmkd_cli.students.s_smke_text import build_text, empty_text, load_text, text_files
from mmkd_cli.students.two_modalities import MODALITIES, TwoModalities, TwoModalitiesConfig


class SSmkeConfig(TwoModalitiesConfig):
    """Keys of the student `s-smke`."""

    name: str = key("s-smke", "the student")
    text: Literal["transformers", "d2v2"] = key(
        "transformers", "the text encoder: BERT's blocks, or data2vec 2.0's", source="[P] BERT; O, P: d2v2",
        absent="transformers",
    )  # fmt: skip
    text_weights: str | None = key(
        None, "folder or hub id of a BERT (None: of random weights, BERT base's sizes), or data2vec 2.0's text "
        "checkpoint (nlp_base.pt)", identity=False,
    )  # fmt: skip
    tokenizer: str | None = key(None, "folder of the tokenizer (None: text_weights, or where it lies)", identity=False)
    vocabulary: int = key(
        VOCABULARY, "tokens that data2vec 2.0's text model knows", source="[P] data2vec 2.0 base", absent=VOCABULARY,
        ge=4,
    )  # fmt: skip
    depth: int = key(6, "blocks of each encoder, the first ones", unit="layers", source="[P] 6 and 6", ge=1)
    shared: Literal["block", "mlp", "mlp-2"] = key(
        "block", "what both modalities share: a Transformer block, or an MLP on the first token, of three layers with "
        "the head, or of two", source="[P] Q, R: mlp; O: mlp-2",
    )  # fmt: skip
    layer_scale: float = key(
        0.2, "where the shared block's LayerScale begins; 0: it has none", source="[C] 0.2; [P] 1e-5, before it none",
        ge=0,
    )  # fmt: skip
    token_types: Literal["none", "before", "after"] = key(
        "after", "a learned vector a modality: none, added to the embeddings, or after the encoders",
        source="[P] after them, from T2 on",
    )  # fmt: skip
    taps: Literal["output", "both", "all", "head"] = key(
        "both", "what the contrastive loss compares: the output of what is shared; its feed-forward part's hidden "
        "layer, too; and the head's output: terms that are averaged; or that alone",
        source="[C] S-SMKE: both; [P] SHRe's MLP: all; [C] O: head",
    )  # fmt: skip
    tap_maps: bool = key(
        False, "a bias-free linear map a modality and tap before the contrastive loss", source="[P] P's heads alone",
        absent=False,
    )  # fmt: skip
    regression_head: bool = key(
        True, "a norm and a linear layer before the teacher's signal; false: what is shared meets it as it is",
        source="[P] all but P's first Sx3HRe", absent=True,
    )  # fmt: skip

    @property
    def sizes(self) -> Sizes:
        """Of data2vec 2.0's architecture, cut to the student's depth."""
        return Sizes(
            width=self.width, depth=self.depth, heads=self.heads, mlp_width=4 * self.width, image_size=self.image_size,
            patch_size=self.patch_size, vocabulary=self.vocabulary,
        )  # fmt: skip


class Taps(nn.Module):
    """What the contrastive loss compares of what is shared, with a learned logit scale each; as it is, or mapped.

    dims: stage -> width: `hidden` of the feed-forward part, `output`, `head`.
    """

    def __init__(self, dims: Mapping[str, int], mapped: bool) -> None:
        super().__init__()
        self.dims, self.stages = dict(dims), tuple(dims)
        names = [(modality, stage) for modality in MODALITIES for stage in dims] if mapped else []
        self.maps = nn.ModuleDict({f"{modality}_{stage}": new_linear(dims[stage], dims[stage])
                                   for modality, stage in names})  # fmt: skip
        self.logit_scales = nn.ParameterDict({stage: new_logit_scale() for stage in dims})

    def project(self, modality: str, stages: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """[B, width] by stage -> the same."""
        return {stage: self.maps[f"{modality}_{stage}"](stages[stage]) if self.maps else stages[stage]
                for stage in self.stages}  # fmt: skip


class SSmke(TwoModalities):
    """The student."""

    Config: ClassVar[type] = SSmkeConfig
    kind: ClassVar[str] = "s-smke"

    def __init__(
        self, config: SSmkeConfig, image: ImageEncoder, text: Any, tokenizer: Any, signal: str,
        target_width: int, heads: Heads,
    ) -> None:  # fmt: skip
        super().__init__(config, tokenizer, signal, target_width, heads)
        width = config.width
        if text.width != width:
            raise UserError(f"student.width is {width}, the text encoder's {text.width}: name encoders of one width")
        self.image, self.text = image, text
        self.shared: nn.Module
        if config.shared == "block":
            self.shared = SharedBlock(width, config.heads, config.layer_scale, config.dropout)
        else:
            self.shared = SharedMlp(width) if config.shared == "mlp" else SharedHidden(width)
        output = 4 * width if config.shared == "mlp-2" else width
        typed = MODALITIES if config.token_types != "none" else ()
        self.types = nn.ParameterDict({modality: 0.02 * torch.randn(width) for modality in typed})
        self.head = None
        if heads.regression and config.regression_head:
            norm = nn.Identity() if config.shared == "mlp-2" else nn.LayerNorm(width, eps=1e-6)  # what it ends with
            self.head = nn.Sequential(norm, new_linear(output, target_width, bias=True))
        elif heads.regression and output != target_width:
            raise UserError(
                f"what is shared is {output} wide, the teacher's signal {target_width}: set student.regression_head"
            )
        self.projections = None
        if heads.dim is not None or heads.layout not in (None, "clip"):
            raise UserError(
                "method.layout and method.projection_dim have no effect here: student.taps says what is contrasted"
            )
        if heads.layout is not None:
            if config.taps in ("all", "head") and self.head is None:
                raise UserError(f"student.taps={config.taps} is of the head, and there is none: set student.taps=both")
            dims = {"hidden": 4 * width, "output": output, "head": target_width}
            kept = {"output": ("output",), "both": ("hidden", "output"), "all": tuple(dims), "head": ("head",)}
            self.projections = Taps({stage: dims[stage] for stage in kept[config.taps]}, config.tap_maps)
        freeze(self, config.freeze)
        head = ("head",) if self.head is not None else ()
        self.layers = ("encoder", *head, "shared") if config.shared == "block" else ("encoder", "shared", *head)
        if self.projections is not None and config.tap_maps:
            self.layers = (*self.layers, "projection")

    @classmethod
    def build(
        cls, config: SSmkeConfig, heads: Heads, signal: str, width: int, captions: Callable[[], Iterable[str]]
    ) -> Self:
        """The student before its first step. width: of the teacher's signal. captions: not needed."""
        image = _random_image(config) if config.init == "random" else _first_image(config)
        text, tokenizer = build_text(config)
        return cls(config, image, text, tokenizer, signal, width, heads)

    @classmethod
    def empty(cls, config: SSmkeConfig, heads: Heads, signal: str, width: int) -> Self:
        """The student on the meta device: sizes without weights."""
        with torch.device("meta"):
            return cls(config, _random_image(config), empty_text(config), None, signal, width, heads)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], teacher: Teacher | None = None) -> Self:
        """The student of a run's folder. config: the run's, with its table `student`. No teacher is needed."""
        keys = SSmkeConfig.model_validate(config["student"])
        tensors, about = read_heads(folder)
        model = folder / "model"
        text, tokenizer = load_text(model / "text", keys)
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
        image = {"student.image_weights": config.image_weights} if config.image_weights is not None else {}
        return {**image, **text_files(config)}

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
        regressed, contrasted = {}, {}
        if self.heads.regression:
            for modality, stages in said.items():
                stages["head"] = self._in_teacher_space(stages["output"])
                of_tokens = target is not None and target.ndim == 3
                regressed[modality] = (
                    self._in_teacher_space(tokens[modality]["output"]) if of_tokens else stages["head"]
                )
        if self.projections is not None:
            images, texts = self.projections.project("image", image), self.projections.project("text", text)
            contrasted = {stage: (images[stage], texts[stage]) for stage in self.projections.stages}
        return Aligned(target, regressed, contrasted, image["output"], text["output"])

    @property
    def regresses_tokens(self) -> bool:
        """Whether what is shared gives all tokens (an MLP gives the first one), and texts end with [SEP], no word."""
        return self.config.shared == "block" and self.config.text == "transformers"

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
        if layer == "projection":
            stages = {**stages, "head": self._in_teacher_space(stages["output"])}
            return self.projections.project(modality, stages)[self.projections.stages[-1]]
        return stages["output"] if layer == "shared" else self._in_teacher_space(stages["output"])

    def _in_teacher_space(self, output: Tensor) -> Tensor:
        return output if self.head is None else self.head(output)


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


def _random_image(config: SSmkeConfig) -> ImageEncoder:
    made = ImageEncoder(config.sizes, config.dropout)
    init_bert_parameters(made)
    return made
