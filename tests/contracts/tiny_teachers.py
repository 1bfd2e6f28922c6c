"""A tiny teacher of every registered kind, with random weights in its published layout, made in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    Data2VecTextConfig,
    Data2VecTextModel,
    Data2VecVisionConfig,
    Data2VecVisionModel,
    PreTrainedTokenizerFast,
)

from mmkd_cli.core import artifacts, registry
from mmkd_cli.core.artifacts import Plan
from mmkd_cli.students.projections import Heads
from mmkd_cli.students.unimodal import Unimodal, UnimodalConfig
from tests.architectures.official_beit2 import beit2_state
from tests.architectures.official_d2v2 import image_state, text_state
from tests.architectures.tiny_language_models import tiny_language_model
from tests.architectures.tiny_stable_diffusion import stable_diffusion as stable_diffusion_folder

Keys = dict[str, Any]
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def timm_file(arch: str, folder: Path, seed: int, **arguments: Any) -> Path:
    """Weights of a timm model, every tensor random, so that no part is a constant."""
    torch.manual_seed(seed)
    state = timm.create_model(arch, pretrained=False, **arguments).state_dict()
    drawn = {
        name: value if not value.is_floating_point() else value.abs().clamp(min=0.1) + 0.1 * torch.rand_like(value)
        if name.endswith("running_var") else value + 0.05 * torch.randn_like(value)
        for name, value in state.items()
    }  # fmt: skip
    save_file(drawn, folder / "model.safetensors")
    return folder / "model.safetensors"


def convnet(folder: Path, seed: int) -> Keys:
    return {"name": "timm", "arch": "test_resnet", "weights": str(timm_file("test_resnet", folder, seed))}


def vit(folder: Path, seed: int) -> Keys:
    return {"name": "timm", "arch": "test_vit", "weights": str(timm_file("test_vit", folder, seed)), "pool": "cls"}


def clip_grid(folder: Path, seed: int) -> Keys:
    """Pictures of their own aspect, padded."""
    return {**open_clip_folder(folder, seed), "name": "clip-grid", "grid": {"resize": "pad", "height": 32, "width": 64}}


def timm_folder(folder: Path, seed: int) -> Keys:
    arguments = {"num_classes": 0, "layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}
    timm_file("resnet10t", folder, seed, **arguments)
    config = {
        "architecture": "resnet10t",
        "model_args": arguments,
        "pretrained_cfg": {"input_size": [3, 32, 32], "crop_pct": 1.0, "mean": [0.5] * 3, "std": [0.5] * 3,
                           "num_classes": 0, "classifier": "fc"},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return {"name": "timm", "arch": f"local-dir:{folder}"}


def dino(folder: Path, seed: int) -> Keys:
    file = timm_file("test_vit", folder, seed, num_classes=0)
    return {"name": "dino", "arch": "test_vit", "weights": str(file)}


def resnet50(folder: Path, seed: int) -> Keys:
    return {"name": "resnet50", "arch": "test_resnet", "weights": str(timm_file("test_resnet", folder, seed))}


def beit2(folder: Path, seed: int) -> Keys:
    torch.save({"model": beit2_state(seed=seed)}, folder / "pt.pth")
    return {"name": "beit2", "weights": str(folder / "pt.pth")}


def beit2_fine_tuned(folder: Path, seed: int) -> Keys:
    torch.save({"module": beit2_state(fine_tuned=5, seed=seed)}, folder / "ft.pth")
    return {"name": "beit2", "weights": str(folder / "ft.pth"), "cls": "pre_norm"}


def d2v2_image(folder: Path, seed: int) -> Keys:
    torch.save({"cfg": None, "model": image_state(seed=seed)}, folder / "image.pt")
    return {"name": "d2v2", "weights": str(folder / "image.pt")}


def d2v2_text(folder: Path, seed: int) -> Keys:
    torch.save({"cfg": None, "model": text_state(seed=seed)}, folder / "text.pt")
    write_gpt2_bpe(folder)
    return {"name": "d2v2", "weights": str(folder / "text.pt"), "max_tokens": 32}


def write_gpt2_bpe(folder: Path) -> None:
    """encoder.json, vocab.bpe, dict.txt of bytes and one merge; numbers by dict.txt run against GPT-2's."""
    encoder = {token: number for number, token in enumerate([*BYTES, "do"])}
    (folder / "encoder.json").write_text(json.dumps(encoder))
    (folder / "vocab.bpe").write_text("#version: 0.2\nd o\n", encoding="utf-8")
    lines = [f"{number} {1000 - number}" for number in reversed(range(len(encoder)))] + ["madeupword0000 0"]
    (folder / "dict.txt").write_text("\n".join(lines) + "\n")


def data2vec_vision(folder: Path, seed: int) -> Keys:
    torch.manual_seed(seed)
    config = Data2VecVisionConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8,
        use_relative_position_bias=True, layer_scale_init_value=0.5,
    )  # fmt: skip
    Data2VecVisionModel(config, add_pooling_layer=False).save_pretrained(folder)
    processor = {"size": {"height": 32, "width": 32}, "do_center_crop": False, "resample": 3, "image_mean": [0.5] * 3,
                 "image_std": [0.5] * 3}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return {"name": "data2vec", "weights": str(folder)}


def tokenizer(folder: Path) -> None:
    """A tokenizer of bytes in transformers' layout: `<s>` 0, `<pad>` 1, `</s>` 2."""
    vocabulary = {token: number for number, token in enumerate(["<s>", "<pad>", "</s>", *BYTES])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )  # fmt: skip
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(folder)


def data2vec_text(folder: Path, seed: int) -> Keys:
    torch.manual_seed(seed)
    config = Data2VecTextConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=40,
    )  # fmt: skip
    Data2VecTextModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer(folder)
    return {"name": "data2vec", "weights": str(folder), "max_tokens": 32}


def text_encoder(folder: Path, seed: int) -> Keys:
    return {"name": "text-encoder", "weights": str(tiny_language_model(folder, "masked", seed)), "max_tokens": 32}


def open_clip_folder(folder: Path, seed: int) -> Keys:
    from open_clip.model import CLIP

    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
        "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    torch.manual_seed(seed)
    save_file(CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    return {"name": "clip", "arch": f"local-dir:{folder}"}


def transformers_clip(folder: Path, seed: int) -> Keys:
    torch.manual_seed(seed)
    tower = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = CLIPConfig(
        text_config={**tower, "vocab_size": 300, "max_position_embeddings": 32, "eos_token_id": 2, "bos_token_id": 0,
                     "pad_token_id": 1},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )  # fmt: skip
    CLIPModel(config).save_pretrained(folder)
    tokenizer(folder)
    return {"name": "clip", "weights": str(folder)}


def stable_diffusion(folder: Path, seed: int) -> Keys:
    return {"name": "stable-diffusion", "weights": str(stable_diffusion_folder(folder, seed))}


def precomputed(folder: Path, seed: int) -> Keys:
    values = np.random.default_rng(seed).standard_normal((9, 6), dtype=np.float32)
    np.savez(folder / "features.npz", values=values, ids=np.array([f"id-{8 - row}" for row in range(9)]))
    return {"name": "precomputed", "features": str(folder / "features.npz")}


def language_model(name: str, kind: str, **keys: Any) -> Callable[[Path, int], Keys]:
    def make(folder: Path, seed: int) -> Keys:
        folder = tiny_language_model(folder, kind, seed)
        return {"name": name, "weights": str(folder), "max_tokens": 32, "topk": 8, "draws": 5, **keys}

    return make


def trained_run(folder: Path, seed: int) -> Keys:
    """A run whose pictures start from the signal of a teacher of its own."""
    teacher = convnet(folder, seed)
    chosen = registry.load("teachers", teacher["name"])
    width = chosen(chosen.Config(**teacher)).signals()["image_cls"].shape[0]
    config = UnimodalConfig(text="scratch", depth=1, width=32, heads=2, vocabulary=64, max_tokens=12)
    torch.manual_seed(seed)
    student = Unimodal.build(config, Heads(True, "clip", 16), "image_cls", width, lambda: ["a dog runs"])
    table = {"student": config.model_dump(mode="json"), "teacher": teacher}
    _, artifact = artifacts.begin(folder / "run", Plan("run", "distill", "run", {"stage": "distill"}, table))
    student.save(artifact.path)
    files = {
        path.relative_to(artifact.path).as_posix(): artifacts.FileRecord.of(path)
        for path in artifact.path.rglob("*.safetensors")
    }
    hashed = {name: record.xxh3_128 for name, record in files.items()}
    artifacts.finish(artifact, content={}, files=files, hashed=hashed, started=0.0)
    return {"name": "run", "weights": str(artifact.path)}


TINY: dict[str, Callable[[Path, int], Keys]] = {
    "timm convnet": convnet,
    "timm vit": vit,
    "timm folder": timm_folder,
    "dino": dino,
    "resnet50": resnet50,
    "beit2": beit2,
    "beit2 fine-tuned": beit2_fine_tuned,
    "d2v2 image": d2v2_image,
    "d2v2 text": d2v2_text,
    "data2vec vision": data2vec_vision,
    "data2vec text": data2vec_text,
    "text encoder": text_encoder,
    "clip open_clip": open_clip_folder,
    "clip transformers": transformers_clip,
    "clip grid": clip_grid,
    "stable diffusion": stable_diffusion,
    "gpt2": language_model("gpt2", "causal"),
    "bert": language_model("bert", "masked"),
    "bart": language_model("bart", "bart"),
    "t5": language_model("lm", "t5", codec="sampled", temperature=2.0),
    "run": trained_run,
    "precomputed": precomputed,
}
"""Case -> what makes it: keys of the teacher's table, whose `name` is the registered one."""
