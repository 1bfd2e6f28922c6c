"""The built-in world as a source: pictures drawn when their row is written; five captions and five questions of each
(or three hypotheses, in the mean), and a class label."""

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
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.tables import image_features, question_features, text_features
from mmkd_cli.scenes.question_files import pair_ids

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
    hypotheses: bool = key(False, "in place of questions: sentences that pictures entail, contradict or leave open, "
                           "as in SNLI-VE, three a picture", source="[U]", absent=False)  # fmt: skip


class Scenes:
    """Row i of a split is a pure function of (seed, split, i) (`core.contracts.Source`)."""

    Config = ScenesConfig

    def __init__(self, config: ScenesConfig) -> None:
        self.config = config
        self._rows = {split: getattr(config, split) for split in scenes.SPLITS if getattr(config, split)}
        if config.hypotheses and config.objects == 1:
            raise UserError("source.hypotheses: single objects leave nothing open: leave source.objects out")
        if config.hypotheses and (few := [split for split, rows in self._rows.items() if rows < scenes.GROUP]):
            raise UserError(f"source.hypotheses: they are made for {scenes.GROUP} pictures together, and "
                            f"source.{few[0]} is {self._rows[few[0]]}: ask for more")  # fmt: skip

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
        if self.config.hypotheses:
            digest.update(repr(self._hypotheses(0, split)).encode())
        elif self.config.questions:
            digest.update(repr(scenes.questions(first)).encode())
        return digest.hexdigest()

    def _scene(self, row: int, split: str) -> scenes.Scene:
        return scenes.scene(self.config.seed, row, split, self.config.objects, plain=self.config.plain)

    def _hypotheses(self, group: int, split: str) -> tuple[scenes.Hypothesis, ...]:
        return scenes.hypotheses(self.config.seed, group, split, self.config.objects, plain=self.config.plain)

    def tables(self) -> Sequence[SourceTable]:
        """`images`, `texts` and `questions` of each split with rows."""
        kinds = [self._images, self._texts]
        if self.config.hypotheses or self.config.questions:
            kinds.append(self._judged if self.config.hypotheses else self._questions)
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

    def _judged(self, split: str, rows: int) -> SourceTable:
        """Hypotheses as the source `snli-ve` reads them."""
        each = scenes.GROUP * scenes.HYPOTHESES

        def read(first: int, last: int) -> Iterator[dict[str, Any]]:
            for group in range(first // each, -(-last // each)):
                found = self._hypotheses(group, split)
                for place, (one, pair) in enumerate(zip(found, pair_ids(found, split), strict=True), group * each):
                    if first <= place < last:
                        yield {"question_id": pair, "question": one.text, "image_row": one.row, "question_type": "",
                               "answer_type": "", "answer": one.label, "answers": [one.label]}  # fmt: skip

        return SourceTable("questions", split, rows // scenes.GROUP * each, question_features(), read)
