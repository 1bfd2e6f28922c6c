"""Where artifacts come from, what they need, and how they are made again."""

from __future__ import annotations

import shlex
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmkd_cli.core import artifacts, paths, remote
from mmkd_cli.core.artifacts import Artifact
from mmkd_cli.core.errors import Refused
from mmkd_cli.core.locks import Lock
from mmkd_cli.core.references import parse_data, parse_model


def summary(artifact: Artifact) -> dict[str, Any]:
    """Kind, name, status, rows, bytes and inputs of an artifact. Reads no contents of its files."""
    manifest = artifact.manifest
    damaged = (artifact.path / "damage.json").exists()
    return {
        "kind": artifact.kind,
        "name": artifact.name,
        "path": str(artifact.path),
        "status": "unfinished" if manifest is None else "damaged" if damaged else "finished",
        "rows": artifact.content.get("rows"),
        "bytes": sum(map(_bytes, artifact.path.rglob("*"))),
        "inputs": [f"{i.role} {i.name}" for i in artifact.inputs],
    }


def _bytes(path: Path) -> int:
    """Size of a file; 0 of a folder, and of what vanished since it was listed (a stage that writes renames files)."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def find(root: Path, needed: artifacts.Input) -> Artifact | None:
    """The artifact of the root with an input's fingerprint, whatever its name is now; also a copy of a remote one."""
    folder = root / paths.FOLDERS[needed.kind]
    named = folder / needed.name
    others = sorted(path.parent for path in folder.glob("*/manifest.json") if path.parent != named)
    copies = sorted(path.parent for path in (root / remote.FOLDER).glob("*/*/manifest.json"))
    for path in [named, *others, *copies]:
        artifact = artifacts.read_or_pass(path) if (path / "manifest.json").is_file() else None
        if artifact is not None and artifact.manifest and artifact.manifest["fingerprint"] == needed.fingerprint:
            return artifact
    return None


def ancestors(root: Path, artifact: Artifact) -> list[tuple[artifacts.Input, Artifact | None]]:
    """What an artifact stands on, farthest first, each once; None where the root no longer has it."""
    found: dict[str, tuple[artifacts.Input, Artifact | None]] = {}

    def visit(current: Artifact) -> None:
        for needed in current.inputs:
            if needed.fingerprint not in found:
                there = find(root, needed)
                if there is not None:
                    visit(there)
                found[needed.fingerprint] = (needed, there)

    visit(artifact)
    return list(found.values())


def trained_on(root: Path, run: Artifact) -> tuple[list[Artifact], list[Artifact | None]]:
    """A run with the runs that it began from, and the data of all of them; None for what the root no longer has.

    A cache shows its teacher's knowledge, not its data, and the data of a run's cache is the run's own.
    """
    runs: list[Artifact] = [run]
    data: list[Artifact | None] = []
    for current in runs:  # grows
        for needed in current.inputs:
            there = find(root, needed)
            if needed.kind == "run" and there is not None:
                runs.append(there)
            elif needed.kind in ("data", "run"):
                data.append(there)
    return runs, data


def chain(root: Path, artifact: Artifact) -> list[str]:
    """The commands that make an artifact again, first to last; a comment where an input is gone."""
    commands = []
    for needed, there in ancestors(root, artifact):
        commands.append(
            command(there) if there else f"# {needed.kind} {needed.name} is not in {root}: how it was made is lost"
        )
    return [*commands, command(artifact)]


def command(artifact: Artifact) -> str:
    """The command line that makes an artifact: of the process that finished it, for the default root.

    No process's share (--shard), but the inputs that were taken by default, the artifact's name, and whole paths.
    """
    manifest = artifact.manifest or {}
    argv = list(manifest.get("argv", []))[1:]
    stage = artifact.plan["stage"]
    if not argv or argv[0] != stage:
        return f"# {artifact.label}: made from Python by the stage {stage}; its keys stand in {artifact.path}/plan.json"
    argv = _with_inputs(_without(_without(argv, "--root"), "--shard"), artifact)
    if "cwd" in manifest:
        argv = _with_whole_paths(argv, Path(manifest["cwd"]))
    if "--name" not in argv and not any(word.startswith("--name=") for word in argv):
        argv += ["--name", artifact.name]
    return shlex.join(["mmkd", *argv])


def _without(argv: Sequence[str], flag: str) -> list[str]:
    """Command words without a flag and its value, however often it is there."""
    after = (False, *(word == flag for word in argv))
    return [
        w for w, is_value in zip(argv, after, strict=False) if not (is_value or w == flag or w.startswith(flag + "="))
    ]


_FILES = ("--config", "--images", "--annotations", "--features", "--embeddings", "--weights", "--questions")
_MODELS = ("--teacher", "--student", "--model", "--image-model", "--text-model")


def _with_whole_paths(argv: Sequence[str], folder: Path) -> list[str]:
    """Command words with paths that no longer depend on the working directory, which was `folder`.

    A name without a slash is one where the flag asks for a file; elsewhere it may be an artifact's or a hub's.
    """
    words, flag = [], ""
    for word in argv:
        value = word
        if word.startswith("--"):
            flag, _, value = word.partition("=")
        if flag == "--set":
            value = value.partition("=")[2]
        elif flag in _MODELS and value:
            library, arch, weights = parse_model(value)
            is_folder = library in ("hf", "diffusers") or arch.startswith("local-dir:") or "/" in arch
            value = weights or (arch.removeprefix("local-dir:") if is_folder else "")
        named = flag in (*_FILES, *_MODELS) or "/" in value
        if named and value and (folder / value).exists():
            word = word.removesuffix(value) + str(folder / value)
        words.append(word)
    return words


def _with_inputs(argv: Sequence[str], artifact: Artifact) -> list[str]:
    """Command words with the inputs that were taken because nobody named them.

    A cache that `evaluate` found is no part of what was asked and is found again.
    """
    config, names = artifact.plan["config"], {i.role: i.name for i in artifact.inputs}
    words = list(argv)
    if "model" in names and not any(config.get(key) for key in ("model", "image_model", "text_model")):
        words += ["--model", names["model"]]
    if "data" in names and not config.get("data"):
        words += ["--data", names["data"]]
    if artifact.kind != "run" or config.get("cache"):
        return words
    asked = [parse_data(text) for text in config.get("data") or [names["data"]]]
    roles = ["cache", *(f"cache.{number}" for number in range(1, len(asked)))]
    found = [one.cache or names.get(role) for one, role in zip(asked, roles, strict=True)]
    if found == [one.cache for one in asked]:
        return words
    if len(asked) == 1:
        return [*words, "--cache", str(found[0])]
    words = _without(words, "--data")
    for one, cache in zip(asked, found, strict=True):
        words += ["--data", f"{one.data}{f':{cache}' if cache else ''}{f'@{one.weight:g}' if one.weight != 1 else ''}"]
    return words


def describe(root: Path, artifact: Artifact) -> dict[str, Any]:
    """An artifact for `mmkd show --json`: summary, content, plan, and the line back to the pictures."""
    manifest = artifact.manifest or {}
    return {
        **summary(artifact),
        "format": artifact.plan["format"],
        "stage": artifact.plan["stage"],
        "request": artifact.plan["request"],
        "fingerprint": manifest.get("fingerprint"),
        "content": manifest.get("content", {}),
        "rejected": manifest.get("rejected", []),
        "seconds": manifest.get("seconds"),
        "finished": manifest.get("finished"),
        "config": artifact.plan["config"],
        "line": [
            {"role": i.role, "kind": i.kind, "name": there.name if there else i.name, "fingerprint": i.fingerprint,
             "status": "there" if there else "gone"}
            for i, there in ancestors(root, artifact)
        ],
    }  # fmt: skip


def text(document: dict[str, Any]) -> str:
    """`describe` for a terminal."""
    size = f"{document['bytes']:,} bytes"
    lines = [f"{document['kind']} {document['name']}: {document['status']}, {size}, made by mmkd {document['stage']}"]
    if document["fingerprint"]:
        lines.append(
            f"fingerprint {document['fingerprint'][:16]}, finished {document['finished']}, {document['seconds']} s"
        )
    known = {key: value for key, value in document["content"].items() if key != "rejected" or not document["rejected"]}
    lines += [f"  {key}: {_short(value)}" for key, value in known.items()]
    if document["rejected"]:
        lines.append(f"  {rejected_rows(document['rejected'], document['name'])}")
    for step in reversed(document["line"]):
        lines.append(
            f"  from {step['kind']} {step['name']} ({step['role']}, {step['fingerprint'][:12]}, {step['status']})"
        )
    return "\n".join(lines)


def _short(value: Any) -> str:
    shown = ", ".join(f"{k} {_inner(v)}" for k, v in value.items()) if isinstance(value, dict) else str(value)
    return shown if len(shown) <= 160 else shown[:157] + "..."


def _inner(value: Any) -> str:
    return f"({', '.join(f'{k} {v}' for k, v in value.items())})" if isinstance(value, dict) else str(value)


def rejected_row(row: Mapping[str, Any]) -> str:
    """An entry of a manifest's `rejected`, for people: where, which, and why."""
    return f"{row['split']}/{row['table']} row {row['row']} (from 0), {row['id']!r}: {row['reason']}"


def rejected_rows(rejected: Sequence[Mapping[str, Any]], name: str, most: int = 10) -> str:
    """The first rejected rows of the artifact `name`, one a line, and how many more there are."""
    lines = [f"{len(rejected):,} rejected rows:", *map(rejected_row, rejected[:most])]
    if len(rejected) > most:
        lines.append(f"and {len(rejected) - most:,} more: `mmkd show {name} --json` lists all")
    return "\n    ".join(lines)


def dependents(root: Path, artifact: Artifact) -> list[Artifact]:
    """Artifacts of the root that were made from this one."""
    if artifact.manifest is None:
        return []
    mine = artifact.manifest["fingerprint"]
    return [other for other in artifacts.every(root) if any(i.fingerprint == mine for i in other.inputs)]


def remove(root: Path, artifact: Artifact, force: bool) -> None:
    """Delete an artifact's folder under its locks. Refused while another needs it (unless forced) or writes it."""
    needed_by = [other.label for other in dependents(root, artifact)]
    if needed_by and not force:
        raise Refused(f"{artifact.label} is needed by {', '.join(needed_by)}: remove those first, or say --force")
    with artifacts.lock(artifact.path):
        held = [Lock(path, artifact.label) for path in artifact.path.rglob("*.lock")]
        for lock in held:
            lock.__enter__()
        try:
            (artifact.path / "manifest.json").unlink(missing_ok=True)  # never a finished artifact with files gone
            shutil.rmtree(artifact.path)
        finally:
            for lock in held:
                lock.release()
