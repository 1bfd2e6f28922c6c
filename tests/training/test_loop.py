"""The loop as a whole: resumption, checkpoints, what is not finite, validation, schedules."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open

from mmkd_cli.core.contracts import Feed
from mmkd_cli.core.errors import Interrupted, Refused, UserError
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.loop import Trained, train
from tests.training.linear_student import ArrayFeed, LinearStudent

CPU = torch.device("cpu")


def config(**keys: Any) -> TrainConfig:
    return TrainConfig(
        **{"batch_size": 16, "epochs": 3, "peak_lr": 0.01, "checkpoint_every": 5, "log_every": 3, **keys}
    )


def student(**keys: Any) -> LinearStudent:
    feeds = (ArrayFeed("a", 64), ArrayFeed("b", 48))
    return LinearStudent(**{"feeds": feeds, "validation": (ArrayFeed("v", 30),), "dropout": 0.2, **keys})


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(trainable: LinearStudent) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainable.model.state_dict().items()}


class Crash(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("micro", [None, 6])
def test_resumed_training_ends_with_the_same_bits(tmp_path: Path, optimizer: str, micro: int | None) -> None:
    settings = config(optimizer=optimizer, micro_batch_size=micro, clip_norm=1.0)
    undisturbed = student()
    done = train(undisturbed, settings, tmp_path / "whole", device=CPU)
    assert isinstance(done, Trained)
    assert done.steps == 21

    for crash_at in (0, 3, 6, 11, 18):
        broken = student()
        update = broken.after_step

        def crash(step: int, gathered: Any, crash_at: int = crash_at, update: Any = update) -> None:
            if step == crash_at:
                raise Crash
            update(step, gathered)

        broken.after_step = crash  # type: ignore[method-assign]
        with pytest.raises(Crash):
            train(broken, settings, tmp_path / "broken", device=CPU)
    resumed = student()
    train(resumed, settings, tmp_path / "broken", device=CPU)
    assert (tmp_path / "broken/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()
    for name, value in weights(undisturbed).items():
        torch.testing.assert_close(weights(resumed)[name], value, rtol=0, atol=0)


def test_the_best_validations_weights_are_kept_also_after_a_kill(tmp_path: Path) -> None:
    """A number that is least in the middle; by hand: the weights after every step, and which were these."""
    settings = config(peak_lr=2.0, schedule="constant", validate_every=2, keep="min:val/cosine")
    seen: dict[int, dict[str, torch.Tensor]] = {}

    def noting(trainable: LinearStudent, crash_at: int | None = None) -> LinearStudent:
        update = trainable.after_step

        def after_step(step: int, gathered: Any) -> None:
            update(step, gathered)
            if step == crash_at:
                raise Crash
            seen[step + 1] = weights(trainable)

        trainable.after_step = after_step  # type: ignore[method-assign]
        return trainable

    trained = noting(student())
    done = train(trained, settings, tmp_path / "whole", device=CPU)
    found = {line["step"]: line["val/cosine"] for line in lines(tmp_path / "whole") if "val/cosine" in line}
    best = min(found, key=found.__getitem__)
    assert max(found) == 21 > best > min(found) and done.kept == {"step": best, "val/cosine": found[best]}
    for name, value in seen[best].items():
        torch.testing.assert_close(weights(trained)[name], value, rtol=0, atol=0)
    assert len(list((tmp_path / "whole/checkpoints").glob("best-*"))) == 2

    for crash_at in (2, 9, 20):
        with pytest.raises(Crash):
            train(noting(student(), crash_at), settings, tmp_path / "broken", device=CPU)
    resumed = student()
    assert train(resumed, settings, tmp_path / "broken", device=CPU).kept == done.kept
    for name, value in weights(trained).items():
        torch.testing.assert_close(weights(resumed)[name], value, rtol=0, atol=0)


def test_what_can_not_decide_which_weights_are_best_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'val/los' \(did you mean 'val/loss'\?\)"):
        train(student(), config(keep="min:val/los"), tmp_path / "a", device=CPU)
    with pytest.raises(UserError, match="needs a validation"):
        train(student(), config(keep="max:val/loss", validation=False), tmp_path / "b", device=CPU)


def test_a_finished_run_trains_no_further(tmp_path: Path) -> None:
    train(student(), config(), tmp_path, device=CPU)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    again = student()
    again.after_step = lambda step, gathered: pytest.fail("a step was trained")  # type: ignore[method-assign]
    train(again, config(), tmp_path, device=CPU)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("keys", [{}, {"on_nan": "skip"}])
def test_a_run_killed_after_its_last_step_still_knows_that_steps_numbers(tmp_path: Path, keys: dict[str, Any]) -> None:
    feeds = (ArrayFeed("sick", 64, nan_row=13 if keys else -1),)
    done = train(student(feeds=feeds), config(**keys), tmp_path, device=CPU)
    again = train(student(feeds=feeds), config(**keys), tmp_path, device=CPU)
    assert done.last == again.last and {"loss", "image_loss", "contrastive_loss", "cosine"} <= again.last.keys()


def test_ways_of_working_change_no_number(tmp_path: Path) -> None:
    train(student(), config(), tmp_path / "a", device=CPU)
    other = config(log_every=1, checkpoint_every=1000, checkpoints_kept=1)
    train(student(), other, tmp_path / "b", device=CPU, workers=1)
    assert (tmp_path / "a/metrics.jsonl").read_bytes() == (tmp_path / "b/metrics.jsonl").read_bytes()
    assert len(list((tmp_path / "a/checkpoints").glob("*.safetensors"))) == 2
    assert len(list((tmp_path / "b/checkpoints").glob("*.safetensors"))) == 1


def test_checkpoints_are_safetensors_and_json(tmp_path: Path) -> None:
    trained = student()
    train(trained, config(), tmp_path, device=CPU)
    files = sorted((tmp_path / "checkpoints").iterdir())
    assert [f.name for f in files] == [
        "step-00000020.json", "step-00000020.safetensors", "step-00000021.json", "step-00000021.safetensors"
    ]  # fmt: skip
    with safe_open(files[-1], "pt") as checkpoint:
        names = set(checkpoint.keys())
    assert {"model.image.0.weight", "model.average", "optimizer.0.exp_avg", "optimizer.0.step"} <= names
    assert not {"model.text.3.weight", "model.tied.weight"} <= names, "tied parameters are stored once"
    record = json.loads(files[-2].read_text())
    assert record["step"] == 21
    assert record["metrics_bytes"] == (tmp_path / "metrics.jsonl").stat().st_size


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(student(), config(), tmp_path / "whole", device=CPU)
    train(student(), config(), tmp_path / "hurt", device=CPU)
    newest = tmp_path / "hurt/checkpoints/step-00000021.safetensors"
    data = bytearray(newest.read_bytes())
    data[-5] ^= 1
    newest.write_bytes(data)
    train(student(), config(), tmp_path / "hurt", device=CPU)
    assert "step-00000021.safetensors is damaged" in capsys.readouterr().err
    assert (tmp_path / "hurt/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()


def test_checkpoints_that_are_there_count_as_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = student()
    train(trained, config(), tmp_path / "old", device=CPU)
    model_bytes = sum(
        value.nbytes for value in {id(v): v for v in trained.model.state_dict(keep_vars=True).values()}.values()
    )
    checkpoint_bytes = model_bytes + 2 * sum(p.nbytes for p in trained.model.parameters())
    free = checkpoint_bytes + model_bytes  # one more of the former, and the model
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    train(student(), config(), tmp_path / "old", device=CPU)
    with pytest.raises(
        UserError, match=f"needs about {free + 2 * checkpoint_bytes:,} more: free {2 * checkpoint_bytes:,} "
    ):
        train(student(), config(), tmp_path / "new", device=CPU)
    free -= 1
    with pytest.raises(UserError, match="free 1 bytes"):
        train(student(), config(), tmp_path / "old", device=CPU)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    train(student(), config(), tmp_path, device=CPU)
    other = student()
    other.model.more = torch.nn.Linear(2, 2)
    with pytest.raises(Refused, match=r"differ in 2 tensors, first more.bias"):
        train(other, config(), tmp_path, device=CPU)


def test_nan_stops_with_step_part_and_rows(tmp_path: Path) -> None:
    feeds = (ArrayFeed("sick", 64, nan_row=13),)
    with pytest.raises(UserError) as error:
        train(student(feeds=feeds, contrastive=False), config(), tmp_path, device=CPU)
    message = str(error.value)
    assert "_loss is nan" in message
    assert "'sick' rows " in message
    assert "(16 in all)" in message
    assert "--on-nan skip" in message
    step = int(message.split()[1].rstrip(":"))
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, step))
    assert not list((tmp_path / "checkpoints").glob(f"step-{step:08d}*"))


def test_nan_can_be_skipped_and_is_counted(tmp_path: Path) -> None:
    feeds = (ArrayFeed("sick", 64, nan_row=13),)
    trained = student(feeds=feeds)
    done = train(trained, config(on_nan="skip"), tmp_path, device=CPU)
    steps = [line for line in lines(tmp_path) if "loss" in line or "skipped" in line]
    assert done.skipped == 3, "the row comes once in each of three epochs"
    assert sum("skipped" in line for line in steps) == 3
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert all(value.isfinite().all() for value in weights(trained).values())


def test_sigterm_finishes_the_step_and_writes_a_checkpoint(tmp_path: Path) -> None:
    stopped = student()
    update = stopped.after_step

    def terminate(step: int, gathered: Any) -> None:
        update(step, gathered)
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped.after_step = terminate  # type: ignore[method-assign]
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="stopped after step 7 of 21"):
        train(stopped, config(), tmp_path / "stopped", device=CPU)
    assert signal.getsignal(signal.SIGTERM) is before
    assert (tmp_path / "stopped/checkpoints/step-00000007.json").exists()
    train(student(), config(), tmp_path / "stopped", device=CPU)
    train(student(), config(), tmp_path / "whole", device=CPU)
    assert (tmp_path / "stopped/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()


def test_validation_is_the_mean_over_all_rows(tmp_path: Path) -> None:
    trained = student(contrastive=False)
    train(trained, config(max_steps=4), tmp_path / "a", device=CPU)
    said = next(line for line in lines(tmp_path / "a") if "val/loss" in line)
    feed = trained.validation[0]
    with torch.no_grad():
        trained.model.eval()
        import numpy as np

        from mmkd_cli.core.contracts import Position

        out = trained.forward(feed.load(np.arange(30), Position(0, 0, 0)))
    for name, values in out.row_losses.items():
        assert said[f"val/{name}"] == pytest.approx(float(values.mean()), rel=1e-6)
    assert said["val/loss"] == pytest.approx(sum(float(v.mean()) for v in out.row_losses.values()), rel=1e-6)
    train(student(), config(max_steps=7, validate_every=2), tmp_path / "b", device=CPU)
    assert [line["step"] for line in lines(tmp_path / "b") if "val/loss" in line] == [2, 4, 6]


def test_validation_feeds_have_a_name_each() -> None:
    """The feed's own where that tells them apart, and where two streams read one data set the stream's before it."""
    from mmkd_cli.training.validation import Validation

    def names(*feeds: Feed) -> set[str]:
        found = Validation(student(validation=feeds, dropout=0.0), config(), CPU, "float32", workers=0)()
        return {name.removesuffix("/loss") for name in found if name.endswith("/loss")}

    assert names(ArrayFeed("v", 30), ArrayFeed("w", 20)) == {"val/v", "val/w"}
    same = (ArrayFeed("v", 30, stream="pairs"), ArrayFeed("v", 20, stream="text"))
    assert names(*same) == {"val/pairs/v", "val/text/v"}


def test_validation_where_there_is_no_float64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On MPS a float64 tensor is an error: none is made on the device, and the means are the same."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from mmkd_cli.training import validation
    from mmkd_cli.training.devices import widest_float

    class NoFloat64(TorchDispatchMode):
        def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = op(*args, **(kwargs or {}))
            assert getattr(out, "dtype", None) != torch.float64, op
            return out

    run = validation.Validation(student(), config(), CPU, "float32", workers=0)
    expected = run()
    monkeypatch.setattr(validation, "widest_float", lambda device: widest_float(torch.device("mps")))
    loaded = [*validation.shares(validation.InOrder(run._trainable.validation[0], 16), run._trainable.validation,
                                 range(2), workers=0)]  # fmt: skip
    monkeypatch.setattr(validation, "shares", lambda *args, **keys: loaded)  # the test's rows are made of float64
    with NoFloat64():
        found = run()
    assert found == pytest.approx(expected, rel=1e-5)
    assert widest_float(CPU) == torch.float64


def test_the_bench_runs_after_each_epoch_and_only_once(tmp_path: Path) -> None:
    epochs: list[int] = []

    def bench(epoch: int) -> dict[str, float]:
        epochs.append(epoch)
        if len(epochs) == 2:
            raise Crash
        return {"recall": float(epoch)}

    with pytest.raises(Crash):
        train(student(), config(), tmp_path, device=CPU, evaluate=bench)
    train(student(), config(), tmp_path, device=CPU, evaluate=bench)
    assert epochs == [1, 2, 2, 3]
    said = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    assert said == [{"step": 7 * e, "recall": float(e)} for e in (1, 2, 3)]


@pytest.mark.parametrize("end", ['{"step": 21, "recall": 3.0}', '{"step": 2', '{"step"\n', "\0\0\0"])
def test_a_torn_last_line_of_the_bench_is_measured_again(tmp_path: Path, end: str) -> None:
    train(student(), config(), tmp_path, device=CPU, evaluate=lambda epoch: {"recall": float(epoch)})
    path = tmp_path / "evaluations.jsonl"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:-1]) + end)
    train(student(), config(), tmp_path, device=CPU, evaluate=lambda epoch: {"recall": float(epoch)})
    assert path.read_text() == whole


def test_the_log_is_on_the_disk_before_a_record_counts_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, synced = os.fsync, []

    def noting(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        sync(handle)

    monkeypatch.setattr(os, "fsync", noting)
    train(student(), config(epochs=1), tmp_path, device=CPU)
    order = ["log" if name == "metrics.jsonl" else "record" for name in synced if ".json" in name]
    assert order == ["log", "record"] * 2  # after the steps 5 and 7


def test_gradient_checkpointing_is_switched_on_where_a_module_offers_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Towers has no gradient checkpointing"):
        train(student(), config(gradient_checkpointing=True, max_steps=1), tmp_path, device=CPU)
    trained = student()
    asked: list[bool] = []
    trained.model.text.set_grad_checkpointing = lambda: asked.append(True)
    train(trained, config(gradient_checkpointing=True, max_steps=1), tmp_path, device=CPU)
    assert asked == [True]


def test_a_tracker_has_the_numbers_of_the_log(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(student(), config(track="tensorboard"), tmp_path, device=CPU)
    events = EventAccumulator(str(tmp_path / "tracking"))
    events.Reload()
    for name in ("loss", "val/loss"):
        logged = {event.step: event.value for event in events.Scalars(name)}
        expected = {line["step"]: line[name] for line in lines(tmp_path) if name in line}
        assert logged == pytest.approx(expected, rel=1e-6)
    assert max(event.step for event in events.Scalars("loss")) == 21
