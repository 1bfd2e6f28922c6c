"""Artifacts on disk: plan first, manifest last, damage named.

`begin` writes plan.json before any work and judges whether a folder is new, unfinished, finished, or somebody else's;
`finish` writes manifest.json when everything is there. Readers call `open_artifact`.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from mmkd_cli import __version__
from mmkd_cli.core import console, paths
from mmkd_cli.core.config import flatten
from mmkd_cli.core.errors import MmkdError, Refused, UserError, nearest
from mmkd_cli.core.fingerprints import sha256_json, xxh3_file
from mmkd_cli.core.locks import Lock

FORMATS = {"data": 1, "cache": 1, "run": 1, "result": 1}
"""Newest format version of each kind that this release writes and reads."""

_NEEDED = {"plan.json": ("stage", "identity", "request", "config", "inputs", "work"),
           "manifest.json": ("fingerprint", "content", "files")}  # fmt: skip
_SAID = {"data": "data", "cache": "a cache", "run": "a run", "result": "a result"}
_MADE_BY = {"data": "prepare-data", "cache": "cache-teacher", "run": "distill"}
_BRING_BACK = "bring the file back, or remove the folder and run its command again"

State = Literal["new", "unfinished", "finished"]


@dataclass(frozen=True)
class Input:
    """What an artifact was made from: role in the stage, kind and name, and the fingerprint it had."""

    role: str
    kind: str
    name: str
    fingerprint: str


@dataclass(frozen=True)
class Plan:
    """What a folder is becoming.

    identity: everything that decides the request: {"stage", "config": identity keys, "inputs": {role: fingerprint},
    "files": {role: SHA-256}, ...}; no paths, dates or worker counts. config: the effective config, all keys.
    work: how the work is cut (shard bounds, row counts), fixed for the artifact's life.
    """

    kind: str
    stage: str
    name: str
    identity: dict[str, Any]
    config: dict[str, Any]
    inputs: tuple[Input, ...] = ()
    work: dict[str, Any] = field(default_factory=dict)
    format: int = 0
    mmkd: str = __version__

    @property
    def request(self) -> str:
        """SHA-256 of the canonical JSON of what was asked."""
        return sha256_json(self.identity)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "inputs": [asdict(i) for i in self.inputs], "format": self.format or FORMATS[self.kind],
                "request": self.request}  # fmt: skip


@dataclass(frozen=True)
class FileRecord:
    """Size and XXH3-128 of a file of an artifact."""

    bytes: int
    xxh3_128: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        return cls(path.stat().st_size, xxh3_file(path))


@dataclass(frozen=True)
class Artifact:
    """An artifact's folder with its plan, and its manifest if it is finished."""

    path: Path
    plan: dict[str, Any]
    manifest: dict[str, Any] | None

    @property
    def kind(self) -> str:
        return str(self.plan["kind"])

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def label(self) -> str:
        """For messages: cache 'cnn'."""
        return f"{self.kind} {self.name!r}"

    @property
    def fingerprint(self) -> str:
        if self.manifest is None:
            raise Refused(f"{self.label} is unfinished: run its `mmkd {self.plan['stage']}` command again")
        return str(self.manifest["fingerprint"])

    @property
    def content(self) -> dict[str, Any]:
        return dict(self.manifest["content"]) if self.manifest else {}

    @property
    def files(self) -> dict[str, FileRecord]:
        return {name: FileRecord(**record) for name, record in (self.manifest or {}).get("files", {}).items()}

    @property
    def inputs(self) -> tuple[Input, ...]:
        return tuple(Input(**i) for i in self.plan["inputs"])

    def as_input(self, role: str) -> Input:
        return Input(role, self.kind, self.name, self.fingerprint)

    def missing(self) -> dict[str, str]:
        """Files that are not there or have another size: relative path -> what is wrong. Reads no contents."""
        wrong = {}
        for name, record in self.files.items():
            path = self.path / name
            if not path.is_file():
                wrong[name] = "missing"
            elif path.stat().st_size != record.bytes:
                wrong[name] = f"{path.stat().st_size} bytes, should be {record.bytes}"
        return wrong

    def check(self) -> dict[str, str]:
        """Read every byte against its hash; writes damage.json if something is wrong and the folder may be written."""
        wrong = self.missing()
        for name, record in self.files.items():
            if name not in wrong and xxh3_file(self.path / name) != record.xxh3_128:
                wrong[name] = "its bytes are not those that were written"
        if wrong and os.access(self.path, os.W_OK):
            paths.write_json(self.path / "damage.json", wrong)
        return wrong

    def damage(self) -> dict[str, str]:
        """What damage.json records, and what is missing or has the wrong size."""
        note = self.path / "damage.json"
        return {**(paths.read_json(note) if note.exists() else {}), **self.missing()}


def read(path: Path) -> Artifact:
    """The artifact at `path`, finished or not. Refused if its format is newer than this release reads."""
    if not (path / "plan.json").is_file():
        raise UserError(f"{path} is no mmkd artifact: it has no plan.json")
    plan = _document(path / "plan.json")
    manifest = _document(path / "manifest.json") if (path / "manifest.json").is_file() else None
    return Artifact(path, plan, manifest)


def _document(file: Path) -> dict[str, Any]:
    """A plan or a manifest of a kind and format that this release reads, with the keys that it relies on."""
    document = paths.read_json(file)
    kind = document.get("kind") if isinstance(document, dict) else None
    if kind not in FORMATS:
        raise Refused(f"{file} names the kind {kind!r}, which this release does not know")
    number = document.get("format")
    if not isinstance(number, int):
        raise Refused(f"{file} names the format {number!r}, which is no number: {_BRING_BACK}")
    if number > FORMATS[kind]:
        raise Refused(
            f"{kind} {file.parent.name!r} has format {number}, newer than {FORMATS[kind]} "
            f"which mmkd {__version__} reads: use mmkd {document.get('mmkd', 'of a later release')} or newer"
        )
    if absent := [name for name in _NEEDED[file.name] if name not in document]:
        raise Refused(f"{file} has no {absent[0]!r}: {_BRING_BACK}")
    return dict(document)


def read_or_pass(path: Path) -> Artifact | None:
    """`read` for what nobody named: what this release can't read is passed over, with one warning a process."""
    try:
        return read(path)
    except MmkdError as error:
        _warn_once(str(error))
        return None


@cache
def _warn_once(said: str) -> None:
    console.warn(f"passed over: {said}")


def locate(root: Path, name: str, kind: str | None = None) -> Path:
    """The folder of NAME, KINDS/NAME or a path, with the kind asked for if one is; of a URL that of its local copy."""
    from mmkd_cli.core import remote

    if remote.is_url(name):
        return remote.local_copy(root, name)
    if "/" in name or name in (".", ".."):
        folder, _, rest = name.partition("/")
        inside = root / folder / rest
        return inside if folder in paths.FOLDERS.values() and (inside / "plan.json").is_file() else Path(name)
    found = [root / folder / name for k, folder in paths.FOLDERS.items() if kind in (None, k)]
    found = [path for path in found if (path / "plan.json").is_file()]
    if not found and (Path(name) / "plan.json").is_file():
        return Path(name)
    if len(found) > 1:
        names = ", ".join(f"{p.parent.name}/{p.name}" for p in found)
        raise UserError(f"{name!r} names {len(found)} artifacts: write one of {names}")
    if not found:
        for other, folder in paths.FOLDERS.items():
            if (root / folder / name / "plan.json").is_file():
                raise UserError(f"{name!r} is {_SAID[other]}, not {_SAID[str(kind)]}: `mmkd ls` shows what is there")
        there = [path.name for path in _folders(root, kind)]
        raise UserError(
            f"{kind or 'artifact'} {name!r} is not in {root}{nearest(name, there)}: `mmkd ls` shows what is"
        )
    return found[0]


def open_artifact(root: Path, name: str, kind: str, allow_unfinished: bool = False) -> Artifact:
    """A finished, undamaged artifact of a kind, by name, path or URL; Refused otherwise, naming the file."""
    artifact = read(locate(root, name, kind))
    if artifact.kind != kind:
        raise UserError(f"{artifact.path} is {_SAID[artifact.kind]}, not {_SAID[kind]}")
    if not allow_unfinished:
        artifact.fingerprint  # noqa: B018  (refuses what is unfinished)
        for file, what in artifact.damage().items():
            raise Refused(
                f"{artifact.label} is damaged: {file} ({what}): "
                f"run its `mmkd {artifact.plan['stage']}` command again to repair it"
            )
    return artifact


def every(root: Path, kind: str | None = None) -> Iterator[Artifact]:
    """All artifacts of the root that this release can read, kind by kind, names in order; of others a warning."""
    for path in _folders(root, kind):
        artifact = read_or_pass(path)
        if artifact is not None:
            yield artifact


def _folders(root: Path, kind: str | None) -> Iterator[Path]:
    for k, folder in paths.FOLDERS.items():
        if kind in (None, k):
            yield from (plan.parent for plan in sorted((root / folder).glob("*/plan.json")))


def only(root: Path, kind: str, flag: str, fits: Any = None, wanted: str = " that fits") -> Artifact:
    """The one finished artifact of a kind (for which `fits(artifact)`, `wanted` in words), else UserError."""
    there = [a for a in every(root, kind) if a.manifest is not None]
    found = [a for a in there if fits is None or fits(a)]
    if not found:
        others = f"{wanted} (there is {', '.join(a.name for a in there)})" if there else ""
        raise UserError(f"{flag} is needed: {root} has no {kind}{others}: make it by `mmkd {_MADE_BY[kind]}`")
    if len(found) > 1:
        names = ", ".join(a.name for a in found)
        raise UserError(f"{flag} is needed: {len(found)} artifacts of kind {kind} in {root} fit ({names})")
    return found[0]


def default_name(parts: Sequence[str], plan: Plan) -> str:
    """A name from what was asked, ending in the first eight hex digits of the request."""
    words = "-".join("".join(c if c.isalnum() or c in "._" else "-" for c in part) for part in parts if part)
    return paths.check_name(f"{words[:120].strip('-.')}-{plan.request[:8]}")


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The first field in which two identities differ, with both values."""
    before, after = dict(flatten(old)), dict(flatten(new))
    for dotted in sorted(before.keys() | after.keys()):
        was, says = before.get(dotted, "nothing"), after.get(dotted, "nothing")
        if was != says:
            return f"{dotted} was {_short(was)}, the command says {_short(says)}"
    return "nothing that can be named"


def _short(value: Any) -> str:
    text = str(value)
    if len(text) == 64 and all(c in "0123456789abcdef" for c in text):
        return text[:12]
    return text if len(text) <= 60 else text[:57] + "..."


def begin(path: Path, plan: Plan) -> tuple[State, Artifact]:
    """Create plan.json, or compare with the one that is there. Refused if another command made the folder.

    The returned artifact carries the plan on disk: its `work` is what to follow, whatever release made it.
    """
    paths.check_name(path.name)
    with paths.writable(path):
        created = paths.create_json(path / "plan.json", plan.to_json())
    artifact = read(path)
    return ("new" if created else _state(artifact, plan)), artifact


def preview(path: Path, plan: Plan) -> tuple[State, dict[str, Any]]:
    """What `begin` would find, said, with the first keys of a dry run's document. Writes nothing; Refused as there.

    status: `dry run` (nothing is there), `would go on`, `would repair` (with the files), `already done`.
    """
    document = {"kind": plan.kind, "stage": plan.stage, "name": paths.check_name(path.name), "path": str(path)}
    if not (path / "plan.json").is_file():
        return "new", {**document, "status": "dry run"}
    artifact = read(path)
    state = _state(artifact, plan)
    if state == "unfinished":
        console.say(f"would go on with {artifact.label} (unfinished): {path}; the whole of it:")
        return state, {**document, "status": "would go on"}
    damaged = sorted(artifact.damage())
    if damaged:
        console.say(f"would repair {', '.join(damaged)} of {artifact.label}: {path}")
        return state, {**document, "status": "would repair", "damaged": damaged}
    console.say(f"{artifact.label} is already done: {path}")
    return state, {**document, "status": "already done"}


def _state(artifact: Artifact, plan: Plan) -> State:
    """Of an artifact that is there. Refused, naming the field, if it is not the one that `plan` asks for."""
    if artifact.kind != plan.kind or artifact.plan["request"] != plan.request:
        raise Refused(
            f"{artifact.label} was made by another command: {difference(artifact.plan['identity'], plan.identity)}: "
            f"choose another --name, or `mmkd rm {artifact.path.parent.name}/{artifact.path.name}` first"
        )
    return "finished" if artifact.manifest is not None else "unfinished"


def finish(
    artifact: Artifact,
    *,
    content: Mapping[str, Any],
    files: Mapping[str, FileRecord],
    hashed: Mapping[str, str],
    rejected: Sequence[Mapping[str, Any]] = (),
    started: float,
) -> Artifact:
    """Write manifest.json last. `content`: a summary for people and readers. `files`: every file with size and hash.
    `hashed`: the hashes that the fingerprint stands on (a subset of the files', the ones that are 'same bytes').
    """
    plan = artifact.plan
    manifest = {
        **plan,
        "fingerprint": sha256_json({"request": plan["request"], "content": dict(hashed)}),
        "content": dict(content),
        "rejected": [dict(row) for row in rejected],
        "files": {name: asdict(record) for name, record in sorted(files.items())},
        "argv": sys.argv,
        "cwd": os.getcwd(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.time() - started, 3),
        "versions": versions(),
    }
    paths.write_json(artifact.path / "manifest.json", manifest)
    (artifact.path / "damage.json").unlink(missing_ok=True)
    return Artifact(artifact.path, plan, manifest)


def lock(path: Path) -> Lock:
    """The lock of a whole artifact (`.NAME.lock` beside its folder): held by whoever writes or removes it."""
    return Lock(path.parent / f".{path.name}.lock", f"{path.parent.name}/{path.name}")


def versions() -> dict[str, str]:
    """Versions of what can change a result, as installed (nothing is imported)."""
    found = {"python": platform.python_version(), "mmkd": __version__}
    for package in (
        "torch",
        "transformers",
        "open_clip_torch",
        "diffusers",
        "datasets",
        "timm",
        "accelerate",
        "safetensors",
        "pillow",
    ):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def require_same(artifact: Artifact, role: str, actual: Artifact) -> None:
    """Refused unless `actual` is the input that `artifact` was made from in this role."""
    for known in artifact.inputs:
        if known.role == role and known.fingerprint != actual.fingerprint:
            raise Refused(
                f"{artifact.label} was made from {role} with fingerprint {known.fingerprint[:12]}, {actual.label} has "
                f"{actual.fingerprint[:12]}: make the {artifact.kind} again, or name the other {role}"
            )
