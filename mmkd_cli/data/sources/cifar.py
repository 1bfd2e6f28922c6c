"""CIFAR-10 and CIFAR-100 from the authors' files: `train` and `test`, each picture with its (fine) class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.data.sources.cifar_files import CIFAR, CifarFiles, cifar_files, cifar_picture, read_batch, read_names
from mmkd_cli.data.sources.picture_files import folder_of
from mmkd_cli.data.tables import image_features


class Cifar10Config(Config):
    """Keys of this source."""

    name: str = key("cifar10", "the source")
    images: str = key(description="folder of the authors' files (python or binary), or the one it lies in",
                      identity=False)  # fmt: skip
    limit: int = key(0, "only the first pictures of each split; 0: all", source="[U]", unit="pictures", ge=0)


class Cifar100Config(Cifar10Config):
    """Keys of this source."""

    name: str = key("cifar100", "the source")


class Cifar10:
    """`images` with labels, in the files' order (`core.contracts.Source`)."""

    Config: ClassVar[type] = Cifar10Config

    def __init__(self, config: Cifar10Config) -> None:
        self.config = config
        place = folder_of(config.images, "--images")
        found = {split: cifar_files(place, config.name, split) for split in ("train", "test")}
        self._files: dict[str, CifarFiles] = {split: files for split, files in found.items() if files is not None}
        if not self._files:
            wanted = " or ".join(folder for folder, *_ in CIFAR[config.name])
            raise UserError(f"--images {config.images!r} holds none of {config.name}'s files: name the folder {wanted}")
        self.class_names = tuple(read_names(next(iter(self._files.values())).names, config.name))

    def missing(self) -> Iterator[str]:
        """Pictures lie in the files that were found."""
        return iter(())

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """SHA-256 of each split's files."""
        return {split: [sha256_file(file, memory) for file in (*files.batches, files.names)]
                for split, files in self._files.items()}  # fmt: skip

    def tables(self) -> Sequence[SourceTable]:
        """`images` of each split."""
        return [self._table(split, files) for split, files in self._files.items()]

    def _batch(self, files: CifarFiles, number: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        return read_batch(files.batches[number], self.config.name, files.names, self.class_names)

    def _table(self, split: str, files: CifarFiles) -> SourceTable:
        starts = [0, *accumulate(len(self._batch(files, number)[1]) for number in range(len(files.batches)))]
        rows = min(starts[-1], self.config.limit or starts[-1])

        def read(first: int, last: int) -> Iterator[dict[str, Any]]:
            for number, (start, end) in enumerate(pairwise(starts)):
                if end <= first or start >= last:
                    continue
                pixels, labels = self._batch(files, number)
                for row in range(max(first, start), min(last, end)):
                    buffer = BytesIO()
                    cifar_picture(pixels[row - start]).save(buffer, "PNG")
                    yield {"image_id": f"{split}-{row:05d}", "image": buffer.getvalue(),
                           "source": f"{files.batches[number].name}/{row - start}", "label": int(labels[row - start]),
                           }  # fmt: skip

        return SourceTable("images", split, rows, image_features(self.class_names), read)


class Cifar100(Cifar10):
    """The same of a hundred classes."""

    Config: ClassVar[type] = Cifar100Config
