"""Class folders of pictures: ROOT/CLASS/..., or ROOT/SPLIT/CLASS/... where ROOT holds train, val or test."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmkd_cli.core.config import Config, key
from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources.picture_files import PictureFiles, folder_of, listing, locate, without_suffix

SPLITS = ("train", "val", "valid", "validation", "dev", "test")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".jp2")


class ImageFolderConfig(Config):
    """Keys of this source."""

    name: str = key("image-folder", "the source")
    images: str = key(description="folder of class folders, or of train, val and test with these", identity=False)
    limit: int = key(0, "only the first pictures of each class and split; 0: all", source="[U]", unit="pictures", ge=0)


class ImageFolder:
    """`images` with labels; classes and files in the order of their names (`core.contracts.Source`)."""

    Config = ImageFolderConfig

    def __init__(self, config: ImageFolderConfig) -> None:
        root = folder_of(config.images, "--images")
        splits = [name for name in SPLITS if (root / name).is_dir()]
        named = {split: list(_pictures(root / split)) for split in splits} or {"train": list(_pictures(root))}
        self.class_names = _classes(named, config.images)
        self._pictures = [self._split(root, split, files, config.limit) for split, files in named.items()]

    def _split(self, root: Path, split: str, files: list[str], limit: int) -> PictureFiles:
        import pyarrow as pa

        label = {name: number for number, name in enumerate(self.class_names)}
        seen = dict.fromkeys(self.class_names, 0)
        kept = []
        for file in files:
            name = file.partition("/")[0]
            seen[name] = seen.get(name, 0) + 1
            if not limit or seen[name] <= limit:
                kept.append(file)
        folder = root / split if (root / split).is_dir() else root
        ids = [without_suffix(file) for file in kept]
        columns = {
            "image_id": pa.array(ids if len(set(ids)) == len(ids) else kept, pa.string()),
            "file": pa.array(kept, pa.string()),
            "source": pa.array(kept, pa.string()),
        }
        if label:
            columns["label"] = pa.array([label[file.partition("/")[0]] for file in kept], pa.int64())
        return locate(split, columns, [folder], self.class_names)

    def missing(self) -> Iterator[str]:
        """Pictures that vanished since the folder was listed."""
        for pictures in self._pictures:
            yield from pictures.missing()

    def identity(self, memory: Path | None = None) -> dict[str, Any]:
        """The listing, which names the classes."""
        return {"images": listing(self._pictures)}

    def tables(self) -> Sequence[SourceTable]:
        """`images` of each split."""
        return [pictures.table() for pictures in self._pictures]


def _pictures(folder: Path) -> Iterator[str]:
    """Paths of pictures below a folder, relative to it, in order; hidden files are no pictures."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            if file.lower().endswith(SUFFIXES) and not file.startswith("."):
                yield Path(place, file).relative_to(folder).as_posix()


def _classes(named: dict[str, list[str]], where: str) -> tuple[str, ...]:
    """Class names in order; none where all pictures lie in the folder itself."""
    files = [file for found in named.values() for file in found]
    if not files:
        raise UserError(f"--images {where!r} holds no pictures ({', '.join(SUFFIXES)})")
    loose = [file for file in files if "/" not in file]
    if loose and len(loose) < len(files):
        raise UserError(f"--images {where!r}: {loose[0]!r} lies beside class folders: move it into one")
    return tuple(sorted({file.partition("/")[0] for file in files})) if not loose else ()
