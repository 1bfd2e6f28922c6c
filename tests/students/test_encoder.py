"""The student of one modality: which blocks it has, and that all of them say what their teacher says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mmkd_cli.core.config import validate
from mmkd_cli.losses.layer_mean import layer_mean_per_token
from mmkd_cli.students.encoder import Encoder, EncoderConfig
from mmkd_cli.teachers.d2v2 import D2v2, D2v2Config
from mmkd_cli.teachers.text_encoder import TextEncoderTeacher, TextEncoderTeacherConfig
from tests.students import small_students

DEPTH = 4
TEXTS = ["a dog runs", "two cats sleep on the bed", "a"]


def teacher_and_student(folder: Path, case: str, tap: str, **keys: Any) -> tuple[Any, EncoderConfig]:
    image, text, *_ = small_students.d2v2_files(folder, DEPTH)
    if case == "bert":
        bert = small_students.bert_folder(folder / "bert", DEPTH)
        made: Any = TextEncoderTeacher(TextEncoderTeacherConfig(weights=str(bert), max_tokens=20))
    else:
        weights = {"image": image, "d2v2": text}[case]
        table = {"weights": str(weights), "heads": small_students.HEADS, "max_tokens": 20, "layer_tap": tap}
        made = D2v2(validate(D2v2Config, table))
    made.load("cpu")
    student = EncoderConfig(
        modality="image" if case == "image" else "text", text="d2v2" if case == "d2v2" else "transformers",
        width=small_students.WIDTH, heads=small_students.HEADS, image_size=32, vocabulary=small_students.BPE_TOKENS,
        **{"depth": DEPTH, **keys},
    )  # fmt: skip
    return made, student.beside(made.config)


def batch_of(teacher: Any, student: Encoder) -> dict[str, Any]:
    if student.config.modality == "text":
        return student.tokenize(TEXTS)
    draw = torch.Generator().manual_seed(0)
    return {"pixels": torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=draw)}


@pytest.mark.parametrize(
    ("case", "tap"), [("image", "ffn"), ("image", "block"), ("d2v2", "ffn"), ("d2v2", "block"), ("bert", "block")]
)
def test_a_student_with_all_of_the_blocks_says_what_its_teacher_says(tmp_path: Path, case: str, tap: Any) -> None:
    teacher, config = teacher_and_student(tmp_path, case, tap)
    student = Encoder.build(config).eval()
    batch = batch_of(teacher, student)
    target = teacher(batch, ["layer_mean"])["layer_mean"]
    said = student(batch, tap)
    for row, theirs in enumerate(target):
        own = said[row, : len(theirs)]
        torch.testing.assert_close(own, theirs, atol=2e-5, rtol=1e-4)
        assert layer_mean_per_token(own, theirs, final_norm=True).max() < 1e-7
    other = student(batch, "block" if tap == "ffn" else "ffn")
    assert case == "bert" or not torch.allclose(other, said, atol=1e-2)


@pytest.mark.parametrize("case", ["image", "d2v2", "bert"])
def test_every_second_block_and_where_gradients_go(tmp_path: Path, case: str) -> None:
    _, config = teacher_and_student(tmp_path, case, "ffn", depth=2, blocks="alternate")
    whole = Encoder.build(config.model_copy(update={"depth": DEPTH, "blocks": "first"}))
    student = Encoder.build(config)

    def blocks(encoder: Encoder) -> Any:
        return encoder.body.model.encoder.layer if case == "bert" else encoder.body.blocks

    for ours, theirs in zip(blocks(student), list(blocks(whole))[::2], strict=True):
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one, other)
    batch = batch_of(None, student)
    said = student(batch, "block")
    layer_mean_per_token(said, torch.randn_like(said), final_norm=True).mean().backward()
    for name, parameter in student.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached == parameter.requires_grad, name
    assert {name for name, p in student.named_parameters() if not p.requires_grad} == (
        {"body.embed.positions"} if case == "image" else set()
    )


def test_a_random_bert_has_the_students_dropout_and_its_folder_decides_its_sizes(tmp_path: Path) -> None:
    folder = small_students.bert_folder(tmp_path / "bert", DEPTH)
    config = EncoderConfig(modality="text", weights=str(folder), init="random", depth=2, max_tokens=20)
    student = Encoder.build(config)
    assert {part.p for part in student.modules() if isinstance(part, torch.nn.Dropout)} == {0.0}
    assert len(student.body.model.encoder.layer) == 2 and next(student.parameters()).dtype == torch.float32
    assert Encoder.files(config)["student.weights"] == str(folder)
