"""Any bench, by name or by its configuration: what `evaluate` and the callback of a training both call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmkd_cli.core import registry
from mmkd_cli.core.config import Config, validate
from mmkd_cli.core.contracts import Bench, BenchInput, DualEncoder, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file, sha256_json
from mmkd_cli.data.sources.image_folder import SUFFIXES


def open_bench(bench: str | Mapping[str, Any] | Config) -> Bench:
    """The bench of a registered name, of a table `{name, key: value...}`, or of a validated configuration."""
    if isinstance(bench, Config):
        made: Bench = registry.load("benches", bench.name)(bench)  # type: ignore[attr-defined]
        return made
    keys = {"name": bench} if isinstance(bench, str) else dict(bench)
    chosen = registry.load("benches", str(keys.get("name")))
    return chosen(validate(chosen.Config, keys))  # type: ignore[no-any-return]


def score(bench: Bench | str | Mapping[str, Any] | Config, given: BenchInput) -> Scores:
    """Run a bench, opened or by its name.

    A model that is being trained is left in the mode (training or not) that it was in.
    """
    training = _training_modules(given.model) if given.model is not None else []
    for module in training:
        module.training = False
    try:
        opened = open_bench(bench) if isinstance(bench, (str, Mapping, Config)) else bench
        return opened.run(given)
    finally:
        for module in training:
            module.training = True


def _training_modules(model: DualEncoder) -> list[Any]:
    import torch

    return [m for m in model.modules() if m.training] if isinstance(model, torch.nn.Module) else []


def file_hashes(bench: Bench, memory: Path | None = None) -> dict[str, str]:
    """Key -> SHA-256 of what a bench reads from its own files. Pictures of a folder count by their names and sizes."""
    return {key: _content(Path(place).expanduser(), memory) for key, place in bench.files().items()}


def _content(place: Path, memory: Path | None) -> str:
    if not place.is_dir():
        if not place.is_file():
            raise UserError(f"{place} is not there: name the file that the bench reads")
        return sha256_file(place, memory)
    found: dict[str, int | str] = {}
    for path in sorted(p for p in place.rglob("*") if p.is_file() and not p.name.startswith(".")):
        is_picture = path.suffix.lower() in SUFFIXES
        name = path.relative_to(place).as_posix()
        found[name] = path.stat().st_size if is_picture else sha256_file(path, memory)
    return sha256_json(found)


def default_split(bench: Bench, splits: tuple[str, ...]) -> str:
    """The bench's own split where the data has it, else val, else the last there is."""
    return next((name for name in (bench.default_split, "val") if name in splits), splits[-1])
