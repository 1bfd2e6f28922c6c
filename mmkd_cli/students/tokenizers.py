"""From texts to token ids: a transformers tokenizer of fixed length, given or trained on the captions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from mmkd_cli.core.errors import UserError

_SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


class FixedLengthTokenizer:
    """`core.contracts.Tokenize` by a transformers tokenizer: max_tokens with the special ones, longer texts are cut."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> None:
        if tokenizer.pad_token_id is None:
            raise UserError(
                f"tokenizer {tokenizer.name_or_path!r} has no padding token: add pad_token to its tokenizer_config.json"
            )
        self.tokenizer, self.max_tokens = tokenizer, max_tokens

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """input_ids and attention_mask, int64 [B, max_tokens]."""
        encoded = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    def save(self, folder: Path) -> None:
        """Write it beside the model, in transformers' layout."""
        self.tokenizer.save_pretrained(folder)


def train_tokenizer(texts: Iterable[str], vocabulary: int, max_tokens: int) -> PreTrainedTokenizerFast:
    """A lower-cased byte-pair encoding of words, [CLS] in front and [SEP] behind, ids below `vocabulary`.

    The same texts in the same order give the same tokenizer. The library's trainers do not promise that where inner
    pieces carry a prefix (they number those in a hash map's order), so it is the words' beginnings that are marked.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=_SPECIAL["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=list(_SPECIAL.values()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    special = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_tokens, **_SPECIAL)
