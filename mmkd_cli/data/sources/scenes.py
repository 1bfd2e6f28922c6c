"""The built-in world as a source: pictures drawn when their row is written, five captions each, a class label."""

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
from mmkd_cli.data.tables import image_features, text_features

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
    label: Literal["shape", "colour", "colour-shape"] = key("shape", "what of the largest object is the class",
                                                            source="[U]")  # fmt: skip


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
        """SHA-256 of each split's first picture and captions: another drawing is another world."""
        return {split: self._digest(split) for split in self._rows}

    def _digest(self, split: str) -> str:
        first = self._scene(0, split)
        digest = hashlib.sha256(scenes.draw(first, self.config.size).tobytes())
        digest.update("\n".join(scenes.captions(first)).encode())
        return digest.hexdigest()

    def _scene(self, row: int, split: str) -> scenes.Scene:
        return scenes.scene(self.config.seed, row, split, self.config.objects)

    def tables(self) -> Sequence[SourceTable]:
        """`images` and `texts` of each split with rows."""
        return [t for split, rows in self._rows.items() for t in (self._images(split, rows), self._texts(split, rows))]

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
                for place, text in enumerate(scenes.captions(scene), number * CAPTIONS):
                    if first <= place < last:
                        yield {"text_id": str(place), "text": text, "image_row": number}

        return SourceTable("texts", split, rows * CAPTIONS, text_features(), read)
