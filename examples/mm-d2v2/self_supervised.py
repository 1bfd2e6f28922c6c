"""Train the three teachers of claim-scenes.sh: the same small ViT, which learnt from pictures alone in three ways.

    python self_supervised.py --out FOLDER

beit2: masked patches' words are named, by the last layer, and again by two more blocks that see the last layer's CLS
with the patches of an earlier one, so that the CLS must say what is in the picture (BEiT v2, arXiv 2208.06366,
section 3.2). VQ-KD's words quantise what CLIP says of a patch; here they are k-means codes of its pixels: nothing of
language is in them. d2v2: masked patches regress the mean of the last layers of the model's moving average, which sees
the whole picture; the CLS, with a weight of 0.01, the mean of those (data2vec 2.0, arXiv 2212.07525; one mask a picture
and no decoder). dino: the CLS of two large crops and two small ones agrees with the moving average's of the large ones,
centred and sharpened (DINO, arXiv 2104.14294; crops and flips, the colours stay: captions name them).

Architecture, pictures, their order and number, optimiser and schedule are the same; what a step costs is not. Killed,
it goes on with the teacher that it was at. The folders are timm's: timm.create_model("local-dir:FOLDER/beit2").
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tiny"))
from training import MEAN, STD, pixels, train

from mmkd_cli import scenes

ARCHITECTURE = "vit_base_patch16_224"
MODEL_ARGS = {
    "img_size": 64, "patch_size": 8, "embed_dim": 128, "depth": 4, "num_heads": 4, "num_classes": 0,
    "global_pool": "token", "dynamic_img_size": True,
}  # fmt: skip
PATCH, PATCHES = 8, 64
WORDS = 256
MASKED = 26
"""Of 64 patches: the 40 % of BEiT."""


def new_vit() -> nn.Module:
    model: nn.Module = timm.create_model(ARCHITECTURE, pretrained=False, **MODEL_ARGS)
    return model


def patches(x: Tensor) -> Tensor:
    """[B, 3, 64, 64] -> [B, 64, 192]."""
    return F.unfold(x, PATCH, stride=PATCH).transpose(1, 2)


def masks(count: int, generator: torch.Generator) -> Tensor:
    """bool [B, 64]: MASKED patches of each picture, a block of 4 x 4 and others at random."""
    scores = torch.rand(count, PATCHES, generator=generator)
    corner = torch.randint(0, 5, (2, count), generator=generator)
    place = torch.arange(PATCHES)
    down, across = place // 8 - corner[0][:, None], place % 8 - corner[1][:, None]
    scores[(down >= 0) & (down < 4) & (across >= 0) & (across < 4)] += 1
    return scores.argsort(1, descending=True).argsort(1) < MASKED


def layers(vit: Any, x: Tensor, masked: Tensor | None = None, token: Tensor | None = None) -> list[Tensor]:
    """What each block gives, [B, 1 + patches, D]; masked patches are replaced by the token."""
    x = vit.patch_embed(x)
    if masked is not None:
        x[:] = torch.where(masked.view(*x.shape[:3], 1), token, x)
    x, said = vit._pos_embed(x), []
    for block in vit.blocks:
        x = block(x)
        said.append(x)
    return said


class Beit2(nn.Module):
    """Names of masked patches, twice."""

    EARLY = 3

    def __init__(self, codes: Tensor) -> None:
        super().__init__()
        self.vit, width = new_vit(), MODEL_ARGS["embed_dim"]
        self.token = nn.Parameter(torch.zeros(width))
        self.aggregation = nn.Sequential(*(copy.deepcopy(new_vit().blocks[0]) for _ in range(2)))
        self.head = nn.Linear(width, WORDS)
        self.register_buffer("codes", codes)

    def loss(self, x: Tensor, masked: Tensor, step: int) -> Tensor:
        words = torch.cdist(patches(x), self.codes[None]).argmin(2)[masked]
        said = layers(self.vit, x, masked, self.token)
        bottleneck = self.aggregation(torch.cat([said[-1][:, :1], said[self.EARLY - 1][:, 1:]], 1))
        named = [self.head(self.vit.norm(tokens)[:, 1:][masked]) for tokens in (said[-1], bottleneck)]
        return F.cross_entropy(named[0], words) + F.cross_entropy(named[1], words)


class D2v2(nn.Module):
    """Layers of a moving average of itself, at masked patches."""

    AVERAGED, CLS_WEIGHT = 3, 0.01

    def __init__(self) -> None:
        super().__init__()
        self.vit, width = new_vit(), MODEL_ARGS["embed_dim"]
        self.token, self.head = nn.Parameter(torch.zeros(width)), nn.Linear(width, width)
        self.cls_head = nn.Linear(width, width)
        self.average = copy.deepcopy(self.vit).requires_grad_(False)

    def loss(self, x: Tensor, masked: Tensor, step: int) -> Tensor:
        follow(self.average, self.vit, 0.999 if step > 200 else 0.99)
        with torch.no_grad():
            of_layers = [F.instance_norm(said[:, 1:].transpose(1, 2)).transpose(1, 2)
                         for said in layers(self.average, x)[-self.AVERAGED :]]  # fmt: skip
            target = F.layer_norm(torch.stack(of_layers).mean(0), (MODEL_ARGS["embed_dim"],))
        said = self.vit.norm(layers(self.vit, x, masked, self.token)[-1])
        patch = F.mse_loss(self.head(said[:, 1:][masked]), target[masked])
        return patch + self.CLS_WEIGHT * F.mse_loss(self.cls_head(said[:, 0]), target.mean(1))


class Dino(nn.Module):
    """Crops of a picture agree on the CLS."""

    PROTOTYPES, TEACHER_HEAT, STUDENT_HEAT, CENTRE = 1024, 0.04, 0.1, 0.9

    def __init__(self) -> None:
        super().__init__()
        width = MODEL_ARGS["embed_dim"]
        head = nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, 64))
        prototypes = nn.utils.parametrizations.weight_norm(nn.Linear(64, self.PROTOTYPES, bias=False))
        prototypes.parametrizations.weight.original0.data.fill_(1.0).requires_grad_(False)
        self.student = nn.ModuleDict({"vit": new_vit(), "head": head, "prototypes": prototypes})
        self.average = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(self.PROTOTYPES))

    @property
    def vit(self) -> nn.Module:
        return self.student["vit"]

    def loss(self, crops: list[Tensor], masked: Tensor, step: int) -> Tensor:
        follow(self.average, self.student, 0.996 if step > 200 else 0.99)
        large = torch.cat(crops[:2])
        with torch.no_grad():
            taught = self._said(self.average, large)
            target = ((taught - self.centre) / self.TEACHER_HEAT).softmax(1).chunk(2)
            self.centre.mul_(self.CENTRE).add_(taught.mean(0), alpha=1 - self.CENTRE)
        said = [*self._said(self.student, large).chunk(2), *self._said(self.student, torch.cat(crops[2:])).chunk(2)]
        terms = [
            -(of_teacher * (of_student / self.STUDENT_HEAT).log_softmax(1)).sum(1).mean()
            for number, of_teacher in enumerate(target) for other, of_student in enumerate(said) if number != other
        ]  # fmt: skip
        return torch.stack(terms).mean()

    @staticmethod
    def _said(model: Any, x: Tensor) -> Tensor:
        cls = model["vit"].norm(layers(model["vit"], x)[-1][:, 0])
        logits: Tensor = model["prototypes"](F.normalize(model["head"](cls), dim=1))
        return logits


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, momentum: float) -> None:
    """The moving average goes on by a step."""
    for kept, now in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(now, 1 - momentum)


def crops(x: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Two large crops [B, 3, 64, 64] of 40 to 100 % of the area, two small ones [B, 3, 32, 32] of 10 to 40 %; half are
    mirrored."""
    made = []
    for side, least, most in ((64, 0.4, 1.0), (64, 0.4, 1.0), (32, 0.1, 0.4), (32, 0.1, 0.4)):
        edge = (least + (most - least) * torch.rand(len(x), generator=generator)).sqrt()
        shift = (1 - edge) * (2 * torch.rand(2, len(x), generator=generator) - 1)
        mirror = torch.where(torch.rand(len(x), generator=generator) < 0.5, -1.0, 1.0)
        nothing = torch.zeros(len(x))
        affine = torch.stack([edge * mirror, nothing, shift[0], nothing, edge, shift[1]], 1).view(-1, 2, 3)
        grid = F.affine_grid(affine, [len(x), 3, side, side], align_corners=False)
        made.append(F.grid_sample(x, grid, padding_mode="reflection", align_corners=False))
    return made


def pictures(seed: int, first: int, count: int) -> Tensor:
    """Training rows of the plain world [B, 3, 64, 64]."""
    return pixels([scenes.scene(seed, row, "train", plain=True) for row in range(first, first + count)])


def patch_words(seed: int) -> Tensor:
    """k-means of patches of 1,000 pictures, 20 rounds: [WORDS, 192]. A code that nothing is near begins anew."""
    generator = torch.Generator().manual_seed(seed)
    own = patches(pictures(seed, 0, 1000)).flatten(0, 1)
    own = own[torch.randperm(len(own), generator=generator)[:20_000]]
    codes = own[:WORDS].clone()
    for _ in range(20):
        nearest = torch.cdist(own, codes).argmin(1)
        counts = nearest.bincount(minlength=WORDS)
        sums = torch.zeros_like(codes).index_add_(0, nearest, own)
        again = own[torch.randint(len(own), (WORDS,), generator=generator)]
        codes = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], again)
    return codes


def save(model: nn.Module, folder: Path) -> None:
    """timm's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors")
    config = {
        "architecture": ARCHITECTURE, "num_classes": 0, "num_features": MODEL_ARGS["embed_dim"],
        "global_pool": "token", "model_args": MODEL_ARGS,
        "pretrained_cfg": {
            "input_size": [3, 64, 64], "fixed_input_size": False, "interpolation": "bicubic", "crop_pct": 1.0,
            "crop_mode": "center", "mean": MEAN, "std": STD, "num_classes": 0, "first_conv": "patch_embed.proj",
            "classifier": "head", "license": "apache-2.0",
        },
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


TEACHERS: dict[str, Callable[[int], nn.Module]] = {
    "beit2": lambda seed: Beit2(patch_words(seed)), "d2v2": lambda seed: D2v2(), "dino": lambda seed: Dino(),
}  # fmt: skip


def taught(name: str, arguments: argparse.Namespace) -> nn.Module:
    """The teacher's ViT after its steps."""
    torch.manual_seed(arguments.seed)
    model, count = TEACHERS[name](arguments.seed), arguments.batch_size

    def loss_of(step: int) -> Tensor:
        x = pictures(arguments.seed, step * count, count)
        generator = torch.Generator().manual_seed(arguments.seed * 1_000_003 + step)
        seen: Any = crops(x, generator) if name == "dino" else x
        loss: Tensor = model.loss(seen, masks(count, generator), step)
        return loss

    train(model, loss_of, arguments.work / f"{name}.pt", steps=arguments.steps, peak_lr=arguments.peak_lr,
          weight_decay=0.05, checkpoints=arguments.checkpoints)  # fmt: skip
    vit: nn.Module = model.vit
    return vit.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("tiny-work"), help="checkpoints, to go on from")
    parser.add_argument("--teachers", nargs="+", choices=[*TEACHERS], default=[*TEACHERS])
    parser.add_argument("--seed", type=int, default=3000, help="the world and the first weights; demos use seed 0")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--peak-lr", type=float, default=1e-3)
    parser.add_argument("--checkpoints", type=int, default=100, help="steps from one to the next")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    asked = {name: getattr(arguments, name) for name in ("seed", "steps", "batch_size", "peak_lr")}
    arguments.work.mkdir(parents=True, exist_ok=True)
    for name in arguments.teachers:
        folder, said = arguments.out / name, arguments.work / f"{name}.json"
        if said.is_file() and json.loads(said.read_text(encoding="utf-8")) != asked:
            sys.exit(f"{said}: {name} was begun with other arguments: name another --work and --out")
        said.write_text(json.dumps(asked) + "\n", encoding="utf-8")
        if folder.is_dir():
            print(f"{folder} is there")
            continue
        written = folder.with_name(f"{name}-unfinished")
        save(taught(name, arguments), written)
        written.rename(folder)
        print(f"{folder} is made")


if __name__ == "__main__":
    main()
