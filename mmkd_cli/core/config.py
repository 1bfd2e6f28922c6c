"""Configuration: frozen pydantic models, layered values, and which keys are identity.

A key is declared by `key(default, description, source=...)`. Values come in layers (defaults, preset, file, --set,
flags), later ones override, and the origin of each is kept. `identity(config)` is what the request hashes.
"""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from mmkd_cli.core import registry
from mmkd_cli.core.errors import UserError, nearest

_UNSET: Any = object()


class Config(BaseModel):
    """Base of every configuration table: frozen, unknown keys refused.

    stage_defaults: what the rest of the stage is where a slot chose this table and nothing else is said (a method's
    published recipe), as nested values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
    stage_defaults: ClassVar[dict[str, Any]] = {}


class StageConfig(Config):
    """Top table of a stage.

    slots: a table's name -> the registry kind that its `name` key chooses from. chosen: the name where none is given.
    """

    slots: ClassVar[dict[str, str]] = {}
    chosen: ClassVar[dict[str, str]] = {}


def key(
    default: Any = _UNSET, description: str = "", *, source: str = "", unit: str = "", identity: bool = True,
    absent: Any = _UNSET, **constraints: Any,
) -> Any:  # fmt: skip
    """A config field.

    source: mark and origin of the default: [P] paper, [C] public code, [S] summary, [U] our choice and why.
    identity: whether the value is part of the request. absent: for a key added after a release, the value that means
    the old behaviour: it is left out of the request. constraints: pydantic's ge, le, gt, lt, min_length, pattern.
    """
    extra: dict[str, Any] = {"source": source, "unit": unit, "identity": identity}
    if absent is not _UNSET:
        extra["absent"] = absent
    default = ... if default is _UNSET else default
    return Field(default, description=description, json_schema_extra=extra, validate_default=True, **constraints)


class Layer(NamedTuple):
    """Nested values with the place that they came from, such as `--set` or a file's name."""

    origin: str
    values: dict[str, Any]


class Resolved(NamedTuple):
    """A validated config, and for each dotted key the origin of its value (`default` where nothing set it)."""

    config: Any
    origins: dict[str, str]


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key, value of every leaf of nested tables."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def assign(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Set `a.b.c` in nested dictionaries."""
    *tables, last = dotted.split(".")
    for part in tables:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise UserError(f"key {dotted!r}: {part!r} is a value, not a table")
    values[last] = value


def parse_set(items: Sequence[str]) -> dict[str, Any]:
    """`a.b=value` texts to nested values. A value is read as TOML; what is not TOML is a string."""
    values: dict[str, Any] = {}
    for item in items:
        dotted, equals, text = item.partition("=")
        if not equals or not dotted:
            raise UserError(f"--set {item!r} is not KEY=VALUE")
        try:
            value = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            value = text
        assign(values, dotted.strip(), value)
    return values


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file, or one line saying what is wrong with it."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"config {path} is not there") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"config {path} is not TOML: {error}") from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `base` with those of `over` in their places, table by table."""
    merged = dict(base)
    for name, value in over.items():
        old = merged.get(name)
        merged[name] = merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged


def compose(stage: type[StageConfig], values: Mapping[str, Any]) -> type[StageConfig]:
    """The stage's model with each slot typed by the class that the slot's `name` chooses."""
    fields: dict[str, Any] = {}
    for slot, kind in stage.slots.items():
        chosen = values.get(slot)
        name = chosen.get("name") if isinstance(chosen, Mapping) else None
        if name is None:
            continue
        fields[slot] = (registry.load(kind, name).Config, ...)
    return create_model(stage.__name__, __base__=stage, **fields) if fields else stage


def resolve(stage: type[StageConfig], layers: Sequence[Layer]) -> Resolved:
    """Merge layers, validate, and say where each value came from. Unknown keys: UserError with the nearest name."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        table = {k: ({"name": v} if k in stage.slots and isinstance(v, str) else v) for k, v in layer.values.items()}
        for slot in stage.slots:  # another name makes the other entry's keys void
            old, new = values.get(slot), table.get(slot)
            if not (isinstance(old, dict) and isinstance(new, dict) and "name" in old and "name" in new):
                continue
            if old["name"] != new["name"]:
                values.pop(slot)
        values = merge(values, table)
        origins.update({dotted: layer.origin for dotted, _ in flatten(table)})
    for slot, kind in stage.slots.items():
        chosen = values.get(slot)
        name = chosen.get("name") if isinstance(chosen, Mapping) else None
        defaults = registry.load(kind, name).Config.stage_defaults if name else {}
        origins = {**{dotted: f"{slot} {name}" for dotted, _ in flatten(defaults)}, **origins}
        values = merge(defaults, values)
    for slot, kind in stage.slots.items():
        if slot not in stage.chosen and isinstance(values.get(slot), dict) and "name" not in values[slot]:
            raise _no_name(slot, kind)
    for slot, name in stage.chosen.items():
        values[slot] = {"name": name, **values.get(slot, {})}
    model = compose(stage, values)
    return Resolved(validate(model, values, origins), _complete(model, values, origins))


def validate(model: type[Config], values: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> Any:
    """`model` from nested values; pydantic's complaints become one line with key, origin, and the nearest key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = min(
            error.errors(), key=lambda one: one["type"] != "extra_forbidden"
        )  # a misspelt key explains the rest
        dotted = ".".join(str(part) for part in first["loc"])
        where = f" ({(origins or {})[dotted]})" if dotted in (origins or {}) else ""
        if first["type"] == "extra_forbidden":
            slot, _, last = dotted.partition(".")
            if (origins or {}).get(dotted) == "flag" and last:
                flag, chosen = last.replace("_", "-"), values[slot].get("name")
                raise UserError(f"--{flag}: {slot} {chosen!r} has no key {last!r}: leave the flag out") from None
            raise UserError(f"key {dotted!r}{where} is not known{_nearest_key(model, dotted)}") from None
        if first["type"] == "missing":
            if dotted in getattr(model, "slots", {}):
                raise _no_name(dotted, model.slots[dotted]) from None  # type: ignore[attr-defined]
            table = _table(model, first["loc"][:-1])
            what = table.model_fields[str(first["loc"][-1])].description if table else ""
            raise UserError(
                f"key {dotted!r} ({what}) is needed: set it by its flag, in the config, or by --set {dotted}=..."
            ) from None
        raise UserError(f"key {dotted!r}{where}: {first['msg']}, got {first.get('input')!r}") from None


def _no_name(slot: str, kind: str) -> UserError:
    """What to say where nothing chose the entry of a slot."""
    return UserError(f"--{slot} is needed: name one of {', '.join(sorted(registry.table(kind)))}")


def _nearest_key(model: type[BaseModel], dotted: str) -> str:
    """A hint with the dotted name of the key that was meant: the same in another table, else a like one beside it."""
    path, _, last = dotted.rpartition(".")
    every = {name.rpartition(".")[2]: name for name in reversed([row.key for row in describe(model)])}
    if last in every:
        return f" (did you mean {every[last]!r}?)"
    table = _table(model, path.split(".") if path else ())
    return nearest(last, table.model_fields if table else (), f"{path}." if path else "")


def _table(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel] | None:
    table: type[BaseModel] | None = model
    for part in path:
        field = table.model_fields.get(str(part)) if table else None
        table = _model_of(field.annotation) if field else None
    return table


def _model_of(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *typing.get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _complete(model: type[Config], values: Mapping[str, Any], origins: Mapping[str, str]) -> dict[str, str]:
    config = model.model_validate(values)
    return {dotted: origins.get(dotted, "default") for dotted, _ in flatten(config.model_dump(mode="json"))}


def identity(config: BaseModel) -> dict[str, Any]:
    """The nested values that the request hashes: keys marked as identity, without those at their `absent` value."""
    kept: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        value = getattr(config, name)
        if not extra.get("identity", True) or ("absent" in extra and value == extra["absent"]):
            continue
        if isinstance(value, BaseModel):
            kept[name] = identity(value)
        else:
            kept[name] = config.model_dump(mode="json", include={name})[name]
    return kept


class KeyRow(NamedTuple):
    """One key as `mmkd list` shows it."""

    key: str
    type: str
    default: Any
    unit: str
    description: str
    source: str
    identity: bool


def describe(model: type[BaseModel], prefix: str = "") -> Iterator[KeyRow]:
    """Every key of a model, tables flattened to dotted names."""
    for name, field in model.model_fields.items():
        extra: Mapping[str, Any] = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        table = _model_of(field.annotation)
        if table is not None:
            yield from describe(table, f"{prefix}{name}.")
            continue
        shown = (
            field.annotation.__name__
            if isinstance(field.annotation, type)
            else str(field.annotation).replace("typing.", "")
        )
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        yield KeyRow(
            prefix + name,
            shown,
            "(needed)" if field.is_required() else default,
            str(extra.get("unit", "")),
            field.description or "",
            str(extra.get("source", "")),
            bool(extra.get("identity", True)),
        )


def to_toml(config: BaseModel, stage: str, origins: Mapping[str, str] | None = None) -> str:
    """The effective config as TOML without None values; with origins, each line says where its value came from."""
    import tomli_w

    def tables(values: dict[str, Any]) -> dict[str, Any]:
        return {k: tables(v) if isinstance(v, dict) else v for k, v in values.items() if v is not None}

    text = tomli_w.dumps({"stage": stage, **tables(config.model_dump(mode="json"))})
    if not origins:
        return text
    lines, table = [], ""
    for line in text.splitlines():
        if line.startswith("["):
            table = line.strip("[]") + "."
        name = line.partition(" = ")[0]
        origin = origins.get(table + name) if " = " in line and not line.startswith(" ") else None
        lines.append(f"{line}  # {origin}" if origin and not line.endswith("[") else line)
    return "\n".join(lines) + "\n"
