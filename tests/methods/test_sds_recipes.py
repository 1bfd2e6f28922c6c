"""SDS-CLIP's full-size configurations and presets: what they train, and what the method brings by itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mmkd_cli.cli.options import file_layers
from mmkd_cli.core import config as configs
from mmkd_cli.core.errors import UserError
from mmkd_cli.stages import distill

FOLDER = Path(__file__).parents[2] / "examples" / "sds-clip"
STABLE_DIFFUSION = 859_520_964 + 83_653_863 + 123_060_480
LATENT = 4 * 64 * 64


def resolved(*layers: Any) -> configs.Resolved:
    return configs.resolve(distill.Config, list(layers))


def of_file(path: Path, **more: Any) -> Any:
    return resolved(*file_layers("distill", path, None), configs.Layer("test", more)).config


@pytest.mark.parametrize(
    ("name", "total", "norms", "batch_norms", "width"),
    [
        ("vit-b-16", 149_620_737, 65_536, 0, 512),
        ("vit-b-32", 151_277_313, 65_536, 0, 512),
        ("vit-l-14", 427_616_513, 140_800, 0, 768),
        ("rn50", 102_007_137, 25_600, 53_248, 1024),
    ],
)
def test_full_size_counts(name: str, total: int, norms: int, batch_norms: int, width: int) -> None:
    path = FOLDER / f"{name}.toml"
    h_w = (width + 1) * LATENT
    counted = distill.describe(of_file(path))
    assert counted["parts"] == {"clip": {"total": total, "trainable": norms}, "h_w": {"total": h_w, "trainable": h_w}}
    assert counted["parameters"] == {"total": total + h_w, "trainable": norms + h_w}
    assert counted["teacher_parameters"] == STABLE_DIFFUSION
    said = re.search(r"([\d,]+) parameters of CLIP are trained, ([\d,]+) of h_w", path.read_text())
    assert said is not None and [int(n.replace(",", "")) for n in said.groups()] == [norms, h_w]
    both = distill.describe(of_file(path, method={"name": "sds", "tune": "norms+batchnorm"}))
    assert both["parts"]["clip"]["trainable"] == norms + batch_norms
    control = distill.describe(of_file(path, method={"name": "contrastive"}))
    assert control["parameters"] == {"total": total, "trainable": norms} and "h_w" not in control["parts"]


def test_the_cls_of_a_vit_is_wider_and_the_second_version_has_larger_latents() -> None:
    path = FOLDER / "vit-b-32.toml"
    cls = distill.describe(of_file(path, method={"embedding": "cls"}))["parts"]["h_w"]["total"]
    assert cls == (768 + 1) * LATENT
    second = distill.describe(of_file(path, teacher={"version": "2.1"}))
    assert second["parts"]["h_w"]["total"] == (512 + 1) * 4 * 96 * 96
    everything = distill.describe(of_file(path, method={"tune": "all"}))["parts"]["clip"]
    assert everything["trainable"] == everything["total"] - 1  # the logit scale


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_configuration_is_the_published_recipe(path: Path) -> None:
    train = of_file(path).train
    assert (train.epochs, train.batch_size, train.optimizer, train.peak_lr) == (5, 32, "adam", 5e-5)
    assert (train.schedule, train.warmup_ratio, train.weight_decay, train.clip_norm) == ("constant", 0.0, 0.0, None)
    assert re.match(r"# mmkd distill --config examples/sds-clip/[\w./-]+\.toml", path.read_text().splitlines()[0])


def preset(name: str, named: str | None = None, **more: Any) -> configs.Resolved:
    return resolved(*file_layers("distill", None, name, named), configs.Layer("flag", more))


def test_presets_differ_where_the_sources_do() -> None:
    keys = {name: preset(f"sds/{name}").config.method for name in ("paper", "summary", "summary-literal")}
    assert [(k.embedding, k.tune, k.noise_input, k.projection_lr) for k in keys.values()] == [
        ("cls", "norms", True, None), ("projected", "norms", True, None), ("projected", "all", False, 0.0),
    ]  # fmt: skip
    assert all(k.sds_weight == 0.001 and k.jacobian == "full" and k.reduction == "sum" for k in keys.values())
    assert [k.train_logit_scale for k in keys.values()] == [False, False, True]


def test_a_methods_preset_needs_no_prefix_where_the_method_is_named() -> None:
    assert preset("paper", "sds").config.model_dump() == preset("sds/paper").config.model_dump()
    with pytest.raises(UserError, match=r"preset 'paper' of distill is not known \(did you mean 'sds/paper'"):
        preset("paper")
    arm = preset("sds/paper", "contrastive", method={"name": "contrastive"}).config
    assert arm.method.name == "contrastive" and arm.train == preset("sds/paper").config.train


def test_a_method_brings_its_recipe_below_everything_that_is_said() -> None:
    found = resolved(configs.Layer("flag", {"method": {"name": "sds"}, "train": {"epochs": 2}}))
    assert found.config.student.name == "clip" and found.origins["student.name"] == "method sds"
    assert found.config.train.batch_size == 32 and found.origins["train.batch_size"] == "method sds"
    assert found.config.train.epochs == 2 and found.origins["train.epochs"] == "flag"
    other = resolved(configs.Layer("flag", {"method": {"name": "cls-regression"}}))
    assert other.config.student.name == "unimodal" and other.config.train.batch_size == 256
    assert other.origins["train.batch_size"] == "default"
