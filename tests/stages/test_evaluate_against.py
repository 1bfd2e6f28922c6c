"""`evaluate --against`: McNemar, paired intervals and changed items of two results; what can't be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmkd_cli.core.errors import UserError
from mmkd_cli.metrics.mcnemar import mcnemar_p
from mmkd_cli.stages import evaluate
from tests.benches.bench_files import winoground_folder, winoground_rows
from tests.stages.small_chain import config_of, context


def saved(folder: Path, seed: int, items: int = 30) -> Path:
    rng = np.random.default_rng(seed)
    file = folder / f"w{seed}.npz"
    np.savez(file, image=rng.standard_normal((2 * items, 4)), text=rng.standard_normal((2 * items, 4)))
    return file


def evaluated(root: Path, name: str, bench: str, **keys: Any) -> dict[str, Any]:
    return evaluate.run(config_of(evaluate, bench__name=bench, bench__bootstrap=0, **keys), context(root, name))


def lines(root: Path, name: str) -> dict[str, dict[str, Any]]:
    rows = map(json.loads, (root / "results" / name / "predictions.jsonl").read_text().splitlines())
    return {row["id"]: row for row in rows}


def test_winoground_against_another_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "work"
    first = evaluated(root, "first", "winoground", embeddings=str(saved(tmp_path, 0)))
    second = evaluated(root, "second", "winoground", embeddings=str(saved(tmp_path, 1)), against="first")
    found = second["against"]
    assert (
        found["result"] == "first"
        and found["model"] == "w0.npz"
        and list(found["metrics"]) == ["text", "image", "group"]
    )
    now, then = lines(root, "second"), lines(root, "first")
    for metric, of in found["metrics"].items():
        gained = [i for i in now if now[i]["right"][metric] and not then[i]["right"][metric]]
        lost = [i for i in now if then[i]["right"][metric] and not now[i]["right"][metric]]
        assert (of["gained"], of["lost"]) == (len(gained), len(lost)) and of["items"] == 30
        assert of["mcnemar_p"] == mcnemar_p(len(gained), len(lost))
        assert of["value"] == pytest.approx(second["metrics"][metric])
        assert of["other"] == pytest.approx(first["metrics"][metric])
        assert of["difference"] == pytest.approx(100 * (len(gained) - len(lost)) / 30)
        assert of["interval"][0] <= of["difference"] <= of["interval"][1]
        assert [i["id"] for i in found["changed"] if metric in i["gained"]] == gained
        assert [i["id"] for i in found["changed"] if metric in i["lost"]] == lost
    said = capsys.readouterr().err
    assert "McNemar's p" in said and "gained: " in said
    kept = json.loads((root / "results" / "second" / "scores.json").read_text())
    assert "against" not in kept  # the result is its own; a rerun with another one is the same request
    again = evaluated(root, "second", "winoground", embeddings=str(saved(tmp_path, 1)), against="second")["against"]
    assert again["changed"] == [] and all(of["mcnemar_p"] == 1.0 for of in again["metrics"].values())
    assert all(of["interval"] == [0.0, 0.0] for of in again["metrics"].values())


def test_macro_accuracies_differ_as_their_values_do(tmp_path: Path) -> None:
    root, label = tmp_path / "work", np.arange(40) % 4 * (np.arange(40) % 3 > 0)
    documents = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        np.savez(tmp_path / "c.npz", image=rng.standard_normal((40, 6)), text=rng.standard_normal((5, 6)), label=label)
        more = {"against": "c0"} if seed else {}
        bench = "zeroshot-classification"
        documents.append(evaluated(root, f"c{seed}", bench, embeddings=str(tmp_path / "c.npz"), **more))
    for name, of in documents[1]["against"]["metrics"].items():
        assert of["value"] == pytest.approx(documents[1]["metrics"][name])
        assert of["difference"] == pytest.approx(documents[1]["metrics"][name] - documents[0]["metrics"][name])


def test_retrieval_can_be_compared(tmp_path: Path) -> None:
    root = tmp_path / "work"
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        np.savez(tmp_path / f"r{seed}.npz", image=rng.standard_normal((12, 6)), text=rng.standard_normal((24, 6)),
                 text_image=np.arange(24) // 2)  # fmt: skip
    first = evaluated(root, "r0", "retrieval", embeddings=str(tmp_path / "r0.npz"))
    second = evaluated(root, "r1", "retrieval", embeddings=str(tmp_path / "r1.npz"), against="r0")
    recalls = [name for name in first["metrics"] if "recall@" in name]
    assert list(second["against"]["metrics"]) == recalls
    for name in recalls:
        of = second["against"]["metrics"][name]
        assert of["difference"] == pytest.approx(second["metrics"][name] - first["metrics"][name])
        assert of["items"] == (12 if name.startswith("image") else 24)


def test_what_can_not_be_compared(tmp_path: Path) -> None:
    root = tmp_path / "work"
    evaluated(root, "few", "winoground", embeddings=str(saved(tmp_path, 2, 3)))
    with pytest.raises(
        UserError, match=r"--against few: 27 items are in one of the two results only, the first is '10'"
    ):
        evaluated(root, "many", "winoground", embeddings=str(saved(tmp_path, 0)), against="few")
    with pytest.raises(UserError, match=r"result 'fww' is not in .*did you mean 'few'"):
        evaluated(root, "many", "winoground", embeddings=str(saved(tmp_path, 0)), against="fww")
    np.savez(tmp_path / "s.npz", **{"add_att.image": np.ones((3, 2)), "add_att.text": np.ones((3, 2, 2))})
    with pytest.raises(UserError, match="--against few: it is of bench 'winoground', this one of 'sugarcrepe'"):
        evaluated(root, "crepe", "sugarcrepe", embeddings=str(tmp_path / "s.npz"), against="few")
    folder = winoground_folder(tmp_path / "wino")
    keys = {"embeddings": str(saved(tmp_path, 2, 3)), "bench__annotations": str(folder)}
    evaluated(root, "named", "winoground", **keys)
    rows = winoground_rows()
    rows[0]["caption_0"] = "another caption"
    (folder / "data" / "examples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=r"--against named: its items are others \(annotations differ\)"):
        evaluated(root, "renamed", "winoground", against="named", **keys)
