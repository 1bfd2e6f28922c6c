"""The built-in world as a source: pictures drawn when their row is written; five captions and five questions of each,
and a class label."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from mmkd_cli import scenes
from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.data.tables import image_features, question_features, text_features

CAPTIONS = 5
"""Of each scene."""


class ScenesConfig(Config):
    """Keys of this source."""

    name: str = key("scenes", "the source")
    seed: int = key(0, "of the world", source="[U]", ge=0)
    train: int = key(4000, "rows of train", source="[U]", unit="pictures", ge=0)
    val: int = key(500, "rows of val", source="[U]", unit="pictures", ge=0)
    test: int = key(500, "rows of test; half of them show combinations that train never has", source="[U]",
                    unit="pictures", ge=0)  # fmt: skip
    size: int = key(64, "side of a picture", source="[U]", unit="pixels", ge=16)
    objects: int = key(0, "in every picture: 1 to 4; 0: one to four", source="[U]", absent=0, ge=0, le=4)
    plain: bool = key(False, "the plain world: solid shapes, none small, mostly two, on grounds without texture; "
                      "captions name colour and shape of all", source="[U]", absent=False)  # fmt: skip
    label: Literal["shape", "colour", "colour-shape"] = key("shape", "what of the largest object is the class",
                                                            source="[U]")  # fmt: skip
    questions: bool = key(True, "whether questions and answers are written, too", source="[U]", absent=False)


class Scenes:
    """Row i of a split is a pure function of (seed, split, i) (`core.contracts.Source`)."""

    Config = ScenesConfig

    def __init__(self, config: ScenesConfig) -> None:
        self.config = config
        self._rows = {split: getattr(config, split) for split in scenes.SPLITS if getattr(config, split)}

    def missing(self) -> Iterator[str]:
        """Nothing is read."""
        return iter(())

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of each split's first picture, captions and questions: another drawing is another world."""
        return {split: self._digest(split) for split in self._rows}

    def _digest(self, split: str) -> str:
        first = self._scene(0, split)
        digest = hashlib.sha256(scenes.draw(first, self.config.size).tobytes())
        digest.update("\n".join(scenes.captions(first, plain=self.config.plain)).encode())
        if self.config.questions:
            digest.update(repr(scenes.questions(first)).encode())
        return digest.hexdigest()

    def _scene(self, row: int, split: str) -> scenes.Scene:
        return scenes.scene(self.config.seed, row, split, self.config.objects, plain=self.config.plain)

    def tables(self) -> Sequence[SourceTable]:
        """`images`, `texts` and `questions` of each split with rows."""
        kinds = [self._images, self._texts, *([self._questions] if self.config.questions else [])]
        return [of(split, rows) for split, rows in self._rows.items() for of in kinds]

    def _images(self, split: str, rows: int) -> SourceTable:
        def read(first: int, last: int) -> Iterator[dict[str, Any]]:
            for number in range(first, last):
                scene = self._scene(number, split)
                buffer = BytesIO()
                Image.fromarray(scenes.draw(scene, self.config.size)).save(buffer, "PNG")
                name = f"{split}-{number:06d}"
                yield {"image_id": name, "image": buffer.getvalue(), "source": f"scenes/{self.config.seed}/{name}",
                       "label": scenes.class_label(scene, self.config.label)}  # fmt: skip

        return SourceTable("images", split, rows, image_features(scenes.CLASS_NAMES[self.config.label]), read)

    def _texts(self, split: str, rows: int) -> SourceTable:
        def read(first: int, last: int) -> Iterator[dict[str, Any]]:
            for number in range(first // CAPTIONS, -(-last // CAPTIONS)):
                scene = self._scene(number, split)
                for place, text in enumerate(scenes.captions(scene, plain=self.config.plain), number * CAPTIONS):
                    if first <= place < last:
                        yield {"text_id": str(place), "text": text, "image_row": number}

        return SourceTable("texts", split, rows * CAPTIONS, text_features(), read)

    def _questions(self, split: str, rows: int) -> SourceTable:
        each = scenes.QUESTIONS

        def read(first: int, last: int) -> Iterator[dict[str, Any]]:
            for number in range(first // each, -(-last // each)):
                for place, one in enumerate(scenes.questions(self._scene(number, split)), number * each):
                    if first <= place < last:
                        yield {"question_id": str(place), "question": one.text, "image_row": number,
                               "question_type": one.question_type, "answer_type": one.answer_type,
                               "answer": one.answer, "answers": list(one.answers)}  # fmt: skip

        return SourceTable("questions", split, rows * each, question_features(), read)
