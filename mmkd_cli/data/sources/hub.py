"""Opening `datasets` folders and hub ids: what is on disk is never looked for on a network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file, sha256_json
from mmkd_cli.data.sources.fields import no_column

if TYPE_CHECKING:
    import datasets

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def open_datasets(name: str, configuration: str | None = None) -> dict[str, datasets.Dataset]:
    """Split -> dataset of a folder (saved by `save_to_disk`, or parquet files and such), or of a hub id.

    configuration: which of several that an id, or a folder of files, has.
    """
    import datasets

    path = Path(name).expanduser()
    try:
        if path.is_dir() and any((path / file).is_file() for file in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(str(path))
        elif path.is_dir():
            found = datasets.load_dataset(str(path), configuration)
        elif path.exists() or not _HUB_ID.fullmatch(name):
            raise UserError(f"--annotations {name!r} is no file that is read, no folder and no hub id")
        else:
            found = datasets.load_dataset(name, configuration)
    except UserError:
        raise
    except Exception as error:  # the library raises whatever its readers and its hub client meet
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"--annotations {name!r} can't be opened by datasets ({first}): name a folder made by `save_to_disk`, "
            "a folder of parquet files, or an id that the local hub cache holds"
        ) from None
    return dict(found) if isinstance(found, dict) else {str(found.split or "train"): found}


def column(dataset: datasets.Dataset, name: str, where: str, key: str) -> str:
    """`name` if it is a column, else UserError. key: the source's key that names it."""
    if name not in dataset.column_names:
        raise no_column(where, name, dataset.column_names, key)
    return name


def picture_column(dataset: datasets.Dataset, name: str, where: str, key: str) -> datasets.Dataset:
    """The dataset, with its column of pictures as they are stored; UserError if it is none. key: as in `column`."""
    import datasets

    kind = dataset.features[column(dataset, name, where, key)]
    if not isinstance(kind, datasets.Image):
        raise UserError(f"{where}: column {name!r} holds {kind}, a datasets.Image is needed")
    return dataset.cast_column(name, datasets.Image(decode=False))


def image_row(image: str, picture: dict[str, Any] | None) -> dict[str, Any]:
    """A row of `images`. picture: of a `picture_column`; one that is not there is the writer's to reject."""
    stored = picture or {}
    path = stored.get("path")
    return {"image_id": image, "image": stored.get("bytes") or path, "source": Path(path or image).name}


def identity(name: str, found: dict[str, datasets.Dataset], memory: Path | None) -> str:
    """SHA-256 of a local folder's files, or of the Arrow files that an id was loaded as."""
    path = Path(name).expanduser()
    if path.is_dir():
        return sha256_file(path, memory)
    return sha256_json(
        {split: [sha256_file(Path(file["filename"]), memory) for file in part.cache_files]
         for split, part in found.items()}
    )  # fmt: skip
