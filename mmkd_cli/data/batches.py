"""Rows of a prepared table to a model's input, ahead of the model and in order.

Pictures are decoded and transformed in worker processes (or on one background thread), texts are tokenised; a batch is
ready when the model asks for it. Tables are read by memory map, only the rows of a batch are copied.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mmkd_cli.core.contracts import Batch, PictureTransform, Tokenize, View
from mmkd_cli.core.errors import MmkdError
from mmkd_cli.data.pictures import decode

if TYPE_CHECKING:
    import datasets

Rows = np.ndarray | tuple[np.ndarray, np.ndarray]
"""Table rows, int64 [B]; or these with a view number for each, int64 [B]."""

ViewOf = Callable[[int, int], View]
"""(row, view) -> the view's parameters. Picklable."""

_AHEAD = 2
"""Batches that are ready before they are asked for, for each worker."""


@dataclass(frozen=True)
class _Reader:
    """Loads one batch. `source` is a table in Arrow format, so a read copies only what it returns."""

    source: Any
    kind: str
    transform: PictureTransform | None
    tokenize: Tokenize | None
    views: ViewOf | None

    def __getitem__(self, asked: Rows) -> Batch | MmkdError:
        """An error fit for a user is handed over as it is: raised in a worker it would carry a traceback."""
        try:
            return self._batch(asked)
        except MmkdError as error:
            return error

    def _batch(self, asked: Rows) -> Batch:
        import torch

        rows, views = asked if isinstance(asked, tuple) else (asked, None)
        rows = np.asarray(rows, dtype=np.int64)
        found = self.source[rows.tolist()]
        batch: Batch = {"row": torch.from_numpy(rows)}
        batch["id"] = found.column(f"{self.kind.removesuffix('s')}_id").to_pylist()
        if self.kind == "images":
            if self.transform is not None:
                batch["pixels"] = self._pixels(self.transform, found.column("image"), rows, views)
        elif self.tokenize is not None:
            batch.update(self.tokenize(found.column("text").to_pylist()))
        if views is not None:
            batch["view"] = torch.from_numpy(np.asarray(views, dtype=np.int64))
        return batch

    def _pixels(self, transform: PictureTransform, column: Any, rows: np.ndarray, views: np.ndarray | None) -> Any:
        """uint8 [B, 3, H, W], or a list where sizes differ; a rejected row (null picture) is zeros."""
        import torch

        pixels = []
        image: Image.Image | None = None
        for place, picture in enumerate(column):
            if not place or rows[place] != rows[place - 1]:  # the views of a row stand side by side: one decoding
                data = picture["bytes"].as_py() if picture.is_valid else None
                image = None if data is None else decode(data)
            if image is None:
                pixels.append(torch.zeros_like(transform(Image.new("RGB", (8, 8)))))
            elif views is None or self.views is None:
                pixels.append(transform(image))
            else:
                pixels.append(transform(image, self.views(int(rows[place]), int(views[place]))))
        return torch.stack(pixels) if len({picture.shape for picture in pixels}) == 1 else pixels


def batches(
    table: datasets.Dataset,
    kind: str,
    rows_per_batch: Iterable[Rows],
    *,
    transform: PictureTransform | None = None,
    tokenize: Tokenize | None = None,
    workers: int = 0,
    views: ViewOf | None = None,
) -> Iterator[Batch]:
    """Batches in the order of `rows_per_batch`: "row" int64 [B], "id" list[str], and by the table's kind

    `images`: "pixels" uint8 [B, 3, H, W] through `transform` (a list where it gives several sizes); texts (any other):
    what `tokenize` gives; without one of them (features that are looked up) only the first two. Where rows come with
    view numbers, `views` says what a view is, and "view" int64 [B] is in the batch. `rows_per_batch` is asked
    a few batches ahead. workers: processes; 0 is one background thread.
    """
    reader = _Reader(table.with_format("arrow"), kind, transform, tokenize, views)
    for found in (
        _by_thread(reader, rows_per_batch)
        if not workers or kind != "images"
        else _by_processes(reader, rows_per_batch, workers)
    ):
        if isinstance(found, MmkdError):
            raise found
        yield found


def _by_processes(reader: _Reader, rows_per_batch: Iterable[Rows], workers: int) -> Iterator[Batch | MmkdError]:
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        reader,  # type: ignore[arg-type]
        sampler=rows_per_batch,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=_AHEAD,
        collate_fn=_as_it_is,
    )
    yield from loader


def _as_it_is(batch: Any) -> Any:
    return batch


def _by_thread(reader: _Reader, rows_per_batch: Iterable[Rows]) -> Iterator[Batch | MmkdError]:
    """Load ahead on one thread; a failure there is raised here, and leaving early ends it.

    `rows_per_batch` is iterated here, by the caller's own thread: it may claim locks or read what is not thread-safe.
    """
    asked: queue.SimpleQueue[Rows | None] = queue.SimpleQueue()
    ready: queue.SimpleQueue[Batch | MmkdError | Exception] = queue.SimpleQueue()

    def work() -> None:
        while (rows := asked.get()) is not None:
            try:
                ready.put(reader[rows])
            except Exception as error:  # handed to the caller, who raises it
                ready.put(error)

    thread = threading.Thread(target=work, name="mmkd-batches", daemon=True)
    thread.start()
    waiting = 0
    source = iter(rows_per_batch)
    try:
        while True:
            while waiting < _AHEAD and (rows := next(source, None)) is not None:
                asked.put(rows)
                waiting += 1
            if not waiting:
                return
            found = ready.get()
            waiting -= 1
            if isinstance(found, Exception) and not isinstance(found, MmkdError):
                raise found
            if (rows := next(source, None)) is not None:  # keep the thread busy while the caller computes
                asked.put(rows)
                waiting += 1
            yield found
    finally:
        asked.put(None)
        thread.join()
