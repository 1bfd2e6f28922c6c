"""`mmkd evaluate`: scores by the official rules, with intervals, and a page to look at.

config -> model, data and cache opened (or ready embeddings) -> plan -> bench -> scores, predictions, page -> manifest.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import SerializeAsAny

from mmkd_cli.core import artifacts, console, lineage, paths
from mmkd_cli.core import config as configs
from mmkd_cli.core.artifacts import Artifact, FileRecord, Input, Plan
from mmkd_cli.core.config import Config as Table
from mmkd_cli.core.config import StageConfig, key
from mmkd_cli.core.contracts import Bench, BenchInput, Scores, StageContext
from mmkd_cli.core.errors import MmkdError, UserError
from mmkd_cli.core.fingerprints import sha256_file, sha256_json, without_notes

if TYPE_CHECKING:
    from mmkd_cli.stages.evaluation_inputs import Opened
    from mmkd_cli.stages.scored_texts import ScoredTexts


class Config(StageConfig):
    """`stage = "evaluate"`."""

    slots: ClassVar[dict[str, str]] = {"bench": "benches"}

    bench: SerializeAsAny[Table] = key(description="what to score, by name, and its keys")
    model: str | None = key(
        None, "RUN, open_clip:ARCH:FILE|TAG or hf:ID|FOLDER (default: the only run)", identity=False
    )
    image_model: str | None = key(None, "the half that embeds pictures", identity=False)
    text_model: str | None = key(None, "the half that embeds texts", identity=False)
    data: str | None = key(
        None, "prepared data (default: the run's own; of --predictions those that hold the references)", identity=False
    )
    cache: str | None = key(None, "the teacher's signals (default: the run's own)", identity=False)
    teacher_weights: str | None = key(
        None, "where the weights of the run's teacher are now, if it has to run and they were moved", identity=False
    )
    split: str | None = key(None, "split of the data (default: test where there is one)", identity=False)
    layer: str | None = key(None, "output of the model to measure (default: its last)")
    embeddings: str | None = key(None, "ready embeddings, npz or safetensors, in place of model and data",
                                 identity=False)  # fmt: skip
    predictions: str | None = key(
        None, "a result file in the bench's own layout, or a result of `mmkd generate`, in place of a model",
        identity=False,
    )  # fmt: skip
    against: str | None = key(None, "another result of the bench and its items, to compare with", identity=False)
    precision: Literal["float32", "bfloat16"] = key("float32", "of the model's forward", source="[U] exact")
    batch_size: int = key(64, "rows of one forward", unit="rows", source="[U]", identity=False, ge=1)


def run(config: Config, context: StageContext) -> dict[str, Any]:
    """Score, or say again what was scored. Returns the score document."""
    from mmkd_cli.benches.runner import open_bench

    job = Job(config, context, open_bench(config.bench))
    return job.dry_run() if context.dry_run else job.run()


class Job:
    """One result."""

    def __init__(self, config: Config, context: StageContext, bench: Bench) -> None:
        self.config, self.context, self.bench = config, context, bench
        self.bench_name = str(config.bench.name)  # type: ignore[attr-defined]
        self.started = time.time()
        self.device = "cpu"
        self.opened: Opened | None = None
        self.other: Artifact | None = None
        if config.against is not None:
            from mmkd_cli.benches.against import open_other

            self.other = open_other(context.root, config.against, self.bench_name)
        _check_given(config, self.bench_name, bench)
        self.scored: ScoredTexts | None = None
        if config.predictions is not None:
            from mmkd_cli.stages.scored_texts import open_scored_texts

            self.scored = open_scored_texts(config, context.root, bench)
            self.config = config = config.model_copy(update={"predictions": self.scored.file})
        self.ready = config.embeddings or config.predictions
        if not self.ready:
            from mmkd_cli.stages.evaluation_inputs import open_inputs
            from mmkd_cli.training.devices import open_device

            self.device = str(open_device(context.device))
            self.opened = open_inputs(config, context.root, bench, self.device)

    def run(self) -> dict[str, Any]:
        plan = self.plan()
        folder = self.context.root / paths.FOLDERS["result"] / plan.name
        with artifacts.lock(folder):
            state, artifact = artifacts.begin(folder, plan)
            damage = artifact.damage() if state == "finished" else {}
            if state == "finished" and not damage:
                document = dict(paths.read_json(folder / "scores.json"))
                console.say(f"{artifact.label} is already done: {folder}")
            else:
                document = self._score_or_free(_renewed(artifact, plan), state == "new")
                for file, what in sorted(damage.items()):
                    console.say(f"{artifact.label}: made again {file} ({what})")
        self._show(document, folder)
        return document if self.other is None else self._compared(document, folder, self.other)

    @without_notes()
    def dry_run(self) -> dict[str, Any]:
        """Rows and an estimate of time from a few embedded batches. Writes nothing."""
        plan = self.plan()
        state, document = artifacts.preview(self.context.root / paths.FOLDERS["result"] / plan.name, plan)
        if state == "finished":
            return document
        rows, seconds = 0, 0.0
        if self.config.embeddings is not None:
            self._given()  # a file that can't be read is refused now
        else:
            if self.opened is not None:
                self.opened.require_teacher()
            rows, seconds = self.bench.estimate(self._given())
        what = self.config.embeddings or f"{rows:,} rows"
        console.say(f"would score {what} by {self.bench_name}: about {seconds:,.0f} s on {self.device}")
        return {**document, "rows": rows, "seconds": seconds, "device": self.device}

    def plan(self) -> Plan:
        """What decides the scores: bench with its own files, model, data and split, or the embeddings' bytes.

        The pictures' signal is that of the run's teacher, which the run stands for, from whichever of its caches or
        live: only where a cache was named is its precision part of what was asked.
        """
        config, opened = self.config, self.opened
        inputs = self.inputs
        identity: dict[str, Any] = {
            "stage": "evaluate",
            "config": configs.identity(config),
            "inputs": {i.role: i.fingerprint for i in inputs if i.kind not in ("cache", "result")},
        }
        if self.files:
            identity["files"] = self.files
        if self.scorer:
            identity["scorer"] = self.scorer
        if config.predictions is not None:
            identity["split"] = self.split
        if opened is not None:
            identity["split"] = opened.split
            if opened.kind != "run":
                identity["model"] = opened.model.identity()
            if config.cache is not None:
                identity["signal"] = opened.precision()
        plan = Plan("result", "evaluate", self.context.name or "", identity, config.model_dump(mode="json"), inputs)
        if self.context.name:
            return plan
        result = self.scored.result if self.scored else None
        of = opened.label if opened else result.name if result else Path(str(self.ready)).stem
        return replace(plan, name=artifacts.default_name([self.bench_name, of], plan))

    def _given(self) -> BenchInput:
        config, opened = self.config, self.opened
        if config.predictions is not None:
            assert self.scored is not None
            return BenchInput(predictions=Path(config.predictions), split=self.split, data=self.scored.data,
                              heat=self.scored.heat())  # fmt: skip
        if opened is None:
            from mmkd_cli.benches.embeddings_file import read_embeddings

            return BenchInput(embeddings=read_embeddings(Path(str(config.embeddings))))
        denoises = getattr(self.bench, "denoises", False)
        model, denoiser = (None, opened.model) if denoises else (opened.model, None)
        return BenchInput(
            model=model, denoiser=denoiser, data=opened.data, split=opened.split, targets=opened.targets(),
            layer=config.layer, precision=config.precision, device=self.device, batch_size=config.batch_size,
            workers=self.context.workers,
        )  # fmt: skip

    def _score_or_free(self, artifact: Artifact, new: bool) -> dict[str, Any]:
        """Score; what can't be scored leaves no folder behind, so that its name is free for the mended command."""
        try:
            return self._score(artifact)
        except MmkdError:
            if new:
                shutil.rmtree(artifact.path)
            raise

    def _score(self, artifact: Artifact) -> dict[str, Any]:
        from mmkd_cli.benches.clip_benchmark import clip_benchmark_layout
        from mmkd_cli.benches.runner import score
        from mmkd_cli.reports.result import write_result_page

        folder = artifact.path
        if self.opened is not None:
            self.opened.require_teacher()
        scores = score(self.bench, self._given())
        document = self._document(scores)
        items = [json.dumps(item, ensure_ascii=False, allow_nan=False) + "\n" for item in scores.items]
        names = ["predictions.jsonl", "scores.json", "report.html"]
        data = self.opened.data if self.opened else None
        layout = clip_benchmark_layout(
            document, data.artifact.name if data else getattr(self.config.bench, "set", None)
        )
        with paths.enough_room(folder, lambda: sum(map(len, items))):
            paths.write_atomic(folder / "predictions.jsonl", "".join(items))
            if layout is not None:
                paths.write_json(folder / "clip_benchmark.json", layout)
                names.append("clip_benchmark.json")
            write_result_page(folder / "report.html", document, scores.page)
            paths.write_json(folder / "scores.json", document)
        files = {name: FileRecord.of(folder / name) for name in names}
        hashed = {name: files[name].xxh3_128 for name in ("predictions.jsonl", "scores.json")}
        artifacts.finish(
            artifact, content={"rows": scores.counts["items"], "bench": self.bench_name, "metrics": scores.metrics},
            files=files, hashed=hashed, started=self.started,
        )  # fmt: skip
        return document

    def _document(self, scores: Scores) -> dict[str, Any]:
        """What scores.json holds and `--json` prints (FORMATS.md, result)."""
        opened = self.opened
        model: dict[str, Any] = {"name": opened.name, "kind": opened.kind} if opened else {
            "name": self.scored.name if self.scored else Path(str(self.ready)).name,
            "kind": "embeddings" if self.config.embeddings else "predictions",
        }  # fmt: skip
        fingerprints = {i.role: i.fingerprint for i in self.inputs if i.kind != "result"} | self.files
        if opened is not None and opened.kind != "run":
            fingerprints["model"] = sha256_json(opened.model.identity())
        if self.config.layer is not None:
            model["layer"] = self.config.layer
        return {
            "bench": self.bench_name,
            "split": self.split,
            "model": model,
            "zero_shot": self._zero_shot(scores.official),
            "counts": scores.counts,
            "metrics": scores.metrics,
            "intervals": {name: list(interval) for name, interval in scores.intervals.items()},
            "by": scores.by,
            "quoted": scores.quoted,
            "fingerprints": fingerprints,
            "versions": artifacts.versions(),
            **({"scorer": self.scorer} if self.scorer else {}),
        }

    def _zero_shot(self, official: bool | None) -> dict[str, Any]:
        from mmkd_cli.benches.zero_shot import zero_shot

        opened = self.opened
        behind = self.scored.behind if self.scored else lambda role: None
        run = opened.runs[0] if opened and opened.kind == "run" else behind("model")
        runs, seen = lineage.trained_on(self.context.root, run) if run else ([], [])
        prepared = opened.data if opened else self.scored.data if self.scored else None
        data = prepared.artifact if prepared else behind("data")
        shows = getattr(self.bench, "sources", frozenset()) if official else None
        return zero_shot(runs, seen, data, shows, matching=getattr(self.bench, "matching", True))

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Artifacts that the scores are made from."""
        return self.opened.inputs() if self.opened else self.scored.inputs() if self.scored else ()

    @cached_property
    def files(self) -> dict[str, str]:
        """SHA-256 of the files that are scored: the bench's own, and the embeddings or the result file."""
        from mmkd_cli.benches.runner import file_hashes

        memory = self.context.root / ".hashes"
        found = file_hashes(self.bench, memory)
        for name, what in (("embeddings", "an .npz or .safetensors"), ("predictions", "the bench's result file")):
            if (given := getattr(self.config, name)) is not None:
                path = Path(given)
                if not path.is_file():
                    raise UserError(f"{name} {path} is not a file: give {what}")
                found[name] = sha256_file(path, memory)
        return found

    @cached_property
    def scorer(self) -> dict[str, str]:
        """What the scores depend on beside the files, of a bench that uses tools which may be absent."""
        said = getattr(self.bench, "scorer", dict)
        return dict(said())

    @property
    def split(self) -> str | None:
        """Of prepared data, of a bench's own files; of ready embeddings nobody knows."""
        if self.opened is not None:
            return self.opened.split
        if self.scored is not None and self.scored.split is not None:
            return self.scored.split
        return None if self.bench.needs_data else self.bench.default_split

    def _compared(self, document: dict[str, Any], folder: Path, other: Artifact) -> dict[str, Any]:
        """The document with `against`, which is said and not kept: it is of two results."""
        from mmkd_cli.benches import against
        from mmkd_cli.reports.tables import print_table

        document = {**document, "against": against.compare(folder, other)}
        print_table(against.table(document))
        console.say(against.sentence(document))
        return document

    def _show(self, document: Mapping[str, Any], folder: Path) -> None:
        from mmkd_cli.reports.result import quoted_table, score_table
        from mmkd_cli.reports.tables import print_table

        print_table(score_table(document))
        beside = quoted_table(document, brief=True)
        if beside is not None:
            print_table(beside)
        said = document["zero_shot"]
        answer = {True: "yes", False: "no", None: "not known"}[said["value"]]
        console.say(f"zero-shot: {answer} ({said['reason']})")
        counts = document["counts"]
        console.say(
            f"{folder}: {counts['items']:,} items, {counts['skipped']:,} skipped, {time.time() - self.started:,.1f} s; "
            f"look at {folder / 'report.html'}"
        )


def _check_given(config: Config, name: str, bench: Bench) -> None:
    """UserError where what was given does not go together, or is not what the bench scores."""
    reads_predictions = getattr(bench, "reads_predictions", False)
    if config.predictions is not None and not reads_predictions:
        raise UserError(f"--predictions: bench {name!r} scores no result files: give --model, or --embeddings")
    if config.predictions is None and reads_predictions and not bench.needs_data:
        said = f"bench {name!r} scores texts that are written: give --predictions FILE, the bench's result file"
        if task := getattr(bench, "written_by", None):
            said += (
                f", or write them (`mmkd generate --task {task} --model {config.model or 'RUN'} --name NAME`), then "
                "give --predictions NAME"
            )
        raise UserError(said)
    models = ("model", "image_model", "text_model", "cache", "layer", "teacher_weights")
    for flag, apart in (("predictions", ("embeddings", *models)), ("embeddings", (*models, "data", "split"))):
        if getattr(config, flag) is None:
            continue
        if given := [one.replace("_", "-") for one in apart if getattr(config, one) is not None]:
            raise UserError(f"--{flag} takes the place of --{given[0].removeprefix('teacher-')}: leave one of them out")


def _renewed(artifact: Artifact, plan: Plan) -> Artifact:
    """The artifact with the inputs that it is scored from now: a cache that is found may be another than before."""
    inputs = plan.to_json()["inputs"]
    if artifact.plan["inputs"] == inputs:
        return artifact
    renewed = {**artifact.plan, "inputs": inputs}
    paths.write_json(artifact.path / "plan.json", renewed)
    return replace(artifact, plan=renewed)
