from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkd_cli.core import config
from mmkd_cli.core.config import Config, Layer, StageConfig, key, parse_set
from mmkd_cli.core.errors import UserError


class Table(Config):
    rows: int = key(3, "rows", source="[U] three")
    path: str | None = key(None, "a path", identity=False)
    late: bool = key(False, "added later", absent=False)


class Stage(StageConfig):
    seed: int = key(1, "seed")
    table: Table = key(Table(), "a table")


def test_later_layers_override_and_origins_say_so() -> None:
    layers = [Layer("file.toml", {"seed": 2, "table": {"rows": 4}}), Layer("--set", {"table": {"rows": 5}})]
    resolved = config.resolve(Stage, layers)
    assert (resolved.config.seed, resolved.config.table.rows) == (2, 5)
    assert resolved.origins == {
        "seed": "file.toml",
        "table.rows": "--set",
        "table.path": "default",
        "table.late": "default",
    }


def test_identity_leaves_out_paths_and_late_keys_at_their_old_value() -> None:
    plain = config.resolve(Stage, []).config
    assert config.identity(plain) == {"seed": 1, "table": {"rows": 3}}
    there = config.resolve(Stage, [Layer("--set", {"table": {"path": "/x", "late": True}})]).config
    assert config.identity(there) == {"seed": 1, "table": {"rows": 3, "late": True}}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["table.rwos=3"], "'table.rwos' (--set) is not known (did you mean 'table.rows'?)"),
        (["rows=3"], "'rows' (--set) is not known (did you mean 'table.rows'?)"),
        (["table.zzz=3"], "'table.zzz' (--set) is not known (known: table.late, table.path, table.rows)"),
        (["table.rows=many"], "valid integer"),
        (["table"], "is not KEY=VALUE"),
        (["seed.x=1"], "seed"),
    ],
)
def test_mistakes_are_one_line_with_the_key(words: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        config.resolve(Stage, [Layer("--set", parse_set(words))])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_toml_round_trip_with_origins(tmp_path) -> None:
    resolved = config.resolve(Stage, [Layer("flag", {"table": {"rows": 7}})])
    path = tmp_path / "c.toml"
    path.write_text(config.to_toml(resolved.config, "distill", resolved.origins))
    assert "rows = 7  # flag" in path.read_text()
    values = config.read_toml(path)
    assert values.pop("stage") == "distill"
    assert config.resolve(Stage, [Layer("file", values)]).config == resolved.config


@given(st.one_of(st.integers(), st.booleans(), st.text(alphabet="abc/ -", min_size=1)))
def test_set_reads_toml_and_falls_back_to_text(value: int | bool | str) -> None:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    assert parse_set([f"a.b={text}"]) == {"a": {"b": value}}
