"""timm's models: the features and logits that timm itself gives, weights of its own and of the authors' names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform, resolve_model_data_config

from mmkd_cli.core.errors import UserError
from mmkd_cli.core.fingerprints import sha256_file
from mmkd_cli.teachers.timm_models import Timm, TimmConfig
from tests.contracts.tiny_teachers import timm_file

DOGS = range(151, 269)
"""ImageNet's classes that are breeds of dog."""


def open_timm(**keys: Any) -> Timm:
    return Timm(TimmConfig(**keys))


def pictures(count: int, size: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("arch", ["test_resnet", "test_vit"])
def test_signals_are_what_timm_gives(tmp_path: Path, arch: str) -> None:
    file = timm_file(arch, tmp_path, 0)
    model = timm.create_model(arch, pretrained=False).eval()
    model.load_state_dict(load_file(file))
    teacher = open_timm(arch=arch, weights=str(file))
    teacher.load("cpu")
    given = pictures(2, teacher.picture_transform.size[0])
    said = teacher({"pixels": given}, list(teacher.signals()))
    pixels = teacher.picture_transform.normalize(given, torch.float32)
    with torch.no_grad():
        features = model.forward_features(pixels)
        torch.testing.assert_close(said["logits"], model(pixels), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            said["image_cls"], model.forward_head(features, pre_logits=True), atol=1e-5, rtol=1e-5
        )
    assert ("image_tokens" in said) == (arch == "test_vit")


def test_pooling_keys_take_the_class_token_or_the_mean_over_space(tmp_path: Path) -> None:
    vit, convnet = timm_file("test_vit", tmp_path, 0), tmp_path / "convnet"
    convnet.mkdir()
    resnet = timm_file("test_resnet", convnet, 0)
    given = {"pixels": pictures(2, 160)}

    def said(arch: str, weights: Path, pool: str) -> dict[str, torch.Tensor]:
        teacher = open_timm(arch=arch, weights=str(weights), pool=pool)
        teacher.load("cpu")
        return teacher(given, ["image_cls", *(["image_tokens"] if arch == "test_vit" else [])])

    tokens = said("test_vit", vit, "cls")
    assert torch.equal(tokens["image_cls"], tokens["image_tokens"][:, 0])
    mean = said("test_vit", vit, "pooled")
    torch.testing.assert_close(mean["image_cls"], mean["image_tokens"][:, 1:].mean(1))
    assert not torch.allclose(mean["image_cls"], tokens["image_cls"])
    pooled, model = said("test_resnet", resnet, "pooled"), said("test_resnet", resnet, "model")
    torch.testing.assert_close(pooled["image_cls"], model["image_cls"])
    with pytest.raises(UserError, match=r"teacher.pool=cls: test_resnet has no class token"):
        said("test_resnet", resnet, "cls")


def test_a_picture_is_seen_as_timms_own_transform_shows_it(tmp_path: Path) -> None:
    teacher = open_timm(arch="tf_efficientnet_lite0")
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    reference = create_transform(**resolve_model_data_config(model), is_training=False)
    noise = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((301, 215), Image.Resampling.BICUBIC)
    transform = teacher.picture_transform
    said = transform.normalize(transform(image)[None], torch.float32)[0]
    torch.testing.assert_close(said, reference(image), atol=1e-6, rtol=0)


def test_authors_names_are_mapped_by_timms_own_rules(tmp_path: Path) -> None:
    """ResNets of torchvision, ViTs: names that timm converts; here DeiT's, which are timm's under `model`."""
    state = load_file(timm_file("test_vit", tmp_path, 0))
    torch.save({"model": state, "epoch": 3}, tmp_path / "authors.pth")
    teacher = open_timm(arch="test_vit", weights=str(tmp_path / "authors.pth"))
    teacher.load("cpu")
    other = open_timm(arch="test_vit", weights=str(tmp_path / "model.safetensors"))
    other.load("cpu")
    given = {"pixels": pictures(1, 160)}
    assert torch.equal(teacher(given, ["image_cls"])["image_cls"], other(given, ["image_cls"])["image_cls"])


def test_weights_without_a_classifier_give_no_logits(tmp_path: Path) -> None:
    state = load_file(timm_file("test_resnet", tmp_path, 0))
    cut = {name: value for name, value in state.items() if not name.startswith("fc.")}
    assert len(cut) == len(state) - 2
    save_file(cut, tmp_path / "cut.safetensors")
    teacher = open_timm(arch="test_resnet", weights=str(tmp_path / "cut.safetensors"))
    assert set(teacher.signals()) == {"image_cls", "grid", "grid_size"}
    teacher.load("cpu")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"arch": "resnet5O"}, r"timm has no model 'resnet5O' \(did you mean 'resnet50'\?\)"),
        ({"arch": "resnet50.a1_in2k"}, r"timm's resnet50 has no tag 'a1_in2k' \(did you mean 'a1_in1k'\?\)"),
        ({"arch": "resnet50", "weights": "a1_in2k"}, r"neither a file nor a tag of timm's resnet50 \(did you mean 'a1"),
        ({"arch": "local-dir:nowhere"}, r"nowhere holds no config.json: name a folder that timm wrote"),
        ({"arch": "resnet50", "weights": "a1_in1k"}, r"safetensors of timm/resnet50.a1_in1k is not on this machine "
         r"\(HF_HUB_OFFLINE is set\): get that file, put it anywhere, and name it by --weights FILE"),
    ],
)  # fmt: skip
def test_wrong_names_are_said_in_a_line(keys: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_timm(**keys).load("cpu")


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    file = timm_file("test_vit", tmp_path, 0)
    with pytest.raises(
        UserError, match=r"does not fit timm's test_resnet: \d+ of \d+ missing, the first '[\w.]+'; \d+ unexp"
    ):
        open_timm(arch="test_resnet", weights=str(file)).load("cpu")
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cut.safetensors is no safetensors file, or is damaged"):
        open_timm(arch="test_vit", weights=str(tmp_path / "cut.safetensors")).load("cpu")


def test_the_tiny_image_teacher_of_the_package_loads() -> None:
    folder = Path(timm.__file__).parent  # any folder that is none of timm's models
    with pytest.raises(UserError, match=r"holds no config.json"):
        open_timm(arch=f"local-dir:{folder}").load("cpu")
    asset = Path(__file__).parents[2] / "mmkd_cli" / "assets" / "tiny-image-teacher"
    teacher = open_timm(arch=f"local-dir:{asset}")
    assert {name: spec.shape for name, spec in teacher.signals().items() if spec.default} == {"image_cls": (256,)}
    teacher.load("cpu")
    assert torch.isfinite(teacher({"pixels": pictures(2, 64)}, ["image_cls"])["image_cls"]).all()


def test_photos_of_dogs_are_dogs(real_data: Path) -> None:
    """The real weights, strictly loaded, on photos all of whose captions speak of a dog."""
    file = real_data / "weights" / "tf_efficientnet_lite0" / "model.safetensors"
    teacher = open_timm(arch="tf_efficientnet_lite0", weights=str(file))
    specs = {name: spec.shape for name, spec in teacher.signals().items()}
    assert specs == {"image_cls": (1280,), "logits": (1000,), "grid": (49, 1280), "grid_size": (2,)}
    assert teacher.identity()["weights_sha256"] == sha256_file(file)
    assert teacher.parameters_count() == 4_652_008
    teacher.load("cpu")
    entries = json.loads((real_data / "flickr8k" / "dataset_flickr8k.json").read_text())["images"]
    dogs, others = [], []
    for entry in entries:
        speak = ["dog" in sentence["raw"].lower().split() for sentence in entry["sentences"]]
        if all(speak) and len(dogs) < 16:
            dogs.append(entry["filename"])
        elif not any("dog" in sentence["raw"].lower() for sentence in entry["sentences"]) and len(others) < 16:
            others.append(entry["filename"])

    def share_of_dogs(names: list[str]) -> float:
        images = [Image.open(real_data / "flickr8k" / "images" / name).convert("RGB") for name in names]
        pixels = torch.stack([teacher.picture_transform(image) for image in images])
        found = teacher({"pixels": pixels}, ["logits"])["logits"].argmax(1).tolist()
        return sum(place in DOGS for place in found) / len(found)

    assert share_of_dogs(dogs) >= 0.75
    assert share_of_dogs(others) <= 0.25
