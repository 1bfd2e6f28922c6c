from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from mmkd_cli.cli.app import app
from tests.cli.golden import lines

HEAVY = ("torch", "transformers", "open_clip", "diffusers", "datasets", "timm", "evaluate")


def test_the_command_line_is_the_one_on_record() -> None:
    assert lines() == (Path(__file__).parent / "command_line.txt").read_text().splitlines()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['mmkd', '--help']\n"
        "from mmkd_cli.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp is Linux's")
@pytest.mark.parametrize(
    ("given", "spins"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "30000000000")]
)
def test_idle_threads_leave_the_cores_to_others(mmkd, given: dict[str, str], spins: str) -> None:
    """As libgomp itself says what it was told; what a user sets stands."""
    said = mmkd("doctor", env={**given, "OMP_DISPLAY_ENV": "VERBOSE", "OMP_NUM_THREADS": "1"}, fresh=True).stderr
    assert f"GOMP_SPINCOUNT = '{spins}'" in said


@pytest.mark.parametrize("name", sorted(get_command(app).commands))
def test_every_command_has_an_example(name: str) -> None:
    assert "Example: mmkd" in (get_command(app).commands[name].help or "")


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["distil"], 2, "distill"),
        (["show", "nothing"], 2, "artifact 'nothing' is not in"),
        (["list", "techers"], 2, "did you mean 'teachers'"),
        (["list", "teachers", "biet2"], 2, "did you mean 'beit2'"),
        (["cache-teacher", "--shard", "2/2"], 2, "is not K/N"),
        (["distill", "--set", "train.max_stpes=3"], 2, "did you mean 'train.max_steps'"),
        (["distill", "--set", "peak_lr=1"], 2, "did you mean 'train.peak_lr'"),
        (["distill"], 2, "--method is needed: name one of cls-regression"),
        (["evaluate"], 2, "--bench is needed: name one of alignment, "),
        (["cache-teacher", "--weights", "w.pt"], 2, "--teacher is needed: name one of bart, beit2, "),
        (["prepare-data", "--annotations", "p.csv"], 2, "--source is needed: name one of cifar10, cifar100, "),
        (["prepare-data", "--source", "image-text"], 2, "key 'source.annotations' (CSV, TSV or JSONL; "),
        (["distill", "--config", "nowhere.toml"], 2, "is not there"),
        (["distill", "--method", "cls-regresion"], 2, "did you mean 'cls-regression'"),
        (["prepare-data", "--source", "scene"], 2, "did you mean 'scenes'"),
        (["prepare-data", "--preset", "demo", "--name", "../evil"], 2, "name '../evil' can't be used"),
        (["prepare-data", "--preset", "demo", "--name", "../runs/s", "--dry-run"], 2, "can't be used"),
    ],
)
def test_a_mistake_is_one_line_on_stderr(mmkd, args: list[str], code: int, said: str) -> None:
    done = mmkd(*args, code=code)
    assert said in done.stderr and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("raised", "code", "first", "last"),
    [
        ("RuntimeError('a bug')", 1, "mmkd: this is a failure of mmkd: please report it", "RuntimeError: a bug"),
        ("KeyboardInterrupt", 130, "mmkd: interrupted: the same command goes on", "goes on where it stopped"),
        ("Interrupted('stopped after step 3')", 130, "mmkd: stopped after step 3", "mmkd: stopped after step 3"),
    ],
)
def test_our_failure_and_an_interruption_have_their_own_codes(
    tmp_path: Path, raised: str, code: int, first: str, last: str
) -> None:
    script = (
        "import sys; sys.argv = ['mmkd', 'prepare-data', '--preset', 'demo']\n"
        "from mmkd_cli.__main__ import main\n"
        "from mmkd_cli.core.errors import Interrupted\n"
        "from mmkd_cli.stages import prepare_data\n"
        f"def run(config, context): raise {raised}\n"
        "prepare_data.run = run\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == code and done.stdout == ""
    assert lines[0].startswith(first) and lines[-1].endswith(last)
    assert any("Traceback" in line for line in lines) == (code == 1)


def test_names_are_listed_whole(mmkd) -> None:
    name = "a-name-of-some-length-" * 5 + "end"
    small = [word for split in ("train", "val", "test") for word in ("--set", f"source.{split}=2")]
    mmkd("prepare-data", "--preset", "demo", "--name", name, *small)
    assert name in mmkd("ls", env={"COLUMNS": "60"}).stdout
    assert "tables: train (images 2, texts 10, questions 10), val (" in mmkd("show", name).stdout


def test_list_shows_keys_with_their_sources(mmkd) -> None:
    assert "beit2" in mmkd("list", "teachers").stdout
    assert "[U]" in mmkd("list", "stages", "cache-teacher").stdout


def test_a_config_of_another_stage_is_refused(mmkd, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('stage = "distill"\n')
    assert "is for the stage 'distill'" in mmkd("evaluate", "--config", tmp_path / "c.toml", code=2).stderr


def test_doctor_says_versions_devices_and_disk(mmkd) -> None:
    said = mmkd("doctor").stdout
    assert all(word in said for word in ("torch", "cpu", "java", "free"))
