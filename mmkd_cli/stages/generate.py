"""`mmkd generate`: captions, answers and texts that a model writes, in official result files.

config -> model, data, cache opened -> plan -> texts range by range -> result file, page -> manifest. Of one picture or
prompt the text is said, and nothing is written.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import SerializeAsAny

from mmkd_cli.architectures.generation import GenerationConfig
from mmkd_cli.core import artifacts, console, lineage, paths, registry
from mmkd_cli.core import config as configs
from mmkd_cli.core.artifacts import Artifact, FileRecord, Plan
from mmkd_cli.core.config import Config as Table
from mmkd_cli.core.config import StageConfig, key
from mmkd_cli.core.contracts import StageContext, Task, TextItem
from mmkd_cli.core.errors import MmkdError, Refused, UserError
from mmkd_cli.core.fingerprints import sha256_file, without_notes
from mmkd_cli.stages.writing_inputs import as_trained, open_writing

if TYPE_CHECKING:
    from torch import Tensor

    from mmkd_cli.architectures.writer import Writer

_PROBED = 2
"""Batches of which a dry run estimates the time of all."""


class Config(StageConfig):
    """`stage = "generate"`."""

    slots: ClassVar[dict[str, str]] = {"task": "tasks"}
    image_model: ClassVar[None] = None  # of two halves neither writes
    text_model: ClassVar[None] = None

    task: SerializeAsAny[Table] = key(description="what to write, by name, and its keys")
    model: str | None = key(None, "RUN, or hf:ID|FOLDER of a language model (default: the only run)", identity=False)
    data: str | None = key(None, "prepared data (default: the run's own)", identity=False)
    cache: str | None = key(None, "the teacher's signals (default: the run's own)", identity=False)
    teacher_weights: str | None = key(
        None, "where the weights of the run's teacher are now, if it has to run and they were moved", identity=False
    )
    split: str | None = key(None, "split of the data (default: test where there is one)", identity=False)
    image: str | None = key(None, "one picture's file, in place of data", identity=False)
    question: str | None = key(None, "what is asked about --image", identity=False)
    prompt: str | None = key(None, "one text, in place of data", identity=False)
    generation: GenerationConfig = key(GenerationConfig(), "how texts are written")
    precision: Literal["auto", "float32", "bfloat16"] = key(
        "auto", "of the forward (auto: bfloat16 on a GPU, else float32)", source="[U] as in training"
    )
    seed: int = key(0, "of the draws, where texts are drawn, and of the items shown", source="[U]", ge=0)
    batch_size: int = key(64, "texts that are written at once", unit="texts", source="[U]", identity=False, ge=1)
    rows_per_range: int = key(
        512, "texts that are kept together: a killed command loses at most so many", unit="texts", source="[U]",
        identity=False, ge=1,
    )  # fmt: skip
    shown: int = key(24, "items on the page", source="[U]", identity=False, ge=0)
    allow_rejected: bool = key(False, "leave rejected rows out, and go on", identity=False)


def run(config: Config, context: StageContext) -> dict[str, Any]:
    """Write the texts, go on with them, or say that they are there. Returns the stage's document."""
    made: type[Task] = registry.load("tasks", _name(config.task))
    single = _single(config, made)
    trained = as_trained(config, context.root)
    job = Job(trained, context, made(trained.task), needs_data=single is None, asked=config.model)
    if single is not None:
        return job.one(single)
    return job.dry_run() if context.dry_run else job.run()


class Job:
    """Texts of one model for one task, as one of any number of processes.

    asked: the model as somebody named it, None where the only run was taken.
    """

    def __init__(self, config: Config, context: StageContext, task: Task, needs_data: bool, asked: str | None) -> None:
        from mmkd_cli.training.devices import compute_precision, open_device
        from mmkd_cli.training.distribution import processes, rank

        device = open_device(context.device)
        self.config, self.context, self.task, self.started = config, context, task, time.time()
        self.asked = asked
        self.rank, self.processes = rank(), processes()
        if self.rank:
            console.LEVEL.quiet = True
        self.opened = open_writing(config, context.root, task, str(device), workers=context.workers,
                                   needs_data=needs_data)  # fmt: skip
        self.precision = compute_precision(config.precision, device)

    def run(self) -> dict[str, Any]:
        from mmkd_cli.training.distribution import from_main

        plan = self.plan()
        folder = self.context.root / paths.FOLDERS["result"] / plan.name
        self._require_allowed()
        if self.rank:
            return self._work(folder, *from_main(None))
        with artifacts.lock(folder):
            state, artifact = artifacts.begin(folder, plan)
            damage = artifact.damage() if state == "finished" else {}
            try:
                return self._work(folder, *from_main((state == "finished" and not damage, damage)))
            except MmkdError:
                if state == "new" and not any(folder.glob("parts/*")):  # nothing was written: the name is free
                    shutil.rmtree(folder)
                raise

    @without_notes()
    def dry_run(self) -> dict[str, Any]:
        """Rows and an estimate of time from a few batches. Writes nothing."""
        plan = self.plan()
        state, document = artifacts.preview(self.context.root / paths.FOLDERS["result"] / plan.name, plan)
        if state == "finished":
            return document
        items = self._items(0, min(self.rows, _PROBED * self.config.batch_size))
        writer = self.writer
        began = time.perf_counter()
        self._written(writer, items)
        seconds = (time.perf_counter() - began) / max(len(items), 1) * self.rows
        console.say(f"would write {self.rows:,} texts for the task {_name(self.config.task)}: about {seconds:,.0f} s")
        return {**document, "rows": self.rows, "seconds": seconds}

    def one(self, text: str) -> dict[str, Any]:
        """The text of one picture, question or prompt."""
        item = self.task.one(text)
        writer = self.writer
        images = self.opened.see(Path(str(self.config.image)).expanduser()) if self.opened.see else None
        (written,) = self._ask(writer, [item], images)
        said = self.task.text_of(item, written)
        whole = said if writer.encodes else item.source + written
        return {"task": _name(self.config.task), "model": self.opened.label, "prompt": text, "text": said,
                "raw": written, "generated_text": whole}  # fmt: skip

    def plan(self) -> Plan:
        """What decides the texts: task, generation, model, data and split, precision."""
        inputs, name = self.opened.inputs, _name(self.config.task)
        memory = self.context.root / ".hashes"
        identity: dict[str, Any] = {
            "stage": "generate",
            "config": configs.identity(self.config),
            "inputs": {i.role: i.fingerprint for i in inputs if i.kind != "cache"},
            "split": self.opened.split,
            "precision": self.precision,
            **({"model": self.opened.identity} if self.opened.identity else {}),
        }
        if files := self.task.files():
            identity["files"] = {role: sha256_file(_there(role, file), memory) for role, file in files.items()}
        work = {"rows": self.rows, "rows_per_range": self.config.rows_per_range}
        said = {**self.config.model_dump(mode="json"), "model": self.asked}
        plan = Plan("result", "generate", self.context.name or "", identity, said, inputs, work)
        if self.context.name:
            return plan
        data = self.opened.data.artifact.name if self.opened.data else ""
        return replace(plan, name=artifacts.default_name([name, self.opened.label, data], plan))

    # ------------------------------------------------------------------------------------------ work
    @cached_property
    def rows(self) -> int:
        return self.task.rows(self.opened.tables)

    @cached_property
    def writer(self) -> Writer:
        return self.opened.writer()

    @cached_property
    def rejected(self) -> tuple[set[int], set[int]]:
        """Rows that hold nothing: of the images (where texts are about pictures), and of the items' own table."""
        assert self.opened.data is not None
        tables = ("images" if self.task.sees else "", "" if self.task.files() else self.task.table)
        of = [set(self.opened.data.rejected(self.opened.split, name).tolist()) if name else set() for name in tables]
        return of[0], of[1]

    def _require_allowed(self) -> None:
        count = len(self.rejected[0]) + (len(self.rejected[1]) if self.task.table != "images" else 0)
        if count and not self.config.allow_rejected:
            assert self.opened.data is not None
            every, tables = (self.opened.data.artifact.manifest or {})["rejected"], ("images", self.task.table)
            first = next(row for row in every if row["split"] == self.opened.split and row["table"] in tables)
            raise UserError(
                f"{count} rows of the data were rejected when it was prepared (first: "
                f"{lineage.rejected_row(first)}): say --allow-rejected to write without them"
            )

    def _work(self, folder: Path, done: bool, damage: dict[str, str]) -> dict[str, Any]:
        from mmkd_cli.training.distribution import main_works

        artifact = artifacts.read(folder)
        if done:
            console.say(f"{artifact.label} is already done: {folder}")
            return self._document(artifact, "already done")
        self._write_ranges(folder, artifact.plan["work"])
        with main_works():  # whoever is first waits here, however long the others take
            pass
        with main_works() as main:
            if main:
                artifact = self._finish(artifact, damage)
        return self._document(artifact, "repaired" if damage else "done")

    def _write_ranges(self, folder: Path, work: dict[str, int]) -> None:
        """Each range's texts as a file of its own; those that are there stay."""
        size = work["rows_per_range"]

        def rows_of(numbers: Sequence[int]) -> int:
            return sum(min(size, work["rows"] - number * size) for number in numbers)

        ranges = [number for number in range(-(-work["rows"] // size)) if number % self.processes == self.rank]
        todo = [number for number in ranges if not _part(folder, number).exists()]
        if not todo:
            return
        writer = self.writer
        paths.sweep_temporary(folder / "parts")
        total = rows_of(ranges)
        with console.progress("writing", total, "texts", total - rows_of(todo)) as meter:
            for number in todo:
                items = self._items(number * size, min((number + 1) * size, work["rows"]))
                lines = [
                    {"id": item.id, "image_row": item.image_row, "asked": item.asked, "raw": raw,
                     "text": self.task.text_of(item, raw), **({"more_rows": item.more_rows} if item.more_rows else {})}
                    for item, raw in zip(items, self._written(writer, items, meter), strict=True)
                ]  # fmt: skip
                paths.write_atomic(_part(folder, number), "".join(map(_line, lines)))

    def _items(self, first: int, last: int) -> Sequence[TextItem]:
        pictures, own = self.rejected
        items = enumerate(self.task.items(self.opened.tables, first, last), first)
        return [
            item for row, item in items
            if item.wanted and row not in own
            and not (self.task.sees and any(seen < 0 or seen in pictures for seen in _rows(item)))
        ]  # fmt: skip

    def _written(self, writer: Writer, items: Sequence[TextItem], meter: console.Meter | None = None) -> list[str]:
        images = None
        if self.opened.vectors is not None and items:
            seen = np.array([_rows(item) for item in items])
            rows, back = np.unique(seen, return_inverse=True)
            images = self.opened.vectors(rows)[back.reshape(seen.shape if seen.shape[1] > 1 else -1).tolist()]
        return self._ask(writer, items, images, meter)

    def _ask(
        self, writer: Writer, items: Sequence[TextItem], images: Tensor | None, meter: console.Meter | None = None
    ) -> list[str]:
        from mmkd_cli.architectures.writer import Asked

        asked = [Asked(item.source, item.prefix, f"{item.id}") for item in items]
        return writer(
            asked, self.config.generation, batch_size=self.config.batch_size, seed=self.config.seed, images=images,
            precision=self.precision, done=meter.advance if meter else lambda rows: None,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------ what is left
    def _finish(self, artifact: Artifact, damage: dict[str, str]) -> Artifact:
        from mmkd_cli.stages.writing_page import write_page_of

        folder, before = artifact.path, artifact.files
        official = []
        with (
            paths.atomic_path(folder / "predictions.jsonl") as temporary,
            open(temporary, "w", encoding="utf-8") as out,
        ):
            for line in _lines(folder, artifact.plan["work"]):
                out.write(_line(line))
                official.append(self.task.official(line["id"], line["text"]))
        paths.write_atomic(folder / self.task.file, official_file(self.task.file, official))
        write_page_of(folder, self.opened, self.task, self.config)
        names = ["predictions.jsonl", self.task.file, "report.html"]
        files = {name: FileRecord.of(folder / name) for name in names}
        hashed = {name: files[name].xxh3_128 for name in names[:2]}
        for name, made in hashed.items():
            if damage and before[name].xxh3_128 != made:
                raise Refused(f"{artifact.label}: {name} was written again otherwise: `mmkd rm` it and run anew")
        content = {"rows": len(official), "skipped": artifact.plan["work"]["rows"] - len(official),
                   "task": _name(self.config.task), "predictions": self.task.file}  # fmt: skip
        finished = artifacts.finish(artifact, content=content, files=files, hashed=hashed, started=self.started)
        shutil.rmtree(folder / "parts")
        seconds = time.time() - self.started
        console.say(f"made {artifact.label} in {folder}: {len(official):,} texts, {files[names[1]].bytes:,} bytes, "
                    f"{seconds:,.1f} s; the result file: {folder / self.task.file}")  # fmt: skip
        return finished

    def _document(self, artifact: Artifact, status: str) -> dict[str, Any]:
        artifact = artifacts.read(artifact.path)
        return {"kind": "result", "name": artifact.name, "path": str(artifact.path), "status": status,
                "request": artifact.plan["request"], "fingerprint": artifact.fingerprint, **artifact.content,
                "predictions": str(artifact.path / self.task.file),
                "seconds": round(time.time() - self.started, 3)}  # fmt: skip


def _single(config: Config, task: type[Task]) -> str | None:
    """The question or prompt of a single text ("" of a caption), None of data. UserError where flags clash."""
    given = {name: value for name in ("image", "question", "prompt") if (value := getattr(config, name)) is not None}
    if not given:
        return None
    name = _name(config.task)
    if odd := [flag for flag in given if flag not in task.inputs]:
        takes = " and ".join(f"--{one}" for one in task.inputs) or "prepared data alone"
        raise UserError(f"--{odd[0]}: the task {name!r} takes {takes}")
    if missing := [flag for flag in task.inputs if flag not in given]:
        raise UserError(f"--{missing[0]} is needed beside --{next(iter(given))}: the task {name!r} takes both")
    for flag in ("data", "cache", "split"):
        if getattr(config, flag) is not None:
            raise UserError(f"--{flag} and --{next(iter(given))}: a single text needs no data: leave one of them out")
    return config.prompt if config.prompt is not None else config.question or ""


def _name(table: Any) -> str:
    return str(table.name)


def _there(role: str, file: str) -> Path:
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"--{role} {file} is not a file: name the one that the task reads")
    return path


def _part(folder: Path, number: int) -> Path:
    return folder / "parts" / f"{number:05d}.jsonl"


def _lines(folder: Path, work: dict[str, int]) -> Iterator[dict[str, Any]]:
    for number in range(-(-work["rows"] // work["rows_per_range"])):
        with open(_part(folder, number), encoding="utf-8") as part:
            yield from map(json.loads, part)


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _rows(item: TextItem) -> tuple[int, ...]:
    """Of the pictures that an item is about."""
    return (item.image_row, *item.more_rows)


def official_file(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """A result file's text, as its name's end says."""
    if name.endswith(".csv"):
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(row.values() for row in rows)
        return out.getvalue()
    return "".join(map(_line, rows)) if name.endswith(".jsonl") else json.dumps(rows, ensure_ascii=False) + "\n"
