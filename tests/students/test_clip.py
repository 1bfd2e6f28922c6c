"""CLIP as a student: what is tuned, what its library opens afterwards, and the map to latents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.model import QuickGELU
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPModel

from mmkd_cli.core.errors import UserError
from mmkd_cli.students.clip import Clip, ClipConfig
from tests.architectures.tiny_clip import DIM, KINDS, SIDE, tiny_clip

TEXTS = ["a dog", "two cats on a mat", "red"]
SHAPE = (4, 8, 8)


def student(folder: Path, kind: str, **keys: Any) -> Clip:
    made = Clip.build(ClipConfig(**tiny_clip(folder, kind)))
    made.tune(**{"how": "norms", "lora_rank": 2, "scale": False, **keys})
    return made.eval()


def batch(made: Clip) -> dict[str, Tensor]:
    pixels = torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return {"pixels": pixels, **made.tokenize(TEXTS)}


@torch.no_grad()
def move_what_is_tuned(made: Clip) -> None:
    torch.manual_seed(3)
    for parameter in made.tuned():
        parameter.add_(0.1 * torch.randn_like(parameter))


def by_the_library(folder: Path, kind: str, given: dict[str, Tensor], mean: Any, std: Any) -> tuple[Tensor, Tensor]:
    """Embeddings of a saved folder by its library alone."""
    pixels = (given["pixels"] / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        if kind == "transformers":
            model = CLIPModel.from_pretrained(folder).eval()
            coded = AutoTokenizer.from_pretrained(folder)(TEXTS, padding="max_length", max_length=24,
                                                          return_tensors="pt")  # fmt: skip
            image = model.get_image_features(pixel_values=pixels).pooler_output
            return image, model.get_text_features(**coded).pooler_output
        model = open_clip.create_model(f"local-dir:{folder}").eval()
        return model.encode_image(pixels), model.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS))


@pytest.mark.parametrize("how", ["norms", "norms+batchnorm", "lora", "all"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_tuned_model_is_its_librarys_own(tmp_path: Path, kind: str, how: Any) -> None:
    made = student(tmp_path / "first", kind, how=how)
    given = batch(made)
    before = made.embed_images(given), made.embed_texts(given)
    move_what_is_tuned(made)
    image, text = made.embed_images(given), made.embed_texts(given)
    made.save(tmp_path / "run")
    seen = made.picture_transform
    said = by_the_library(tmp_path / "run" / "model", kind, given, seen.mean, seen.std)  # type: ignore[attr-defined]
    torch.testing.assert_close(image, said[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(text, said[1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(text, before[1], atol=1e-3)
    unmoved = kind == "resnet" and how in ("norms", "lora")
    assert torch.allclose(image, before[0], atol=1e-3) == unmoved
    again = Clip.load(tmp_path / "run", {})
    assert again.picture_transform.identity() == seen.identity()
    torch.testing.assert_close(again.embed_images(given), image, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(made.embed_texts(given), text, atol=0, rtol=0)
    assert again.identity()["model"] and not (tmp_path / "run" / "heads.safetensors").exists()


def test_quick_gelu_is_kept_and_the_weights_load_by_architecture(tmp_path: Path) -> None:
    tiny_clip(tmp_path / "first")
    config = json.loads((tmp_path / "first" / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / "tiny-quickgelu.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-quickgelu.json")
    weights = str(tmp_path / "first" / "open_clip_model.safetensors")
    made = Clip.build(ClipConfig(arch="tiny-quickgelu", weights=weights)).eval()
    made.tune("norms", 2, scale=False)
    move_what_is_tuned(made)
    made.save(tmp_path)
    file = str(tmp_path / "model" / "open_clip_model.safetensors")
    opened = open_clip.create_model("tiny-quickgelu", pretrained=file).eval()
    assert any(isinstance(module, QuickGELU) for module in opened.modules())
    given = batch(made)
    pixels = made.picture_transform.normalize(given["pixels"], torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(opened.encode_image(pixels), made.embed_images(given), atol=1e-5, rtol=1e-5)
    assert any(isinstance(m, QuickGELU) for m in Clip.load(tmp_path, {}).modules())


def kinds_of_modules(made: Clip) -> set[str]:
    """Classes of the modules that own a trained parameter, with the tower."""
    found = set()
    for name, module in made.clip.named_modules():
        if any(p.requires_grad for p in module.parameters(recurse=False)):
            image = name.startswith(("visual", "vision"))
            found.add(f"{'image' if image else 'text'} {'norm' if isinstance(module, nn.LayerNorm) else 'other'}")
    return found


@pytest.mark.parametrize(
    ("kind", "how", "expected"),
    [
        ("vit", "norms", {"image norm", "text norm"}),
        ("transformers", "norms", {"image norm", "text norm"}),
        ("resnet", "norms", {"text norm"}),
        ("resnet", "norms+batchnorm", {"text norm", "image other"}),
        ("vit", "image-norms", {"image norm"}),
        ("transformers", "image-norms", {"image norm"}),
        ("vit", "lora", {"image other", "text other"}),
    ],
)
def test_what_is_tuned(tmp_path: Path, kind: str, how: Any, expected: set[str]) -> None:
    made = student(tmp_path, kind, how=how)
    assert kinds_of_modules(made) == expected
    assert made.tunes_pictures() == any(name.startswith("image") for name in expected)


def test_all_leaves_the_scale_and_norms_leave_everything_else(tmp_path: Path) -> None:
    made = student(tmp_path / "a", "vit", how="all")
    assert [name for name, p in made.clip.named_parameters() if not p.requires_grad] == ["logit_scale"]
    assert made.logit_scale.item() == pytest.approx(1 / 0.07)
    scaled = student(tmp_path / "b", "vit", scale=True)
    assert (
        scaled.clip.logit_scale.requires_grad and len(scaled.tuned()) == len(student(tmp_path / "c", "vit").tuned()) + 1
    )
    with pytest.raises(UserError, match="nothing of it would be trained"):
        student(tmp_path / "d", "resnet", how="image-norms")


def test_batch_norms_keep_their_statistics_in_training(tmp_path: Path) -> None:
    made = student(tmp_path, "resnet", how="all")
    given = batch(made)
    before = {name: value.clone() for name, value in made.clip.named_buffers()}
    at_rest = made(given).image
    made.train()
    assert torch.equal(made(given).image, at_rest) and made.training
    assert all(torch.equal(value, before[name]) for name, value in made.clip.named_buffers())


def test_lora_leaves_the_frozen_weights_alone_and_starts_as_the_identity(tmp_path: Path) -> None:
    plain, adapted = Clip.build(ClipConfig(**tiny_clip(tmp_path))).eval(), student(tmp_path, "vit", how="lora")
    given = batch(plain)
    torch.testing.assert_close(adapted.embed_images(given), plain.embed_images(given), atol=1e-6, rtol=1e-6)
    adapted(given).image.sum().backward()
    frozen = {name.replace(".base_layer", ""): p for name, p in adapted.clip.named_parameters() if not p.requires_grad}
    assert all(torch.equal(frozen[name], value) for name, value in plain.clip.named_parameters())
    ranks = {min(p.shape) for p in adapted.tuned()}
    assert ranks == {2}


@pytest.mark.parametrize("kind", ["vit", "transformers"])
def test_the_cls_is_what_the_projection_projects(tmp_path: Path, kind: str) -> None:
    made = student(tmp_path, kind)
    made.map_to_latents(SHAPE, "cls", normalize=False)
    given = batch(made)
    pixels = made.picture_transform.normalize(given["pixels"], torch.float32)
    with torch.no_grad():
        image, cls = made.library.embed_images_with_cls(made.clip, pixels)
        projection = made.clip.visual.proj if kind == "vit" else made.clip.visual_projection.weight.T
        torch.testing.assert_close(cls @ projection, image, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(image, made.library.embed_images(made.clip, pixels), atol=1e-6, rtol=1e-6)
        latents = made(given, latents=True).latents
    linear = made.latent_map.linear
    torch.testing.assert_close(latents, (cls @ linear.weight.T + linear.bias).view(3, *SHAPE))


def test_latents_of_the_embedding_raw_or_of_length_one(tmp_path: Path) -> None:
    made = student(tmp_path, "resnet")
    given = batch(made)
    assert made(given).latents is None
    for normalize in (False, True):
        made.map_to_latents(SHAPE, "projected", normalize)
        linear = made.latent_map.linear
        assert linear.weight.shape == (256, DIM) and linear.weight.std().item() == pytest.approx(0.02, rel=0.05)
        said = made(given, latents=True)
        vectors = said.image / said.image.norm(dim=1, keepdim=True) if normalize else said.image
        torch.testing.assert_close(said.latents.flatten(1), vectors @ linear.weight.T + linear.bias)
    with pytest.raises(UserError, match=r"has no CLS: set method.embedding=projected"):
        made.map_to_latents(SHAPE, "cls", normalize=False)


def test_the_latent_map_is_saved_beside_the_model(tmp_path: Path) -> None:
    made = student(tmp_path / "first", "vit")
    made.map_to_latents(SHAPE, "cls", normalize=True)
    made.save(tmp_path)
    heads = load_file(tmp_path / "heads.safetensors")
    assert torch.equal(heads["latent_map.weight"], made.latent_map.linear.weight) and "latent_map.bias" in heads
    with safe_open(tmp_path / "heads.safetensors", "pt") as file:
        assert json.loads(file.metadata()["mmkd"]) == {"embedding": "cls", "normalize": True, "shape": [4, 8, 8]}
    assert not any("latent_map" in name for name in load_file(tmp_path / "model" / "open_clip_model.safetensors"))


def test_files_are_what_decides_the_weights(tmp_path: Path) -> None:
    keys = tiny_clip(tmp_path)
    files = Clip.files(ClipConfig(**keys))
    assert files == {"student.arch": str(tmp_path / "open_clip_config.json"),
                     "student.weights": str(tmp_path / "open_clip_model.safetensors")}  # fmt: skip
    named = Clip.files(ClipConfig(arch="ViT-B-32-quickgelu", weights=files["student.weights"]))
    assert named["student.arch"] == "ViT-B-32-quickgelu"
    with pytest.raises(UserError, match=r"student clip: name open_clip's architecture and weights"):
        Clip.files(ClipConfig())
    with pytest.raises(UserError, match=r"layer 'projection' is not one"):
        student(tmp_path, "vit").embed_texts({}, "projection")
