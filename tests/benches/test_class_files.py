"""Class names, templates and the sets' own pictures: CIFAR's two layouts, class folders, hostile pickles."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmkd_cli.benches.class_names import imagenet, names_from, sets, templates, templates_from
from mmkd_cli.benches.class_pictures import read_set, set_files
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources.cifar_files import cifar_files, read_names
from tests.benches.bench_files import png

NAMES = ["airplane", "automobile", "bird"]


def cifar10(folder: Path, rows: int = 5) -> np.ndarray:
    """The python layout as the authors wrote it (Python 2, protocol 2); the pictures [n, 32, 32, 3]."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8)
    batch = {"data": pixels.transpose(0, 3, 1, 2).reshape(rows, -1), "labels": [i % 3 for i in range(rows)],
             "batch_label": "testing batch 1 of 1"}  # fmt: skip
    (folder / "cifar-10-batches-py").mkdir(parents=True)
    (folder / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    (folder / "cifar-10-batches-py" / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}, protocol=2))
    return pixels


def test_cifar10_in_both_layouts(tmp_path: Path) -> None:
    pixels = cifar10(tmp_path / "py")
    place = tmp_path / "bin" / "cifar-10-batches-bin"
    place.mkdir(parents=True)
    planes = pixels.transpose(0, 3, 1, 2).reshape(5, -1)
    records = np.concatenate([np.array([[0], [1], [2], [0], [1]], np.uint8), planes], axis=1)
    (place / "test_batch.bin").write_bytes(records.tobytes())
    (place / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    for folder in (tmp_path / "py", tmp_path / "py" / "cifar-10-batches-py", tmp_path / "bin"):
        found = read_set(str(folder), "cifar10")
        assert found.labels.tolist() == [0, 1, 2, 0, 1] and list(found.classes) == NAMES
        for row, picture in enumerate(pixels):
            np.testing.assert_array_equal(np.asarray(found.pictures.picture(row)), picture)
        assert sorted(set_files(str(folder), "cifar10")) == ["class_names", "images"]


def test_cifar100_has_fine_labels(tmp_path: Path) -> None:
    data = np.zeros((2, 3072), np.uint8)
    (tmp_path / "cifar-100-python").mkdir()
    document = {"data": data, "fine_labels": [1, 0], "coarse_labels": [7, 8]}
    (tmp_path / "cifar-100-python" / "test").write_bytes(pickle.dumps(document))
    (tmp_path / "cifar-100-python" / "meta").write_bytes(pickle.dumps({"fine_label_names": ["apple", "bear"]}))
    found = read_set(str(tmp_path), "cifar100")
    assert found.labels.tolist() == [1, 0] and list(found.classes) == ["apple", "bear"]
    binary = tmp_path / "b" / "cifar-100-binary"
    binary.mkdir(parents=True)
    (binary / "test.bin").write_bytes(bytes([7, 1]) + bytes(3072) + bytes([8, 0]) + bytes(3072))
    (binary / "fine_label_names.txt").write_text("apple\nbear\n")
    assert read_set(str(tmp_path / "b"), "cifar100").labels.tolist() == [1, 0]


def test_a_pickle_that_runs_code_is_refused_by_name(tmp_path: Path) -> None:
    cifar10(tmp_path)
    evil = tmp_path / "cifar-10-batches-py" / "test_batch"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "ran").touch, ())

    evil.write_bytes(pickle.dumps({"data": Evil(), "labels": [0]}))
    with pytest.raises(UserError, match=r"test_batch can't be read as a CIFAR batch \(it names .*not run"):
        read_set(str(tmp_path), "cifar10")
    assert not (tmp_path / "ran").exists()


def test_an_array_whose_bytes_would_be_pointers_is_refused(tmp_path: Path) -> None:
    cifar10(tmp_path)
    hostile = tmp_path / "cifar-10-batches-py" / "test_batch"
    of_objects = b"cnumpy\ndtype\n(VO8\nK\x00K\x01tR(K\x03V|\nNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tVb\ntR(K\x01(K\x01t" + of_objects
             + b"I00\nVABCDEFGH\ntb")  # fmt: skip
    for stored in (array, b"c_codecs\nencode\n(" + array + b"Vlatin1\ntR"):
        hostile.write_bytes(b"\x80\x02}(Vdata\n" + stored + b"Vlabels\n](K\x00eu.")
        with pytest.raises(UserError, match=r"test_batch can't be read as a CIFAR batch \(it has an array of 'O8'"):
            read_set(str(tmp_path), "cifar10")


def test_a_batch_that_is_missing_is_named(tmp_path: Path) -> None:
    cifar10(tmp_path)
    folder = tmp_path / "cifar-10-batches-py"
    for number in (1, 2, 3, 5):
        (folder / f"data_batch_{number}").write_bytes((folder / "test_batch").read_bytes())
    with pytest.raises(UserError, match="data_batch_4 is not there, other files of train are"):
        cifar_files(tmp_path, "cifar10", "train")


def test_names_of_classes_are_read_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "batches.meta.txt"
    for content, said in ((b"cat\ncat\n", "names a class twice"), (b"\n", "no list of names")):
        file.write_bytes(content)
        with pytest.raises(UserError, match=said):
            read_names(file, "cifar10")
    file.write_bytes(b"cat\n\xff\n")
    assert read_names(file, "cifar10")[0] == "cat"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_cifar_batch_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    if not (tmp_path / "cifar-10-batches-py").exists():
        cifar10(tmp_path, 2)
    file = tmp_path / "cifar-10-batches-py" / "test_batch"
    good = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}
    kind = data.draw(st.sampled_from(["bytes", "labels", "data"]))
    if kind == "bytes":
        raw = bytearray(pickle.dumps(good))
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        file.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    elif kind == "labels":
        labels = data.draw(st.lists(st.integers(-2, 4) | st.text(max_size=2), max_size=3) | st.none())
        file.write_bytes(pickle.dumps({**good, "labels": labels}))
    else:
        shape = data.draw(st.sampled_from([(2, 3072), (0, 3072), (2, 5), (6144,), (2, 3072, 1)]))
        array = np.zeros(shape, data.draw(st.sampled_from([np.uint8, np.float32, object])))
        file.write_bytes(pickle.dumps({**good, "data": array}))
    try:
        found = read_set(str(tmp_path), "cifar10")
    except UserError as error:
        assert "test_batch" in str(error)
        return
    assert len(found.labels) == len(found.pictures) and found.labels.max() < 3


def test_class_folders(tmp_path: Path) -> None:
    for number, name in enumerate(("ant", "bee")):
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "a.png").write_bytes(png((10 * number, 0, 0)))
    for folder in (tmp_path, tmp_path / "test"):
        found = read_set(str(folder), "caltech101")
        assert list(found.classes) == ["ant", "bee"] and found.labels.tolist() == [0, 1]
        assert found.pictures.ids == ["ant/a", "bee/a"]
    with pytest.raises(UserError, match="hold no class folders"):
        read_set(str(tmp_path / "test" / "ant"), None)
    with pytest.raises(UserError, match="is no folder"):
        set_files(str(tmp_path / "absent"), "cifar10")


def test_templates_by_name_and_from_files(tmp_path: Path) -> None:
    assert len(templates("openai")) == len(templates("imagenet1k")) == 80 and len(templates("simple")) == 7
    assert len(templates("cifar10")) == 18 and templates("cifar100")[0] == "a photo of a {c}."
    (tmp_path / "t.txt").write_text("a {}.\n\nthe {c}!\n")
    (tmp_path / "t.json").write_text('["a {}.", "the {c}!"]')
    for file in ("t.txt", "t.json"):
        assert templates_from(str(tmp_path / file)) == ["a {c}.", "the {c}!"]
    (tmp_path / "bad.txt").write_text("a {c}.\na photo.\n")
    with pytest.raises(UserError, match=r"bad.txt, number 1: 'a photo.' has no {c}"):
        templates_from(str(tmp_path / "bad.txt"))
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(UserError, match="holds nothing"):
        templates_from(str(tmp_path / "none.txt"))
    with pytest.raises(UserError, match="did you mean 'cifar100'"):
        templates("cifar1000")


def test_templates_are_clip_benchmark_s() -> None:
    pytest.importorskip("clip_benchmark", reason="clip-benchmark is not installed")
    import clip_benchmark.datasets

    file = Path(clip_benchmark.datasets.__path__[0]) / "en_zeroshot_classification_templates.json"
    peer = json.loads(file.read_text())
    assert {name: templates(name) for name in peer} == peer and set(peer) <= set(sets())


def test_class_names_from_files(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("an ant\na bee\n")
    (tmp_path / "list.json").write_text('["an ant", "a bee"]')
    (tmp_path / "by_label.json").write_text('{"n2": "a bee", "n1": "an ant"}')
    for file in ("lines.txt", "list.json", "by_label.json"):
        assert names_from(str(tmp_path / file), ["n1", "n2"]) == ["an ant", "a bee"]
    with pytest.raises(UserError, match="names 2 classes, the data has 3"):
        names_from(str(tmp_path / "lines.txt"), ["a", "b", "c"])
    with pytest.raises(UserError, match="field 'n3' is missing"):
        names_from(str(tmp_path / "by_label.json"), ["n3"])
    with pytest.raises(UserError, match="is not a file"):
        names_from(str(tmp_path / "absent"), [])


def test_imagenet_s_folders_are_its_thousand_classes() -> None:
    labels, names = imagenet(np.array([1, 0, 1]), ["n01443537", "n15075141"])
    assert [names[label] for label in labels] == ["toilet paper", "goldfish", "toilet paper"] and len(names) == 1000
    with pytest.raises(UserError, match="class 'roses' is no synset"):
        imagenet(np.array([0]), ["roses"])
