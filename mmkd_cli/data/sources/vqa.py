"""VQA v2 (Goyal et al. 2017) and OK-VQA (Marino et al. 2019): official files, or `datasets`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources.vqa_datasets import VqaDatasets
from mmkd_cli.data.sources.vqa_files import VqaFiles


class VqaConfig(Config):
    """Keys of these sources."""

    name: str = key("vqav2", "the source")
    images: str | None = key(
        None, "folder of COCO's pictures, or of train2014, val2014 and test2015 (None: datasets hold them)",
        identity=False,
    )  # fmt: skip
    questions: str | None = key(
        None, "a *_questions.json, or a folder of them (None: datasets hold them)", identity=False
    )
    annotations: str | None = key(
        None, "an *_annotations.json, or a folder of them (None: there are no answers); in place of all three a "
        "datasets folder or hub id", source="[C] official", identity=False,
    )  # fmt: skip
    train_splits: tuple[str, ...] = key(
        ("train",), "splits that count as train; others keep their names", source="[U] an unlisted train is left out"
    )
    limit: int = key(0, "only the first questions of each split; 0: all", source="[U]", unit="questions", ge=0)


class OkVqaConfig(VqaConfig):
    name: str = key("okvqa", "the source")


class Vqa:
    """The reader that fits what is named (`core.contracts.Source`)."""

    Config = VqaConfig

    def __init__(self, config: VqaConfig) -> None:
        self._reader: VqaFiles | VqaDatasets
        if config.images is not None and config.questions is not None:
            self._reader = VqaFiles(config, config.images, config.questions)
        elif config.images is None and config.questions is None and config.annotations is not None:
            self._reader = VqaDatasets(config, config.annotations)
        else:
            raise UserError(
                f"source {config.name!r}: name the official files by --images, --questions and --annotations, or a "
                "datasets folder or hub id by --annotations alone"
            )

    def missing(self) -> Iterator[str]:
        """Paths of pictures that are asked about and not there."""
        return self._reader.missing()

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """What the questions, answers and pictures are; no paths."""
        return self._reader.identity(memory)

    def tables(self) -> Sequence[SourceTable]:
        """`images`, each once, and `questions` of each split, in the files' order."""
        return self._reader.tables()


class OkVqa(Vqa):
    """OK-VQA; its answers are lemmas, and its test split is COCO's val2014."""

    Config = OkVqaConfig
