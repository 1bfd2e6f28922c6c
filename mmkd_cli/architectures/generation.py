"""Keys of how texts are written (`[generation]`)."""

from __future__ import annotations

from mmkd_cli.core.config import Config, key

MASK = "<mask>"
"""In a prompt: where the text that is written stands."""


class GenerationConfig(Config):
    """How texts are written. What is None is as the model's own generation_config.json says."""

    num_beams: int | None = key(None, "beams of a search; 1: greedy", source="[U] the model's own", ge=1)
    max_new_tokens: int = key(100, "longest text", unit="tokens", source="[S] VLKD: 100 of texts", ge=1)
    min_new_tokens: int | None = key(None, "shortest text", unit="tokens", source="[U] the model's own", ge=0)
    length_penalty: float | None = key(None, "power of the length that a beam's score is divided by",
                                       source="[U] the model's own")  # fmt: skip
    no_repeat_ngram_size: int | None = key(None, "runs of so many tokens are not written twice; 0: they may be",
                                           source="[U] the model's own", ge=0)  # fmt: skip
    do_sample: bool = key(False, "draw each token, each text by its own random numbers", source="[U] the likeliest")
    temperature: float = key(1.0, "of the draws", source="[U] the model's probabilities", gt=0)
    top_k: int = key(0, "draw from the likeliest so many; 0: from all", source="[U] all", ge=0)
    top_p: float = key(1.0, "draw from the likeliest that have this probability together", source="[U] all", gt=0, le=1)
