"""Train the tiny image teacher in mmkd_cli/assets/tiny-image-teacher: a small ResNet that says what is in a scene.

    python examples/tiny/image_teacher.py

It learns, from scenes of the training split of a world of its own, linear maps from its pooled feature to a full
description: which colours and shapes are there, where, how large, how filled, how they lie to one another, how many,
on what ground. The folder it writes is timm's own: timm.create_model("local-dir:FOLDER", pretrained=True).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from mmkd_cli import scenes
from mmkd_cli.scenes import Scene

ARCHITECTURE = "resnet10t"
MODEL_ARGS = {
    "num_classes": 0,
    "layers": [1, 1, 1, 1],
    "channels": [48, 96, 128, 256],
    "stem_width": 16,
    "stem_type": "deep",
}
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]
PAIR_RELATIONS = ("left of", "above", "inside", "touching")
ASSET = Path(__file__).resolve().parents[2] / "mmkd_cli" / "assets" / "tiny-image-teacher"

GROUPS: dict[str, tuple[tuple[str, ...], ...]] = {
    "colour-shape": (scenes.COLOURS, scenes.SHAPES),
    "colour-position": (scenes.COLOURS, scenes.POSITIONS),
    "shape-position": (scenes.SHAPES, scenes.POSITIONS),
    "colour-size": (scenes.COLOURS, scenes.SIZES),
    "shape-size": (scenes.SHAPES, scenes.SIZES),
    "colour-fill": (scenes.COLOURS, scenes.FILLS),
    "shape-fill": (scenes.SHAPES, scenes.FILLS),
    "colour-relation-colour": (scenes.COLOURS, PAIR_RELATIONS, scenes.COLOURS),
    "shape-relation-shape": (scenes.SHAPES, PAIR_RELATIONS, scenes.SHAPES),
    "count": (("1", "2", "3", "4"),),
    "ground": (scenes.GROUND_COLOURS, scenes.TEXTURES),
}
"""The description: every combination of the words of a group is true of a scene or not."""

BITS: dict[tuple[str, ...], int] = {}
for group, axes in GROUPS.items():
    for words in np.array(np.meshgrid(*axes, indexing="ij")).reshape(len(axes), -1).T.tolist():
        BITS[(group, *words)] = len(BITS)


def description_bits(scene: Scene) -> list[int]:
    """Positions in BITS of all that is true of a scene."""
    true = [("count", str(len(scene.objects))), ("ground", scene.ground.colour, scene.ground.texture)]
    for item in scene.objects:
        place = scenes.position(item)
        true.append(("colour-shape", item.colour, item.shape))
        true += [("colour-position", item.colour, place), ("shape-position", item.shape, place)]
        true += [("colour-size", item.colour, item.size), ("shape-size", item.shape, item.size)]
        true += [("colour-fill", item.colour, item.fill), ("shape-fill", item.shape, item.fill)]
    for subject, name, other in scenes.relations(scene):
        if name in PAIR_RELATIONS:
            a, b = scene.objects[subject], scene.objects[other]
            true.append(("colour-relation-colour", a.colour, name, b.colour))
            true.append(("shape-relation-shape", a.shape, name, b.shape))
    return [BITS[words] for words in true]


def batch(seed: int, split: str, start: int, count: int) -> tuple[Tensor, Tensor, list[Scene]]:
    """Rows [start, start + count) of a split: pictures [B, 3, 64, 64], descriptions [B, bits] of 0 and 1, scenes."""
    rows = [scenes.scene(seed, index, split) for index in range(start, start + count)]
    pictures = torch.from_numpy(np.stack([scenes.draw(row) for row in rows])).permute(0, 3, 1, 2).float() / 255
    pictures = (pictures - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    targets = torch.zeros(count, len(BITS))
    for row, scene in enumerate(rows):
        targets[row, description_bits(scene)] = 1.0
    return pictures.contiguous(memory_format=torch.channels_last), targets, rows


def train(seed: int, steps: int, batch_size: int, peak_lr: float) -> tuple[nn.Module, nn.Linear]:
    """The model and its linear head after `steps` batches of scenes, each seen once."""
    torch.manual_seed(seed)
    model = timm.create_model(ARCHITECTURE, pretrained=False, **MODEL_ARGS).to(memory_format=torch.channels_last)
    head = nn.Linear(model.num_features, len(BITS))
    nn.init.constant_(head.bias, -3.0)
    parameters = [*model.parameters(), *head.parameters()]
    decay = [p for p in parameters if p.ndim > 1]
    plain = [p for p in parameters if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak_lr, total_steps=steps, pct_start=0.1)
    model.train()
    started = time.monotonic()
    for step in range(steps):
        pictures, targets, _ = batch(seed, "train", step * batch_size, batch_size)
        logits = head(model(pictures))
        loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / batch_size
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 20.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step} of {steps}, loss {loss.item():.2f}, {time.monotonic() - started:.0f} s", flush=True)
    return model.eval(), head.eval()


@torch.no_grad()
def features(model: nn.Module, seed: int, split: str, count: int) -> tuple[Tensor, Tensor, list[Scene]]:
    """Pooled features [count, d], descriptions [count, bits] and scenes of the first rows of a split."""
    parts = [batch(seed, split, start, min(250, count - start)) for start in range(0, count, 250)]
    pooled = torch.cat([model(pictures) for pictures, _, _ in parts])
    return pooled, torch.cat([targets for _, targets, _ in parts]), [scene for _, _, rows in parts for scene in rows]


def first_object_labels(rows: list[Scene]) -> dict[str, Tensor]:
    """Labels of the most prominent object and of the picture: {name: [n]}."""
    first = [row.objects[0] for row in rows]
    return {
        "shape": torch.tensor([scenes.SHAPES.index(item.shape) for item in first]),
        "colour": torch.tensor([scenes.COLOURS.index(item.colour) for item in first]),
        "size": torch.tensor([scenes.SIZES.index(item.size) for item in first]),
        "fill": torch.tensor([scenes.FILLS.index(item.fill) for item in first]),
        "position": torch.tensor([scenes.POSITIONS.index(scenes.position(item)) for item in first]),
        "count": torch.tensor([len(row.objects) - 1 for row in rows]),
        "ground": torch.tensor([scenes.GROUND_COLOURS.index(row.ground.colour) for row in rows]),
        "texture": torch.tensor([scenes.TEXTURES.index(row.ground.texture) for row in rows]),
    }


def linear_probe(train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor) -> float:
    """Percent right of a logistic regression on standardised features (L-BFGS, 60 iterations)."""
    mean, std = train_x.mean(0), train_x.std(0) + 1e-6
    train_x, test_x = (train_x - mean) / std, (test_x - mean) / std
    torch.manual_seed(0)
    probe = nn.Linear(train_x.shape[1], int(train_y.max()) + 1)
    optimizer = torch.optim.LBFGS(probe.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(probe(train_x), train_y) + 1e-4 * probe.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return 100.0 * (probe(test_x).argmax(1) == test_y).float().mean().item()


def description_recall(head: nn.Linear, x: Tensor, targets: Tensor) -> float:
    """Percent of pictures whose own description is the likeliest of all the rows'."""
    logits = head(x).detach()
    scores = logits @ targets.T - F.softplus(logits).sum(1, keepdim=True)
    return 100.0 * (scores.argmax(1) == torch.arange(len(x))).float().mean().item()


def save(model: nn.Module, folder: Path) -> None:
    """Weights in float16 and timm's config."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()
    }
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    config = {
        "architecture": ARCHITECTURE,
        "num_classes": 0,
        "num_features": model.num_features,
        "global_pool": "avg",
        "model_args": MODEL_ARGS,
        "pretrained_cfg": {
            "input_size": [3, 64, 64],
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": MEAN,
            "std": STD,
            "num_classes": 0,
            "pool_size": [2, 2],
            "first_conv": "conv1.0",
            "classifier": "fc",
            "license": "apache-2.0",
        },
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ASSET)
    parser.add_argument("--seed", type=int, default=1000, help="the world and the first weights; demos use seed 0")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--peak-lr", type=float, default=2.5e-3)
    parser.add_argument("--probe-rows", type=int, default=4000, help="training scenes of the linear probes")
    parser.add_argument("--val-rows", type=int, default=2000, help="scenes they are measured on, a split")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    started = time.monotonic()
    model, head = train(arguments.seed, arguments.steps, arguments.batch_size, arguments.peak_lr)
    minutes = (time.monotonic() - started) / 60
    save(model, arguments.out)

    model = timm.create_model(f"local-dir:{arguments.out}", pretrained=True).eval()
    train_x, _, train_rows = features(model, 0, "train", arguments.probe_rows)
    train_labels = first_object_labels(train_rows)
    report: dict[str, dict[str, float]] = {}
    for name, split, keep in (("val", "val", "seen"), ("test, held-out combinations", "test", "held_out")):
        x, targets, rows = features(model, 0, split, arguments.val_rows)
        kept = torch.tensor([row.combination == keep for row in rows])
        x, targets = x[kept], targets[kept]
        labels = first_object_labels([row for row in rows if row.combination == keep])
        report[name] = {key: linear_probe(train_x, train_labels[key], x, labels[key]) for key in labels}
        report[name]["description R@1 of up to 1,000"] = description_recall(head, x[:1000], targets[:1000])
    rounded = {name: {key: round(value, 1) for key, value in row.items()} for name, row in report.items()}
    print(json.dumps({"minutes": round(minutes, 1), **rounded}, indent=2))


if __name__ == "__main__":
    main()
