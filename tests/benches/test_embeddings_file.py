"""Embeddings from files: what is read, and one line for what does not fit."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmkd_cli.benches.embedding import paired
from mmkd_cli.benches.embeddings_file import read_embeddings
from mmkd_cli.core.contracts import BenchInput
from mmkd_cli.core.errors import UserError


def good() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.standard_normal((3, 4)).astype(np.float32),
        "text": rng.standard_normal((5, 4)).astype(np.float32),
        "text_image": np.array([0, 0, 1, 2, 2]),
    }


def test_npz_and_safetensors_hold_the_same(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "e.npz", **good())
    save_file({name: torch.from_numpy(array) for name, array in good().items()}, tmp_path / "e.safetensors")
    first, second = read_embeddings(tmp_path / "e.npz"), read_embeddings(tmp_path / "e.safetensors")
    assert first.keys() == second.keys() == good().keys()
    for name, array in good().items():
        np.testing.assert_array_equal(first[name], array)
        np.testing.assert_array_equal(second[name], array)


def test_half_precision_is_widened(tmp_path: Path) -> None:
    image = torch.tensor([[1.5, 2.0]])
    save_file({"image": image.bfloat16(), "text": image.half()}, tmp_path / "e.safetensors")
    read = read_embeddings(tmp_path / "e.safetensors")
    assert read["image"].dtype == read["text"].dtype == np.float32
    np.testing.assert_array_equal(read["image"], image.numpy())


def test_files_that_are_no_embeddings(tmp_path: Path) -> None:
    np.savez(tmp_path / "pickled.npz", image=np.array([{"run": "me"}], dtype=object))
    with pytest.raises(UserError, match="pickled objects, which can run code"):
        read_embeddings(tmp_path / "pickled.npz")
    np.savez(tmp_path / "whole.npz", **good())
    np.savez_compressed(tmp_path / "packed.npz", **good())
    whole = bytearray((tmp_path / "packed.npz").read_bytes())
    whole[120:200] = bytes(80)
    (tmp_path / "flipped.npz").write_bytes(whole)
    with pytest.raises(UserError, match=r"cannot be read as npz .*: write the arrays again by np.savez"):
        read_embeddings(tmp_path / "flipped.npz")
    (tmp_path / "short.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:300])
    with pytest.raises(UserError, match="cannot be read as npz"):
        read_embeddings(tmp_path / "short.npz")
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("image", b"not an array")
    with pytest.raises(UserError, match="its member 'image' is no array"):
        read_embeddings(tmp_path / "text.npz")
    with zipfile.ZipFile(tmp_path / "vast.npz", "w") as archive, archive.open("image.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (1 << 45, 64)})
    with pytest.raises(UserError, match="cannot be read as npz"):
        read_embeddings(tmp_path / "vast.npz")
    (tmp_path / "other").write_bytes(b"\x80\x04not a tensor file")
    with pytest.raises(UserError, match=r"neither npz nor safetensors .*: write the arrays by np.savez or"):
        read_embeddings(tmp_path / "other")
    with pytest.raises(UserError, match="is not a file"):
        read_embeddings(tmp_path / "absent.npz")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"txt": good()["text"], "text": None},
            r"no 'text', their arrays are 'image', 'text_image', 'txt': give image \[n, d\] and text \[m, d\] .fl.*"
            r"text_image \[m\] .integers: the row of each text's picture",
        ),
        ({"image": np.zeros((3, 4, 1), np.float32)}, "'image' has shape .3, 4, 1"),
        ({"image": np.zeros((3, 5), np.float32)}, "of one width"),
        ({"image": np.zeros((3, 4), np.int64)}, "'image' is int64: give float32"),
        ({"image": np.zeros((0, 4), np.float32)}, "is empty"),
        ({"text": np.full((5, 4), np.nan, np.float32)}, "NaN or infinite .* 5 rows, the first is row 0 .from 0."),
        ({"text_image": np.arange(4)}, "'text_image' is int64 .4.: give integers .5."),
        ({"text_image": np.arange(5.0)}, "'text_image' is float64"),
        ({"text_image": np.array([0, 0, 1, 2, 3])}, "rows 0 to 3 of 3 images"),
        ({"text_image": np.array([-2, 0, 1, 2, 1])}, "rows -2 to 2 of 3 images"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_one_line(change: dict[str, np.ndarray | None], says: str) -> None:
    from mmkd_cli.benches.runner import score

    arrays = {name: array for name, array in {**good(), **change}.items() if array is not None}
    with pytest.raises(UserError, match=says) as error:
        score("retrieval", BenchInput(embeddings=arrays))
    assert "\n" not in str(error.value)


def test_unit_rows_are_compared_by_the_numbers_given() -> None:
    arrays = good()
    for name in ("image", "text"):
        arrays[name] /= np.linalg.norm(arrays[name], axis=1, keepdims=True)
    pairs = paired(BenchInput(embeddings=arrays))
    np.testing.assert_array_equal(pairs.images.numpy(), arrays["image"])
    double = paired(BenchInput(embeddings={**arrays, "image": 3 * arrays["image"].astype(np.float64)}))
    assert double.images.dtype == torch.float64
    np.testing.assert_allclose(double.images.numpy(), arrays["image"], atol=1e-7)
