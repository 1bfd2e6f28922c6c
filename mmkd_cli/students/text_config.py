"""Keys of a student's text encoder."""

from __future__ import annotations

from typing import Literal

from mmkd_cli.core.config import Config, key


class TextEncoderConfig(Config):
    """Which text encoder, how much of it, and what of it is trained."""

    text: Literal["d2v2", "transformers", "scratch"] = key(
        "d2v2", "data2vec 2.0's text model, any transformers text encoder, or a plain pre-LN transformer",
        source="[S] MM-D2V2: data2vec 2.0",
    )  # fmt: skip
    text_weights: str | None = key(
        None, "d2v2: the checkpoint file; transformers: a folder or hub id; scratch: none", identity=False
    )
    init: Literal["pretrained", "random"] = key(
        "pretrained", "weights of the checkpoint, or its architecture with random ones", source="[S] MM-D2V2"
    )
    depth: int | None = key(
        7, "first layers that are kept or made (None: all of the checkpoint's)", unit="layers",
        source="[S] MM-D2V2: 7; [C] 6", ge=1,
    )  # fmt: skip
    width: int = key(768, "width of d2v2 and scratch; the feed-forward is four times it", source="[P] base", ge=8)
    heads: int = key(12, "attention heads of d2v2 and scratch", source="[P] base", ge=1)
    vocabulary: int | None = key(
        None, "tokens that are known (None: 50,265 of d2v2, 8,192 from scratch)", unit="tokens",
        source="[P] data2vec 2.0; [U] 8,192 hold nearly all words of a caption set", ge=32,
    )  # fmt: skip
    tokenizer: str | None = key(
        None, "folder of a tokenizer (None: the one beside the weights; scratch: trained on the captions)",
        identity=False,
    )  # fmt: skip
    max_tokens: int = key(64, "length of a text with its special tokens", unit="tokens", source="[S] 64", ge=3)
    pooling: Literal["cls", "mean", "eos"] = key(
        "cls", "the text's vector: first token ([CLS], <s>), mean of all tokens, or last token",
        source="[S] MM-D2V2: T_CLS, the first token",
    )  # fmt: skip
    dropout: float = key(0.0, "dropout everywhere in the text encoder", source="[C] MM-D2V2's config: 0", ge=0, lt=1)
    embeddings: Literal["frozen", "trained"] | None = key(
        None, "token and position embeddings with their norm (None: frozen where a checkpoint gives them)",
        source="[S] MM-D2V2: frozen",
    )  # fmt: skip

    @property
    def trains_embeddings(self) -> bool:
        """Random embeddings are trained unless told otherwise."""
        random = self.text == "scratch" or self.init == "random"
        return random if self.embeddings is None else self.embeddings == "trained"
