"""CLIP: the libraries' own embeddings, and no weights under another activation than they were trained with."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, CLIPModel

from mmkd_cli.architectures.open_clip_models import OpenClipTokenizer
from mmkd_cli.core.errors import UserError
from mmkd_cli.teachers.clip import Clip, ClipConfig
from tests.contracts.tiny_teachers import open_clip_folder, transformers_clip

TEXTS = ["a dog", "two cats on a mat!", "word " * 100]


def pictures(size: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def say(teacher: Clip) -> dict[str, torch.Tensor]:
    teacher.load("cpu")
    return teacher({"pixels": pictures(32), **teacher.tokenize(TEXTS)}, ["image_embedding", "text_embedding"])


def test_open_clip_opens_the_same_folder_to_the_same_embeddings(tmp_path: Path) -> None:
    keys = open_clip_folder(tmp_path, 0)
    teacher = Clip(ClipConfig(**keys))
    said = say(teacher)
    model, _, transform = open_clip.create_model_and_transforms(keys["arch"])
    tokens = open_clip.get_tokenizer(keys["arch"])(TEXTS)
    pixels = teacher.picture_transform.normalize(pictures(32), torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(said["image_embedding"], model.eval().encode_image(pixels), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(said["text_embedding"], model.encode_text(tokens), atol=1e-5, rtol=1e-5)
    normalize = transform.transforms[-1]
    assert (
        tuple(normalize.mean) == teacher.picture_transform.mean
        and tuple(normalize.std) == teacher.picture_transform.std
    )
    assert teacher.parameters_count() == sum(p.numel() for p in model.parameters())


def test_transformers_opens_the_same_folder_to_the_same_embeddings(tmp_path: Path) -> None:
    teacher = Clip(ClipConfig(**transformers_clip(tmp_path, 0)))
    said = say(teacher)
    model = CLIPModel.from_pretrained(tmp_path).eval()
    coded = AutoTokenizer.from_pretrained(tmp_path)(
        TEXTS, padding="max_length", truncation=True, max_length=32, return_tensors="pt"
    )
    with torch.no_grad():
        out = model(
            input_ids=coded["input_ids"],
            attention_mask=coded["attention_mask"],
            pixel_values=teacher.picture_transform.normalize(pictures(32), torch.float32),
        )
    unit = {name: value / value.norm(dim=-1, keepdim=True) for name, value in said.items()}
    torch.testing.assert_close(unit["image_embedding"], out.image_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(unit["text_embedding"], out.text_embeds, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("arch", ["RN50", "RN50x4", "ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336"])
def test_openais_weights_need_quick_gelu(arch: str) -> None:
    with pytest.raises(UserError, match=rf"trained with QuickGELU.*name the architecture {arch}-quickgelu$"):
        Clip(ClipConfig(arch=arch, weights="openai")).signals()
    width = open_clip.get_model_config(arch)["embed_dim"]
    assert Clip(ClipConfig(arch=f"{arch}-quickgelu", weights="openai")).signals()["image_embedding"].shape == (width,)


def openai_file(folder: Path, form: str) -> Path:
    """A file that can be told for OpenAI's: by its name, by the numbers among its weights, or as TorchScript."""
    if form == "name":
        file = folder / "ViT-B-32-openai.safetensors"
        save_file({"w": torch.zeros(1)}, file)
    elif form == "numbers":
        file = folder / "clip.safetensors"
        save_file({"input_resolution": torch.tensor(224), "w": torch.zeros(1)}, file)
    else:
        file = folder / "ViT-B-32.pt"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("ViT-B-32/constants.pkl", b"")
            archive.writestr("ViT-B-32/code/__torch__.py", b"")
    return file


@pytest.mark.parametrize("form", ["name", "numbers", "torchscript"])
def test_openais_files_are_told_as_such(tmp_path: Path, form: str) -> None:
    file = openai_file(tmp_path, form)
    with pytest.raises(UserError, match=r"name the architecture ViT-B-32-quickgelu$"):
        Clip(ClipConfig(arch="ViT-B-32", weights=str(file))).signals()
    Clip(ClipConfig(arch="ViT-B-32-quickgelu", weights=str(file))).signals()


def test_other_tags_are_held_to_their_activation_too() -> None:
    with pytest.raises(UserError, match=r"trained with QuickGELU.*ViT-B-32-quickgelu$"):
        Clip(ClipConfig(arch="ViT-B-32", weights="metaclip_400m")).signals()
    assert Clip(ClipConfig(arch="ViT-B-32", weights="laion2b_s34b_b79k")).signals()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, r"name open_clip's architecture and weights"),
        ({"arch": "ViT-B-33", "weights": "openai"}, r"open_clip has no architecture 'ViT-B-33' \(did you mean"),
        ({"arch": "ViT-B-32", "weights": "opnai"}, r"neither a file nor a tag of open_clip's ViT-B-32 \(did you mean"),
        ({"arch": "ViT-B-32-quickgelu", "weights": "openai"}, r"is not on this machine \(HF_HUB_OFFLINE is set\)"),
        ({"weights": "somebody/clip"}, r"config.json of somebody/clip is not .* name it by --weights FOLDER"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_in_a_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Clip(ClipConfig(**keys)).load("cpu")


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    keys = open_clip_folder(tmp_path, 0)
    state = load_file(tmp_path / "open_clip_model.safetensors")
    del state["visual.proj"]
    save_file(state, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(UserError, match=r"1 of \d+ missing, the first 'visual.proj'"):
        Clip(ClipConfig(**keys)).load("cpu")


def test_a_transformers_folder_that_lacks_weights_is_not_filled_at_random(tmp_path: Path) -> None:
    keys = transformers_clip(tmp_path, 0)
    state = load_file(tmp_path / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 weights missing, the first 'visual_projection.weight'"):
        Clip(ClipConfig(**keys)).load("cpu")


def test_the_mask_ends_with_the_end_token() -> None:
    coded = OpenClipTokenizer("ViT-B-32")(["a dog ! !", "word " * 100])
    lengths = coded["attention_mask"].sum(1).tolist()
    assert lengths == [6, 77]  # start, a, dog, !, !, end: `!` is number 0 as the padding is
    assert coded["input_ids"][0, 5] == 49407 and coded["input_ids"].shape == (2, 77)
