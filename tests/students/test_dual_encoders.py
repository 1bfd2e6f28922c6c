"""Models by name: runs, libraries' CLIPs, halves of different models, and what is said where a half has no vector."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmkd_cli.core import artifacts, registry
from mmkd_cli.core.artifacts import Artifact, Plan
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.students.dual_encoders import Halves, TeacherEncoder, open_dual_encoder
from mmkd_cli.students.projections import Heads
from mmkd_cli.students.unimodal import Unimodal, UnimodalConfig
from tests.contracts import tiny_teachers
from tests.students import small_students
from tests.students.small_students import TEXTS, WIDTH


def finished_run(root: Path, name: str = "run") -> Unimodal:
    """A run as distill leaves it, and the student that is in it."""
    config = UnimodalConfig(text="scratch", depth=1, width=WIDTH, heads=2, vocabulary=64, max_tokens=12)
    student = Unimodal.build(config, Heads(True, "clip", 16), "image_cls", 40, lambda: TEXTS).eval()
    plan = Plan("run", "distill", name, {"stage": "distill"}, {"student": config.model_dump(mode="json")})
    folder = root / "runs" / name
    _, artifact = artifacts.begin(folder, plan)
    student.save(folder)
    files = {"heads.safetensors": artifacts.FileRecord.of(folder / "heads.safetensors")}
    artifacts.finish(artifact, content={}, files=files, hashed={}, started=0.0)
    return student


def test_a_run_is_opened_by_name_and_by_path(tmp_path: Path) -> None:
    student = finished_run(tmp_path)
    signal = torch.randn(4, 40)
    for name in ("run", str(tmp_path / "runs" / "run")):
        opened = open_dual_encoder(name, root=tmp_path)
        assert opened.image_signal == "image_cls" and opened.layers == ("encoder", "projection")
        assert torch.equal(opened.embed_texts(opened.tokenize(TEXTS)), student.embed_texts(student.tokenize(TEXTS)))
        assert torch.equal(opened.embed_images({"image_cls": signal}), student.embed_images({"image_cls": signal}))
    identity = opened.identity()
    assert identity == open_dual_encoder("run", root=tmp_path).identity()
    (tmp_path / "runs" / "run" / "manifest.json").unlink()
    with pytest.raises(Refused, match="unfinished"):
        open_dual_encoder("run", root=tmp_path)


def test_a_library_model_says_what_its_teacher_says(tmp_path: Path) -> None:
    keys = tiny_teachers.transformers_clip(tmp_path, 0)
    clip = open_dual_encoder(f"hf:{keys['weights']}", root=tmp_path)
    assert isinstance(clip, TeacherEncoder) and clip.image_signal is None
    chosen = registry.load("teachers", "clip")
    teacher = chosen(chosen.Config(**keys))
    teacher.load("cpu")
    side = clip.picture_transform.size[0]
    batch = {"pixels": torch.randint(0, 256, (3, 3, side, side), dtype=torch.uint8), **clip.tokenize(TEXTS[:3])}
    said = teacher(batch, ["image_embedding", "text_embedding"])
    assert torch.equal(clip.embed_images(batch), said["image_embedding"])
    assert torch.equal(clip.embed_texts(batch, "embedding"), said["text_embedding"])
    with pytest.raises(UserError, match="layer 'projection'"):
        clip.embed_texts(batch, "projection")


def test_halves_are_data2vecs_image_and_text_models(tmp_path: Path) -> None:
    image, text, *_ = small_students.d2v2_files(tmp_path)
    halves = open_dual_encoder(None, root=tmp_path, image_model=f"d2v2:{image}", text_model=f"d2v2:{text}")
    assert isinstance(halves, Halves) and halves.identity()["image"] != halves.identity()["text"]
    side = halves.picture_transform.size[0]
    pixels = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    pictures, words = halves.embed_images({"pixels": pixels}), halves.embed_texts(halves.tokenize(TEXTS[:2]))
    assert pictures.shape == words.shape == (2, WIDTH)
    swapped = open_dual_encoder(None, root=tmp_path, image_model=f"d2v2:{text}", text_model=f"d2v2:{image}")
    with pytest.raises(UserError, match="gives no vector of pictures"):
        swapped.embed_images({"pixels": pixels})
    with pytest.raises(UserError, match="two halves are needed"):
        open_dual_encoder(None, root=tmp_path, image_model=f"d2v2:{image}")


def test_a_run_may_be_one_half(tmp_path: Path) -> None:
    student = finished_run(tmp_path)
    image = small_students.d2v2_files(tmp_path / "d2v2")[0]
    halves = open_dual_encoder(None, root=tmp_path, image_model=f"d2v2:{image}", text_model="run")
    tokens = student.tokenize(TEXTS)
    assert torch.equal(halves.embed_texts(tokens), student.embed_texts(tokens))
    assert halves.image_signal is None


def test_a_name_that_is_none_is_an_error(tmp_path: Path) -> None:
    finished_run(tmp_path)
    with pytest.raises(UserError, match="did you mean 'run'"):
        open_dual_encoder("runn", root=tmp_path)
    assert isinstance(artifacts.open_artifact(tmp_path, "run", "run"), Artifact)
