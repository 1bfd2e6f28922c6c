"""BEiT-2 checkpoints, the authors' (microsoft/unilm, beit2) or timm's, into timm's Beit, sized by the file itself.

Self-supervised ones share one table of relative positions among all blocks and end in a norm over all tokens;
fine-tuned ones have a table a block, and in the norm's place `fc_norm` over the mean of the patches, and a classifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from timm.models.beit import Beit
from torch import Tensor, nn

from mmkd_cli.architectures.state_dicts import load_strictly
from mmkd_cli.core.errors import UserError

TRAINING_ONLY = ("lm_head.", "mask_token", "cls_pt_layers.")
SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"
BLOCK_TABLE = "blocks.0.attn.relative_position_bias_table"


@dataclass(frozen=True)
class Beit2Sizes:
    """Sizes of a BEiT-2; the defaults are those of beitv2_base_patch16_224_pt1k. classes: 0 where self-supervised."""

    image_size: int = 224
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_width: int = 3072
    classes: int = 0
    shared_table: bool = True

    def to_json(self) -> dict[str, int | bool]:
        return asdict(self)


def beit2_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What inference uses: without the heads of the pretraining, and without the index buffers (they are computed)."""
    return {
        name: value
        for name, value in state.items()
        if not name.startswith(TRAINING_ONLY) and not name.endswith("relative_position_index")
    }


def beit2_sizes(state: Mapping[str, Tensor], where: Path) -> Beit2Sizes:
    """Sizes by the shapes of a checkpoint's tensors."""

    def shape(name: str, axes: int) -> tuple[int, ...]:
        value = state.get(name)
        if value is None or value.ndim != axes:
            found = "is missing" if value is None else f"has the shape {list(value.shape)}"
            raise UserError(f"{where} is not of BEiT-2's layout ({name!r} {found}): name a checkpoint of BEiT-2")
        return tuple(value.shape)

    shared = SHARED_TABLE in state
    distances, heads = shape(SHARED_TABLE if shared else BLOCK_TABLE, 2)
    grid = (round((distances - 3) ** 0.5) + 1) // 2
    if (2 * grid - 1) ** 2 + 3 != distances:
        raise UserError(f"{where}: a table of {distances} relative positions is of no square grid: use a square model")
    width, _, patch, _ = shape("patch_embed.proj.weight", 4)
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    return Beit2Sizes(
        image_size=grid * patch,
        patch_size=patch,
        width=width,
        depth=depth,
        heads=heads,
        mlp_width=shape("blocks.0.mlp.fc1.weight", 2)[0],
        classes=shape("head.weight", 2)[0] if "head.weight" in state else 0,
        shared_table=shared,
    )


def build_beit2(sizes: Beit2Sizes, *, class_norm: bool) -> Beit:
    """timm's Beit of these sizes. class_norm: its last norm is over all tokens (`norm`), not over their mean."""
    return Beit(
        img_size=sizes.image_size,
        patch_size=sizes.patch_size,
        num_classes=sizes.classes,
        global_pool="token" if class_norm else "avg",
        embed_dim=sizes.width,
        depth=sizes.depth,
        num_heads=sizes.heads,
        mlp_ratio=sizes.mlp_width / sizes.width,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        init_values=0.1,
        use_abs_pos_emb=False,
        use_rel_pos_bias=not sizes.shared_table,
        use_shared_rel_pos_bias=sizes.shared_table,
    )


def load_beit2(state: Mapping[str, Tensor], where: Path) -> Beit:
    """The model of a checkpoint's weights (`beit2_weights`), nothing missing and nothing left over."""
    model = build_beit2(beit2_sizes(state, where), class_norm=has_class_norm(state))
    load_strictly(model, state, "BEiT-2", where)
    return model


def has_class_norm(state: Mapping[str, Tensor]) -> bool:
    """Whether the weights hold a norm that the class token was trained under."""
    return "norm.weight" in state
