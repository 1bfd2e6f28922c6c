"""Stacks of blocks of which the first are a modality's own and the last are both modalities' (MM-D2V2).

Source: public repository TimCares/MasterThesis, src/modules/mome.py: post-norm blocks of data2vec 2.0 with an
attention, norms and a feed-forward part for each modality; in shared blocks there is one of each.
"""

from __future__ import annotations

from torch import Tensor, nn

from mmkd_cli.architectures.d2v2 import IMAGE_EPS, TEXT_EPS, Block, Sizes


class SpecificBlock(nn.Module):
    """One block for pictures and one for texts; with shared attention the texts use the pictures' (as in VLMo)."""

    def __init__(self, sizes: Sizes, dropout: float, shared_attention: bool) -> None:
        super().__init__()
        self.shared_attention = shared_attention
        self.image = Block(sizes.width, sizes.heads, sizes.mlp_width, IMAGE_EPS, dropout)
        self.text = Block(sizes.width, sizes.heads, sizes.mlp_width, TEXT_EPS, dropout)
        if shared_attention:
            del self.text.attn

    def load(self, image: Block, text: Block) -> None:
        """Copy the weights of a data2vec image block and of a text block."""
        self.image.load_state_dict(image.state_dict())
        wanted = self.text.state_dict().keys()
        self.text.load_state_dict({name: value for name, value in text.state_dict().items() if name in wanted})

    def forward(self, x: Tensor, modality: str, attend: Tensor | None) -> Tensor:
        """x [B, L, D] of a modality; attend bool [B, L] or None -> [B, L, D]."""
        if modality == "image":
            return self.image(x)
        return self.text(x, attend, self.image.attn if self.shared_attention else None)


def shared_block(sizes: Sizes, dropout: float) -> Block:
    """A block that both modalities go through."""
    return Block(sizes.width, sizes.heads, sizes.mlp_width, IMAGE_EPS, dropout)
