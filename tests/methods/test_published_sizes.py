"""The full-size configurations resolve, and build the models that the notes describe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mmkd_cli.cli.options import file_layers
from mmkd_cli.core import config as configs
from mmkd_cli.stages import distill, finetune

FOLDER = Path(__file__).parents[2] / "examples" / "mm-d2v2"
BLOCK, IMAGE_EMBEDDING, TEXT_EMBEDDING = 7_087_872, 592_896 + 150_528, 38_999_808
BERT_EMBEDDING = (30_522 + 512 + 2 + 2) * 768  # words, positions, types, and the norm
SHARED = BLOCK - 768  # keys have no bias
MLP = 768 * 3072 + 3072 + 2 * 3072 + 3072 * 768 + 768
HEAD = 2 * 768 + 768 * 1000 + 1000
ATTENTION = 4 * 768 * 768 + 4 * 768
PROJECTION, LOGIT_SCALE = 768 * 768, 1


def resolved(path: Path) -> distill.Config:
    values = configs.read_toml(path)
    assert values.pop("stage") == "distill"
    return configs.resolve(distill.Config, [configs.Layer(path.name, values)]).config


def tuning(path: Path) -> finetune.Config:
    values = configs.read_toml(path)
    return configs.resolve(finetune.Config, [configs.Layer(path.name, {k: values[k] for k in values if k != "stage"})]
                           ).config  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "trainable", "frozen", "published"),
    [
        ("c", 7 * BLOCK, TEXT_EMBEDDING, (49.6, 88.6)),
        ("d", 7 * BLOCK + 2 * PROJECTION + LOGIT_SCALE, TEXT_EMBEDDING, (50.8, 89.8)),
        ("e", 11 * BLOCK, IMAGE_EMBEDDING + TEXT_EMBEDDING, (77.97, 117.7)),
        ("f", 11 * BLOCK, IMAGE_EMBEDDING + TEXT_EMBEDDING, (77.97, 117.7)),
        ("g", 11 * BLOCK, IMAGE_EMBEDDING + TEXT_EMBEDDING, (77.97, 117.7)),
        ("j-shared-init", 11 * BLOCK, IMAGE_EMBEDDING + TEXT_EMBEDDING, (77.97, 117.7)),
        ("j-embeddings", 11 * BLOCK + IMAGE_EMBEDDING - 150_528 + TEXT_EMBEDDING, 150_528, (117.56, 117.7)),
        ("j-weight-decay", 11 * BLOCK, IMAGE_EMBEDDING + TEXT_EMBEDDING, (77.97, 117.7)),
        ("j-attention", 11 * BLOCK - 5 * ATTENTION, IMAGE_EMBEDDING + TEXT_EMBEDDING, (66.15, 105.9)),
        ("j-mean", 11 * BLOCK, IMAGE_EMBEDDING + TEXT_EMBEDDING, (77.97, 117.7)),
        ("j-token-types", 11 * BLOCK + 4 * 768, IMAGE_EMBEDDING + TEXT_EMBEDDING, (77.97, 117.7)),
        ("h", 12 * BLOCK, IMAGE_EMBEDDING + TEXT_EMBEDDING, (85.05, 124.8)),
        ("i", 13 * BLOCK, IMAGE_EMBEDDING + TEXT_EMBEDDING, (92.14, 131.9)),
        ("k", 11 * BLOCK + 2 * PROJECTION, IMAGE_EMBEDDING + TEXT_EMBEDDING, (79.1, 118.9)),
        ("l", 11 * BLOCK + PROJECTION + LOGIT_SCALE, IMAGE_EMBEDDING + TEXT_EMBEDDING, (78.6, 118.3)),
    ],
)
def test_full_size_counts(variant: str, trainable: int, frozen: int, published: tuple[float, float]) -> None:
    path = FOLDER / "configs" / f"{variant}.toml"
    counted = distill.describe(resolved(path))
    assert counted["parameters"] == {"total": trainable + frozen, "trainable": trainable}
    assert counted["parameters"]["trainable"] / 1e6 == pytest.approx(published[0], rel=0.005)
    assert counted["parameters"]["total"] / 1e6 == pytest.approx(published[1], rel=0.005)
    assert 85e6 < counted["teacher_parameters"] < 87e6
    said = re.search(r"# ([\d.]+) of ([\d.]+) M parameters are trained", path.read_text())
    assert said is not None and (float(said[1]), float(said[2])) == published


@pytest.mark.parametrize(
    ("variant", "trainable", "total", "published", "teacher"),
    [
        ("a", IMAGE_EMBEDDING - 150_528 + 6 * BLOCK, IMAGE_EMBEDDING + 6 * BLOCK, 43.1, 85.8),
        ("b", BERT_EMBEDDING + 6 * BLOCK, BERT_EMBEDDING + 6 * BLOCK, 66.4, 108.9),
        ("b-prime", TEXT_EMBEDDING + 6 * BLOCK, TEXT_EMBEDDING + 6 * BLOCK, 81.5, 124.1),
    ],
)
def test_full_size_counts_of_one_modality(
    variant: str, trainable: int, total: int, published: float, teacher: float
) -> None:
    path = FOLDER / "configs" / f"{variant}.toml"
    counted = distill.describe(resolved(path))
    assert counted["parameters"] == {"total": total, "trainable": trainable}
    assert total / 1e6 == pytest.approx(published, rel=0.005)
    assert counted["teacher_parameters"] / 1e6 == pytest.approx(teacher, rel=0.005)
    assert f"# {trainable / 1e6:.2f} of {total / 1e6:.2f} M parameters are trained" in path.read_text()


@pytest.mark.parametrize("variant", ["t", "t1", "t2", "t3", "u1", "u2", "v", "w", "x"])
def test_full_size_counts_of_s_smke(variant: str) -> None:
    path = FOLDER / "configs" / f"{variant}.toml"
    config = resolved(path)
    shared = SHARED + (2 * 768 if config.student.layer_scale else 0)
    types = 0 if config.student.token_types == "none" else 2 * 768
    head = 2 * 768 + 768 * 768 + 768
    trainable = IMAGE_EMBEDDING - 150_528 + BERT_EMBEDDING + 12 * BLOCK + shared + types + head + 2
    trainable += 768 * 32 + 32 if variant == "v" else 0
    total = trainable + 150_528
    if variant == "u2":  # and a moving average of all of it
        total *= 2
    assert distill.describe(config)["parameters"] == {"total": total, "trainable": trainable}
    assert trainable / 1e6 == pytest.approx(117.2, rel=0.005)
    assert f"# {trainable / 1e6:.2f} of {total / 1e6:.2f} M parameters are trained" in path.read_text()


@pytest.mark.parametrize(
    ("variant", "published", "added"),
    [
        *((variant, 115.0, MLP + HEAD + 3) for variant in "qrmn"),
        ("s", 117.4, SHARED + HEAD + 1),
        ("y1", 117.4, SHARED + 4 * 768 + HEAD + 2),
        *((variant, 117.2, SHARED + 4 * 768 + 2 * 768 + 768 * 768 + 768 + 2) for variant in ("y2", "y3")),
        ("y4", 116.6, SHARED + 4 * 768 + 2),
    ],
)
def test_full_size_counts_of_shre_and_of_other_teachers(variant: str, published: float, added: int) -> None:
    path = FOLDER / "configs" / f"{variant}.toml"
    counted = distill.describe(resolved(path))
    trainable = IMAGE_EMBEDDING - 150_528 + BERT_EMBEDDING + 12 * BLOCK + added
    assert counted["parameters"] == {"total": trainable + 150_528, "trainable": trainable}
    assert trainable / 1e6 == pytest.approx(published, rel=0.005)
    assert f"# {trainable / 1e6:.2f} of {(trainable + 150_528) / 1e6:.2f} M parameters" in path.read_text()
    assert (counted["teacher_parameters"] == 0) == (variant == "y4")


def test_full_size_counts_on_beits_blocks() -> None:
    path = FOLDER / "configs" / "j-relative-positions.toml"
    expert = 2 * 768 + 2 * 768 * 3072 + 3072 + 768 + 768
    attention = ATTENTION - 768 + 2 * 768 + 768  # keys have no bias; a norm and LayerScale
    positions = 12 * (27 * 27 + 3 + 2 * 64)
    embedding = 768 * 768 + 768 + 768 + 50_265 * 768 + 2 * 768 + positions
    total = embedding + 5 * (attention + 2 * expert) + attention + expert + 2 * 768
    counted = distill.describe(resolved(path))
    assert counted["parameters"] == {"total": total, "trainable": total}
    assert f"# {total / 1e6:.2f} of {total / 1e6:.2f} M parameters are trained" in path.read_text()


TAP_MAPS = 2 * (768 * 768 + 3072 * 3072)


@pytest.mark.parametrize(
    ("variant", "blocks", "added", "published"),
    [
        ("o", 14, 768 * 3072 + 3072 + 2 * 3072 + 3072 * 1000 + 1000 + 1, 144),
        ("p", 12, SHARED + 2 * 768 + HEAD + 2, 132),
        ("p-sx3hre", 12, SHARED + 2 * 768 + 2, 131),
        ("p-mse-head", 12, SHARED + 2 * 768 + 2 * 768 + 768 * 768 + 768 + 2, 132),
        ("p-itc-heads", 12, SHARED + 2 * 768 + TAP_MAPS + 2, 151),
    ],
)
def test_full_size_counts_before_the_thesis(variant: str, blocks: int, added: int, published: int) -> None:
    """The notes cut millions, and do not round them."""
    path = FOLDER / "configs" / f"{variant}.toml"
    total = IMAGE_EMBEDDING + TEXT_EMBEDDING + blocks * BLOCK + added
    assert distill.describe(resolved(path))["parameters"] == {"total": total, "trainable": total - 150_528}
    assert total // 1_000_000 == published
    assert f"# {(total - 150_528) / 1e6:.2f} of {total / 1e6:.2f} M parameters" in path.read_text()


SHOWN = sorted({*FOLDER.rglob("*.toml")} - {*FOLDER.glob("claim/*")})
"""Those of the notes and the thesis, and of photos."""


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.stem)
def test_every_configuration_resolves(path: Path) -> None:
    stage = configs.read_toml(path)["stage"]
    config = resolved(path) if stage == "distill" else tuning(path)
    assert config.student is not None and config.train.batch_size in (256, 512, 1024)
    assert re.match(rf"# mmkd {stage} --config examples/mm-d2v2/[\w./-]+\.toml", path.read_text().splitlines()[0])


def test_z_is_x_tuned_by_its_preset_without_the_head() -> None:
    config = tuning(FOLDER / "configs/z.toml")
    preset = configs.resolve(finetune.Config, file_layers("finetune", None, "z", "retrieval")).config
    assert config.task == preset.task and config.train == preset.train
    assert finetune.describe(config) == {}  # x says what it is
    x = resolved(FOLDER / "configs/x.toml")
    counted = finetune.describe(config.model_copy(update={"model": None, "student": x.student}))["parameters"]
    head = 2 * 768 + 768 * 768 + 768
    assert counted["trainable"] == distill.describe(x)["parameters"]["trainable"] - head - LOGIT_SCALE
