"""GLUE's nine tasks (Wang et al. 2019): official folders and columns, label names, splits."""

from __future__ import annotations

from typing import NamedTuple


class GlueTask(NamedTuple):
    """folder: of the official download. text, text_b: columns of the official TSV ("": one text). label: its column.

    names: of the labels, in the order of their numbers; () where the label is a number from 0 to 5. in_words: whether
    official files have labels by name. text_datasets, text_b_datasets: the columns' names in `datasets`.
    """

    folder: str
    text: str
    text_b: str
    label: str
    names: tuple[str, ...]
    in_words: bool = False
    text_datasets: str = "sentence1"
    text_b_datasets: str = "sentence2"


_ENTAILED = ("entailment", "not_entailment")

GLUE: dict[str, GlueTask] = {
    "cola": GlueTask("CoLA", "sentence", "", "label", ("unacceptable", "acceptable"), False, "sentence", ""),
    "sst2": GlueTask("SST-2", "sentence", "", "label", ("negative", "positive"), False, "sentence", ""),
    "mrpc": GlueTask("MRPC", "#1 String", "#2 String", "Quality", ("not_equivalent", "equivalent")),
    "qqp": GlueTask("QQP", "question1", "question2", "is_duplicate", ("not_duplicate", "duplicate"), False,
                    "question1", "question2"),
    "stsb": GlueTask("STS-B", "sentence1", "sentence2", "score", ()),
    "mnli": GlueTask("MNLI", "sentence1", "sentence2", "gold_label", ("entailment", "neutral", "contradiction"), True,
                     "premise", "hypothesis"),
    "qnli": GlueTask("QNLI", "question", "sentence", "label", _ENTAILED, True, "question", "sentence"),
    "rte": GlueTask("RTE", "sentence1", "sentence2", "label", _ENTAILED, True),
    "wnli": GlueTask("WNLI", "sentence1", "sentence2", "label", ("not_entailment", "entailment")),
}  # fmt: skip

COLA_COLUMNS = ("source", "label", "mark", "sentence")
"""CoLA's train.tsv and dev.tsv have no line of names."""

SPLITS = {
    "train": "train", "dev": "val", "test": "test",
    "dev_matched": "val", "dev_mismatched": "val_mismatched",
    "test_matched": "test", "test_mismatched": "test_mismatched",
    "validation_matched": "val", "validation_mismatched": "val_mismatched",
}  # fmt: skip
"""Official names (and those of `datasets`) -> splits. MNLI's matched ones are `val` and `test`."""
