"""Zero-shot classification: by hand, from embeddings, on prepared data, on sets' own files, beside CLIP_benchmark."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from mmkd_cli.benches.class_names import templates
from mmkd_cli.benches.runner import file_hashes, open_bench
from mmkd_cli.benches.zeroshot_classification import class_vectors
from mmkd_cli.core.contracts import BenchInput, Scores
from mmkd_cli.core.errors import UserError
from mmkd_cli.reports.blocks import Query
from mmkd_cli.students.dual_encoders import open_dual_encoder
from tests.benches.bench_files import png
from tests.benches.small_data import ChosenModel, ChosenTargets
from tests.benches.test_class_files import cifar10
from tests.contracts.tiny_teachers import TINY

NAME = {"name": "zeroshot-classification"}


def scored(bench: dict[str, Any], **given: Any) -> Scores:
    found = open_bench({**NAME, **bench}).run(BenchInput(**given))
    found.items = list(found.items)
    return found


class LabelledData:
    """Pictures of number i with label i // 2 of classes "0 1", "2 3"...: each class's prompt is near both."""

    def __init__(self, pictures: int = 8, bad: tuple[int, ...] = ()) -> None:
        self.bad = bad
        names = [f"{2 * c} {2 * c + 1}" for c in range(pictures // 2)]
        features = datasets.Features({"image_id": datasets.Value("string"), "image": datasets.Image(),
                                      "label": datasets.ClassLabel(names=names)})  # fmt: skip
        self.images = datasets.Dataset.from_dict(
            {
                "image_id": [f"p{i}" for i in range(pictures)],
                "image": [None if i in bad else {"bytes": png((10 * i, 0, 0)), "path": None} for i in range(pictures)],
                "label": [i // 2 for i in range(pictures)],
            },
            features=features,
        )

    def table(self, name: str, split: str) -> datasets.Dataset:
        assert (name, split) == ("images", "val")
        return self.images

    def rejected(self, split: str, table: str) -> np.ndarray:
        return np.array(self.bad, dtype=np.int64)


def plain_template(folder: Path) -> str:
    (folder / "t.txt").write_text("{c}\n")
    return str(folder / "t.txt")


def test_by_hand_from_embeddings() -> None:
    """Class 0 is the mean of two templates; picture 1 ties between classes 1 and 2, which is wrong."""
    text = np.array([[[1, 0, 0, 0], [0, 1, 0, 0]], [[0, 0, 1, 0]] * 2, [[0, 0, 1, 0]] * 2], np.float32)
    image = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]], np.float32)
    found = scored({"seed": 1}, embeddings={"image": image, "text": text, "label": np.array([0, 1, 1])})
    assert found.metrics == {"acc1": pytest.approx(100 / 3), "mean_per_class_recall": 50.0}  # three classes: no acc5
    assert [item["rank"] for item in found.items] == [1, 2, 3]
    assert found.items[0]["top"][0] == {"class": "class 0", "score": pytest.approx(1.0)}
    assert found.by["class 1: class 1"] == {"recall": 0.0, "items": 2}
    assert found.by["chance"] == {"acc1": pytest.approx(100 / 3), "mean_per_class_recall": pytest.approx(100 / 3)}
    assert found.items[2]["group"] == {"mean_per_class_recall": "class 1"}


def test_equals_loops_over_random_embeddings() -> None:
    rng = np.random.default_rng(0)
    image, text = rng.standard_normal((300, 12)), rng.standard_normal((9, 4, 12))
    label = rng.integers(0, 9, 300)
    found = scored({}, embeddings={"image": image, "text": text, "label": label})
    weights = []
    for prompts in text:
        mean = np.mean([p / np.linalg.norm(p) for p in prompts], axis=0)
        weights.append(mean / np.linalg.norm(mean))
    order = [np.argsort([-(i @ w) for w in weights]) for i in image]
    hits1 = [o[0] == y for o, y in zip(order, label, strict=True)]
    expected = {
        "acc1": 100 * np.mean(hits1),
        "acc5": 100 * np.mean([y in o[:5] for o, y in zip(order, label, strict=True)]),
        "mean_per_class_recall": 100
        * np.mean([np.mean([h for h, y in zip(hits1, label, strict=True) if y == c]) for c in range(9)]),
    }
    assert found.metrics == pytest.approx(expected)
    for name, (low, high) in found.intervals.items():
        assert low < found.metrics[name] < high


def test_prepared_class_folders(tmp_path: Path) -> None:
    config = {"template_file": plain_template(tmp_path)}
    found = scored(config, model=ChosenModel(), data=LabelledData(), split="val", batch_size=3)
    assert found.metrics["acc1"] == 100.0
    assert found.counts == {"items": 8, "skipped": 0, "classes": 4}
    assert found.items[2]["id"] == "p2" and found.items[2]["label"] == "2 3"
    assert all(query.asked.picture for query in found.page if isinstance(query, Query))
    holed = scored(config, model=ChosenModel(), data=LabelledData(bad=(1, 4)), split="val")
    assert holed.counts["items"] == 6 and holed.counts["skipped"] == 2
    assert [item["id"] for item in holed.items] == ["p0", "p2", "p3", "p5", "p6", "p7"]
    kept = {item["id"]: item["rank"] for item in found.items}
    assert all(kept[item["id"]] == item["rank"] for item in holed.items)


def test_a_cached_signal_takes_the_place_of_pictures(tmp_path: Path) -> None:
    signal = torch.eye(16)[torch.arange(8) // 2 * 2]
    model, targets = ChosenModel(image_signal="image_cls"), ChosenTargets(signal)
    given = {"model": model, "data": LabelledData(bad=(3,)), "split": "val", "targets": lambda split: targets}
    found = scored({"template_file": plain_template(tmp_path)}, **given)
    assert found.metrics["acc1"] == 100.0 and targets.gathered == [0, 1, 2, 4, 5, 6, 7]


def test_names_and_templates_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('{"0 1": "1", "2 3": "3", "4 5": "5", "6 7": "7"}')
    config = {"template_file": plain_template(tmp_path), "classes": str(tmp_path / "names.json")}
    found = scored(config, model=ChosenModel(), data=LabelledData(), split="val")
    # A class's prompt is now its second picture alone: the first picture of each class is near no prompt, a tie.
    assert found.metrics["acc1"] == 50.0 and [item["rank"] for item in found.items] == [4, 1] * 4
    assert set(file_hashes(open_bench({**NAME, **config}))) == {"classes", "template_file"}


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    class Unlabelled(LabelledData):
        artifact = type("Artifact", (), {"label": "data 'captions'"})()

        def table(self, name: str, split: str) -> datasets.Dataset:
            return self.images.remove_columns("label")

    with pytest.raises(UserError, match=r"data 'captions' has no classes: prepare class folders"):
        scored({}, model=ChosenModel(), data=Unlabelled(), split="val")
    with pytest.raises(UserError, match=r"set 'cifer10' has no templates here \(did you mean 'cifar10'"):
        scored({"set": "cifer10"}, model=ChosenModel(), data=LabelledData(), split="val")
    with pytest.raises(UserError, match="--embeddings takes the place of --images"):
        scored({"images": str(tmp_path)}, embeddings={})
    arrays = {"image": np.ones((2, 3)), "text": np.ones((4, 3)), "label": np.array([0, 4])}
    with pytest.raises(UserError, match="label holds 0 to 4, text has 4 classes"):
        scored({}, embeddings=arrays)
    with pytest.raises(UserError, match="image is 3 wide, text 5"):
        scored({}, embeddings={**arrays, "text": np.ones((4, 2, 5))})


def test_class_vectors_are_normalised_twice() -> None:
    prompts = torch.nn.functional.normalize(torch.randn(3, 5, 7), dim=-1)
    expected = torch.stack([p.mean(0) / p.mean(0).norm() for p in prompts])
    torch.testing.assert_close(class_vectors(prompts), expected)


def accuracy(logits: torch.Tensor, target: torch.Tensor, topk: tuple[int, ...]) -> list[float]:
    """CLIP_benchmark's, whose last step numpy 2.4 refuses (a float of an array with one number)."""
    return [(logits.topk(k).indices == target[:, None]).any(dim=1).double().mean().item() for k in topk]


def test_cifar10_equals_clip_benchmark_to_the_last_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random open_clip checkpoint on pictures in CIFAR-10's layout, through both."""
    peer = pytest.importorskip("clip_benchmark.metrics.zeroshot_classification", reason="clip-benchmark is absent")
    monkeypatch.setattr(peer, "accuracy", accuracy)
    pixels = cifar10(tmp_path, 120)
    names = [f"{word} thing" for word in ("red", "old", "tall", "wet", "dry", "odd", "sly", "big", "new", "far")]
    place = tmp_path / "cifar-10-batches-py"
    labels = np.random.default_rng(1).integers(0, 10, 120).tolist()
    data = pixels.transpose(0, 3, 1, 2).reshape(120, -1)
    (place / "test_batch").write_bytes(pickle.dumps({"data": data, "labels": labels}))
    (place / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    TINY["clip open_clip"](tmp_path, 0)
    model = open_dual_encoder(f"open_clip:local-dir:{tmp_path}", root=tmp_path)
    found = scored({"set": "cifar10", "images": str(tmp_path), "bootstrap": 0}, model=model, batch_size=50)

    reference, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    loader = torch.utils.data.DataLoader(
        Pictures([(preprocess(Image.fromarray(p)), y) for p, y in zip(pixels, labels, strict=True)], names),
        batch_size=32,
    )
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    expected = peer.evaluate(reference.eval(), loader, tokenizer, names, templates("cifar10"), "cpu", amp=False)
    assert found.metrics == pytest.approx({name: 100 * value for name, value in expected.items()}, abs=1e-9)
    classifier = peer.zero_shot_classifier(reference, tokenizer, names, templates("cifar10"), "cpu", amp=False)
    logits, target = peer.run_classification(reference, classifier, loader, "cpu", amp=False)
    assert target.tolist() == labels
    ranks = 1 + (logits > logits.gather(1, target[:, None])).sum(dim=1)
    assert [item["rank"] for item in found.items] == ranks.tolist()
    assert [item["top"][0]["class"] for item in found.items] == [names[c] for c in logits.argmax(dim=1).tolist()]


class Pictures(torch.utils.data.Dataset):
    def __init__(self, rows: list[tuple[torch.Tensor, int]], classes: list[str]) -> None:
        self.rows, self.classes = rows, classes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.rows[index]
