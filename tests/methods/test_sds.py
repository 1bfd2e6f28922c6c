"""SDS-CLIP: the loss against a short reference, what gets gradients, what stays as it was, and the control arm."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor

from mmkd_cli.core.contracts import Position
from mmkd_cli.core.errors import UserError
from mmkd_cli.losses.contrastive import info_nce
from mmkd_cli.methods.sds import Contrastive, Sds
from mmkd_cli.methods.sds_config import ContrastiveConfig, SdsConfig
from mmkd_cli.students.clip import ClipConfig
from mmkd_cli.students.unimodal import UnimodalConfig
from mmkd_cli.teachers.stable_diffusion import StableDiffusionConfig
from mmkd_cli.training.config import TrainConfig
from mmkd_cli.training.loop import train
from mmkd_cli.training.sampler import Streams
from tests.architectures.tiny_clip import tiny_clip
from tests.architectures.tiny_stable_diffusion import MAX_TOKENS, SIZE, WIDTH, stable_diffusion
from tests.pairs_in_memory import pairs

AT = Position(0, 0, 0)
LATENT = (4, SIZE, SIZE)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of every tiny model: epsilon, velocity; vit, resnet, transformers."""
    folder = tmp_path_factory.mktemp("models")
    stable_diffusion(folder / "epsilon")
    stable_diffusion(folder / "velocity", prediction_type="v_prediction", linear_projection=True)
    for kind in ("vit", "resnet", "transformers"):
        tiny_clip(folder / kind, kind)
    return folder


def stage(files: Path, kind: str = "vit", teacher: str = "epsilon", **keys: Any) -> Any:
    method = keys.pop("method", "sds")
    student = {"weights": str(files / kind)} if kind == "transformers" else {"arch": f"local-dir:{files / kind}"}
    rest = {name.removeprefix("train__"): keys.pop(name) for name in list(keys) if name.startswith("train__")}
    config = SdsConfig if method == "sds" else ContrastiveConfig
    keys = {name.replace("lambda_", "lambda"): value for name, value in keys.items()}
    return SimpleNamespace(
        method=config(**keys), student=ClipConfig(**student), live=False,
        teacher=StableDiffusionConfig(weights=str(files / teacher)),
        train=TrainConfig(**{"batch_size": 6, "optimizer": "adam", "peak_lr": 0.01, "schedule": "constant",
                             "warmup_ratio": 0.0, "weight_decay": 0.0, "max_steps": 4, **rest}),
    )  # fmt: skip


def data(**keys: Any) -> Any:
    return pairs(pictures=12, states=(MAX_TOKENS, WIDTH), **keys)


def built(config: Any, cls: Any = Sds, **keys: Any) -> Sds:
    made: Sds = cls.build(config, [data(**keys)], "cpu")
    return made


def loss_of(made: Sds, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum over a batch, and its parts."""
    outputs = made.forward(batch)
    parts = {name: rows.mean() for name, rows in outputs.row_losses.items()}
    if outputs.gathered:
        parts |= made.joint_losses(outputs.gathered)
    return torch.stack([made.weights[name] * value for name, value in parts.items()]).sum(), parts


def run(made: Sds, config: Any, folder: Path) -> list[dict[str, Any]]:
    """Train to the end; the lines of metrics.jsonl."""
    train(made, config.train, folder, device=torch.device("cpu"))
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def state_of(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


# ------------------------------------------------------------------------------------------------ the loss
@pytest.mark.parametrize("teacher", ["epsilon", "velocity"])
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"reduction": "mean", "embedding": "cls", "normalize": True},
        {"noise_input": False},
        {"w_t": "noise", "t_range": (20, 980), "jacobian": "skip"},
    ],
    ids=lambda keys: "-".join(keys) or "default",
)
def test_loss_and_gradient_are_those_of_a_short_reference(files: Path, teacher: str, keys: dict[str, Any]) -> None:
    made = built(stage(files, teacher=teacher, **keys))
    batch = made.feeds[0].load(np.arange(5), AT)
    loss, parts = loss_of(made, batch)
    loss.backward()

    unet = UNet2DConditionModel.from_pretrained(files / teacher / "unet").eval().requires_grad_(False)
    scheduler = DDPMScheduler.from_pretrained(files / teacher / "scheduler")
    clip, linear = made.model.clip, made.model.latent_map.linear
    pixels = made.model.picture_transform.normalize(batch["pixels"], torch.float32)
    image, cls = made.model.library.embed_images_with_cls(clip, pixels)
    text = clip.encode_text(batch["input_ids"])
    vectors = cls if keys.get("embedding") == "cls" else image
    if keys.get("normalize"):
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
    z, t, eps = linear(vectors).view(5, *LATENT), batch["timestep"], batch["noise"]
    given = scheduler.add_noise(z, eps, t) if keys.get("noise_input", True) else z
    skip = keys.get("jacobian") == "skip"
    said = unet(given.detach() if skip else given, t, batch["text_states"].float()).sample
    a = scheduler.alphas_cumprod[t].view(5, 1, 1, 1)
    if teacher == "velocity":
        said = a.sqrt() * said + (1 - a).sqrt() * (given.detach() if skip else given)
    weight = (1 - a) if keys.get("w_t") == "noise" else torch.ones_like(a)
    squared = (weight * (said - eps) ** 2).flatten(1)
    value = squared.mean() if keys.get("reduction") == "mean" else squared.sum(1).mean()
    assert parts["sds"].item() == pytest.approx(value.item(), rel=1e-4)
    contrastive = info_nce(image, text, 1 / 0.07, batch["picture"])
    assert parts["contrastive"].item() == pytest.approx(contrastive.item(), rel=1e-4)

    latent_term = (weight * (said - eps)).detach().mul(z).flatten(1).sum(1).mean() if skip else value
    wanted = [linear.weight, clip.visual.ln_post.weight, clip.transformer.resblocks[0].ln_1.bias]
    expected = torch.autograd.grad(contrastive + 0.001 * latent_term, wanted)
    for parameter, gradient in zip(wanted, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)
    first, last = keys.get("t_range", (0, 999))
    assert batch["timestep"].min() >= first and batch["timestep"].max() <= last


def test_without_the_jacobian_each_latents_gradient_is_the_weighted_error(files: Path) -> None:
    """To the last bit, with no factor of the schedule; before batch mean and reduction."""
    made = built(stage(files, jacobian="skip", w_t="noise"))
    seen: dict[str, Tensor] = {}
    made.model.latent_map.register_forward_hook(lambda m, i, out: (out.retain_grad(), seen.update(z=out))[0])
    made.denoiser.register_forward_hook(lambda m, i, out: seen.update(eps_hat=out))
    batch = made.feeds[0].load(np.arange(5), AT)
    made.forward(batch).row_losses["sds"].sum().backward()
    weight = (1 - made.denoiser.alphas_cumprod[batch["timestep"]]).view(5, 1, 1, 1)
    assert torch.equal(seen["z"].grad, weight * (seen["eps_hat"] - batch["noise"]))


def test_the_unet_sees_the_schedulers_noised_latent(files: Path) -> None:
    made = built(stage(files))
    seen: dict[str, Any] = {}
    made.model.latent_map.register_forward_hook(lambda m, i, out: seen.update(z=out))
    made.denoiser.register_forward_pre_hook(lambda m, given: seen.update(noisy=given[0]))
    batch = made.feeds[0].load(np.arange(5), AT)
    made.forward(batch)
    scheduler = DDPMScheduler.from_pretrained(files / "epsilon" / "scheduler")
    assert torch.equal(seen["noisy"], scheduler.add_noise(seen["z"], batch["noise"], batch["timestep"]))


def test_checkpointed_activations_and_a_half_precision_unet(files: Path) -> None:
    made, half = (built(stage(files, unet_precision=kind)) for kind in ("auto", "bfloat16"))
    assert all(m.gradient_checkpointing for m in made.denoiser.unet.modules() if hasattr(m, "gradient_checkpointing"))
    assert not built(stage(files, jacobian="skip")).denoiser.unet.down_blocks[0].gradient_checkpointing
    assert {p.dtype for p in half.denoiser.unet.parameters()} == {torch.bfloat16}
    batch = made.feeds[0].load(np.arange(5), AT)
    one, other = (m.forward(batch).row_losses["sds"] for m in (made, half))
    assert other.dtype == torch.float32
    torch.testing.assert_close(other, one, rtol=0.02, atol=0.0)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(made.forward(batch).row_losses["sds"], one, rtol=0.02, atol=0.0)
    assert {p.dtype for p in made.model.parameters()} == {torch.float32}


# ------------------------------------------------------------------------------------------------ what is trained
@pytest.mark.parametrize("jacobian", ["full", "skip"])
@pytest.mark.parametrize(
    ("kind", "tune"),
    [("vit", "norms"), ("transformers", "norms"), ("resnet", "norms+batchnorm"), ("vit", "image-norms"),
     ("transformers", "lora"), ("vit", "all"), ("resnet", "all")],
)  # fmt: skip
def test_gradients_are_exactly_in_what_is_tuned_and_in_h_w(files: Path, kind: str, tune: str, jacobian: Any) -> None:
    made = built(stage(files, kind, tune=tune, jacobian=jacobian))
    loss_of(made, made.feeds[0].load(np.arange(6), AT))[0].backward()
    for name, parameter in made.model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    assert all(p.grad is None and not p.requires_grad for p in made.denoiser.parameters())
    assert all(p.grad.abs().sum() > 0 for p in made.model.latent_map.parameters())


def test_the_sds_loss_alone_reaches_no_text_tower(files: Path) -> None:
    made = built(stage(files))
    made.forward(made.feeds[0].load(np.arange(6), AT)).row_losses["sds"].sum().backward()
    reached = {name for name, p in made.model.clip.named_parameters() if p.grad is not None}
    assert reached and all(name.startswith("visual.") for name in reached)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_after_a_step_all_that_is_frozen_has_the_same_bits(files: Path, tmp_path: Path, kind: str) -> None:
    config = stage(files, kind, tune="norms+batchnorm", train__max_steps=2)
    made = built(config)
    clip, unet = state_of(made.model.clip), state_of(made.denoiser)
    tuned = {name for name, p in made.model.clip.named_parameters() if p.requires_grad}
    run(made, config, tmp_path)
    after = made.model.clip.state_dict()
    assert {name for name, value in clip.items() if not torch.equal(after[name], value)} == tuned
    assert all(torch.equal(made.denoiser.state_dict()[name], value) for name, value in unet.items())


def test_h_w_warms_up_alone(files: Path, tmp_path: Path) -> None:
    config = stage(files, projection_warmup_steps=2, train__max_steps=2, train__checkpoint_every=1)
    made = built(config)
    clip, h_w = state_of(made.model.clip), state_of(made.model.latent_map)
    run(made, config, tmp_path / "waits")
    assert all(torch.equal(made.model.clip.state_dict()[name], value) for name, value in clip.items())
    assert not any(torch.equal(made.model.latent_map.state_dict()[name], value) for name, value in h_w.items())
    on = stage(files, projection_warmup_steps=2, train__max_steps=3)
    whole = built(on)
    run(whole, on, tmp_path / "whole")
    assert not torch.equal(whole.model.clip.visual.ln_post.weight, clip["visual.ln_post.weight"])
    resumed = built(on)
    run(resumed, on, tmp_path / "waits")  # goes on from the warm-up's checkpoint
    assert all(torch.equal(resumed.model.state_dict()[name], value) for name, value in state_of(whole.model).items())
    control = stage(files, method="contrastive", projection_warmup_steps=2, train__max_steps=2)
    waiting = built(control, Contrastive)
    run(waiting, control, tmp_path / "control")
    assert all(torch.equal(waiting.model.clip.state_dict()[name], value) for name, value in clip.items())


def test_h_w_may_warm_up_by_the_vaes_latents(files: Path, tmp_path: Path) -> None:
    """Against loops: each row's own picture's latents, h_w alone; then the SDS loss, and no latents."""
    config = stage(files, projection_warmup="latents", projection_warmup_steps=2, train__max_steps=3)
    assert Sds.signals(config, {"texts", "images"}) == ("text_states", "latents")
    assert Sds.signals(stage(files, projection_warmup="latents"), {"texts", "images"}) == ("text_states",)
    made = built(config, latent=LATENT)
    stored = data(latent=LATENT).targets("train").latents
    batch = made.feeds[0].load(np.arange(5), Position(0, 1, 0))
    assert "noise" not in batch and "latents" not in made.feeds[0].load(np.arange(5), Position(0, 2, 0))
    assert "latents" not in made.validation[0].load(np.arange(5), AT)
    made.before_step(1)
    loss, parts = loss_of(made, batch)
    loss.backward()
    seen = made.model(batch, latents=True).latents.detach()
    total = 0.0
    for row, picture in enumerate(batch["picture"].tolist()):
        for z, wanted in zip(seen[row].flatten().tolist(), stored[picture].flatten().tolist(), strict=True):
            total += (z - wanted) ** 2 / 5
    assert parts["latents"].item() == pytest.approx(total, rel=1e-5) and "sds" not in parts
    assert all(p.grad is None for p in made.model.clip.parameters())
    rows = torch.stack([stored[picture] for picture in batch["picture"].tolist()]).float()
    expected = 2 * (seen - rows).flatten(1).mean(dim=0)
    torch.testing.assert_close(made.model.latent_map.linear.bias.grad, expected, rtol=1e-4, atol=1e-6)

    fresh = built(config, latent=LATENT)
    clip = state_of(fresh.model.clip)
    lines = [line for line in run(fresh, config, tmp_path) if "loss" in line]
    assert [("latents" in line, "sds" in line) for line in lines] == [(True, False), (True, False), (False, True)]
    assert all(line["latent_rms"] > 0 for line in lines)
    assert not torch.equal(fresh.model.clip.visual.ln_post.weight, clip["visual.ln_post.weight"])


def test_groups_have_the_rates_that_were_asked_for(files: Path) -> None:
    def rates(**keys: Any) -> list[tuple[int, float, float]]:
        groups = built(stage(files, **keys)).parameter_groups(0.01, 0.1)
        return [(sum(p.numel() for p in g["params"]), g["lr"], g["weight_decay"]) for g in groups]

    norms, h_w = 2 * 64 * 6 + 2 * 32 * 5, 24 * 256 + 256
    assert rates() == [(norms, 0.01, 0.0), (h_w, 0.01, 0.0)]
    assert rates(projection_lr=0.5) == [(norms, 0.01, 0.0), (h_w, 0.5, 0.0)]
    assert rates(projection_lr=0.0) == [(norms, 0.01, 0.0)]
    assert rates(lambda_=0.0) == [(norms, 0.01, 0.0)]
    assert [decay for _, _, decay in rates(tune="all")] == [0.1, 0.0, 0.0]


# ------------------------------------------------------------------------------------------------ the control arm
def test_lambda_0_is_the_contrastive_arm_to_the_last_bit(files: Path, tmp_path: Path) -> None:
    keys = {"captions": "all", "train__batch_size": 9}
    arms = {"sds": (stage(files, lambda_=0.0, **keys), Sds), "contrastive": (stage(files, method="contrastive", **keys),
                                                                            Contrastive)}  # fmt: skip
    for name, (config, cls) in arms.items():
        assert cls.signals(config, {"texts", "images"}) == ()
        made = built(config, cls)
        assert not made.frozen and made.model.latent_map is None
        run(made, config, tmp_path / name)
        made.save(tmp_path / name)
    for file in ("metrics.jsonl", "model/open_clip_model.safetensors"):
        assert (tmp_path / "sds" / file).read_bytes() == (tmp_path / "contrastive" / file).read_bytes()
    assert Sds.signals(stage(files), {"texts", "images"}) == ("text_states",)


def test_a_small_lambda_does_change_the_run(files: Path, tmp_path: Path) -> None:
    lines = {}
    for weight in (0.0, 0.001):
        config = stage(files, lambda_=weight)
        lines[weight] = run(built(config), config, tmp_path / str(weight))
    assert lines[0.0][0]["contrastive"] == lines[0.001][0]["contrastive"]
    assert lines[0.0][1]["contrastive"] != lines[0.001][1]["contrastive"]


# ------------------------------------------------------------------------------------------------ rows
def test_noise_belongs_to_a_step_and_a_place(files: Path) -> None:
    made = built(stage(files))
    feed = made.feeds[0]
    whole = feed.load(np.arange(8), Position(0, 5, 0))
    share = feed.load(np.arange(3, 8), Position(0, 5, 3))
    again = pickle.loads(pickle.dumps(feed)).load(np.arange(8), Position(0, 5, 0))
    for name in ("noise", "timestep", "text_states", "pixels", "input_ids"):
        assert torch.equal(whole[name][3:], share[name]) and torch.equal(whole[name], again[name])
    seeded = built(stage(files, train__seed=1)).feeds[0]
    others = [
        feed.load(np.arange(8), Position(0, 6, 0)),
        seeded.load(np.arange(8), Position(0, 5, 0)),
        made.validation[0].load(np.arange(8), Position(0, 5, 0)),
    ]
    assert all(not torch.isclose(other["noise"], whole["noise"]).any(dim=(1, 2, 3)).all() for other in others)
    many = torch.cat([feed.load(np.arange(12), Position(0, step, 0))["noise"] for step in range(20)])
    assert abs(many.mean().item()) < 0.02 and many.std().item() == pytest.approx(1, abs=0.02)
    times = torch.cat([feed.load(np.arange(12), Position(0, step, 0))["timestep"] for step in range(20)])
    assert times.min() < 50 and times.max() > 950 and abs(times.float().mean() - 499.5) < 60


def test_a_picture_has_another_of_its_captions_each_epoch(files: Path) -> None:
    one = data(rejected={("train", "images"): [3], ("train", "texts"): [0]})
    made = Sds.build(stage(files), [one], "cpu")
    feed, texts = made.feeds[0], one.tables("train")["texts"]
    assert feed.rows == 11
    drawn = set()
    for epoch in range(12):
        batch = feed.load(np.arange(11), Position(epoch, 0, 0))
        assert batch["picture"].tolist() == [row for row in range(12) if row != 3]
        states = one.targets("train").values
        for place, picture in enumerate(batch["picture"].tolist()):
            own = [row for row, owner in enumerate(texts["image_row"]) if owner == picture and row != 0]
            (row,) = [row for row in own if torch.equal(states[row], batch["text_states"][place])]
            assert feed.tokenize([texts["text"][row]])["input_ids"][0].equal(batch["input_ids"][place])
            drawn.add(row)
    assert drawn == {row for row, owner in enumerate(texts["image_row"]) if owner not in (-1, 3) and row != 0}


def test_every_caption_may_be_a_row_and_is_no_negative_of_its_picture(files: Path) -> None:
    made = built(stage(files, captions="all"))
    feed = made.feeds[0]
    assert feed.rows == 36
    batch = feed.load(np.arange(6), AT)
    assert batch["picture"].tolist() == [0, 0, 0, 1, 1, 1]
    outputs = made.forward(batch)
    said = made.joint_losses(outputs.gathered)["contrastive"]
    image, text = outputs.gathered["image"], outputs.gathered["text"]
    assert said == info_nce(image, text, 1 / 0.07, batch["picture"])
    assert said < info_nce(image, text, 1 / 0.07)
    two = Sds.build(stage(files), [data(), data()], "cpu").feeds
    first, second = (feed.load(np.arange(6), AT)["picture"] for feed in two)
    assert not set(first.tolist()) & set(second.tolist())


# ------------------------------------------------------------------------------------------------ the loop
def test_pieces_of_a_batch_give_the_whole_batchs_run(files: Path, tmp_path: Path) -> None:
    lines = []
    for size in (None, 4):
        config = stage(files, grad_share_every=2, train__batch_size=9, train__micro_batch_size=size)
        lines.append(run(built(config), config, tmp_path / str(size)))
    for one, pieces in zip(*lines, strict=True):
        assert one.keys() == pieces.keys()
        assert pieces == pytest.approx(one, rel=1e-4, abs=1e-6)


def test_the_unet_is_left_out_where_only_embeddings_are_asked_for(files: Path) -> None:
    made = built(stage(files))
    made.model.train()
    batch = made.feeds[0].load(np.arange(4), AT)
    calls: list[int] = []
    made.denoiser.register_forward_hook(lambda m, i, out: calls.append(1))
    with torch.no_grad():
        outputs = made.forward(batch)
    assert not calls and set(outputs.gathered) == {"image", "text", "picture"} and not outputs.row_losses
    made.model.eval()
    with torch.no_grad():
        assert made.forward(batch).row_losses["sds"].shape == (4,) and calls == [1]


def test_shares_in_the_gradient_are_logged_and_change_nothing(files: Path, tmp_path: Path) -> None:
    config = stage(files, grad_share_every=2)
    made = built(config)
    lines = [line for line in run(made, config, tmp_path / "measured") if "loss" in line]
    shares = [{name: value for name, value in line.items() if name.startswith("grad_share/")} for line in lines]
    assert [sorted(share) for share in shares] == [[], ["grad_share/contrastive", "grad_share/sds"]] * 2
    assert all(sum(share.values()) == pytest.approx(1, abs=1e-5) for share in shares[1::2])
    never = stage(files, grad_share_every=0)
    other = built(never)
    plain = [line for line in run(other, never, tmp_path / "plain") if "loss" in line]
    assert [{n: v for n, v in line.items() if not n.startswith("grad_share/")} for line in lines] == plain
    assert all(torch.equal(value, made.model.state_dict()[name]) for name, value in other.model.state_dict().items())


def test_a_share_is_the_norm_of_the_losss_own_gradient(files: Path, tmp_path: Path) -> None:
    config = stage(files, grad_share_every=1, train__max_steps=1, lambda_=0.01)
    line = run(built(config), config, tmp_path)[0]
    fresh = built(config)
    fresh.model.train()
    (whole,) = Streams(fresh.feeds, 6, 0).batches(0)
    batch = fresh.feeds[0].load(whole.parts[0].rows, AT)
    _, parts = loss_of(fresh, batch)
    tuned = fresh.model.tuned()
    norms = {}
    for name, value in parts.items():
        found = torch.autograd.grad(fresh.weights[name] * value, tuned, retain_graph=True, allow_unused=True)
        norms[name] = torch.cat([g.flatten() for g in found if g is not None]).norm().item()
    for name, norm in norms.items():
        assert line[f"grad_share/{name}"] == pytest.approx(norm / sum(norms.values()), rel=1e-3)


# ------------------------------------------------------------------------------------------------ mistakes
def test_what_cannot_be_is_said_in_a_line(files: Path) -> None:
    for keys, message in [
        ({"t_range": (0, 1000)}, "the scheduler has time steps 0 to 999"),
        ({"lambda_": 0.0, "contrastive_weight": 0.0}, "nothing would be learnt"),
        ({"kind": "resnet", "embedding": "cls"}, "has no CLS: set method.embedding=projected"),
        ({"kind": "resnet", "tune": "image-norms"}, "nothing of it would be trained"),
    ]:
        with pytest.raises(UserError, match=message):
            built(stage(files, **keys))  # type: ignore[arg-type]
    config = stage(files)
    config.student = UnimodalConfig()
    with pytest.raises(
        UserError, match=r"sds tunes a CLIP, not the student 'unimodal': name one by --student open_clip"
    ):
        Sds.files(config)
    config = stage(files)
    config.teacher = None
    with pytest.raises(UserError, match=r"name it by --teacher diffusers:FOLDER"):
        Sds.count(config, None)
    sample = stable_diffusion(files / "sample", prediction_type="sample")
    with pytest.raises(UserError, match="prediction_type is 'sample'"):
        built(stage(files, teacher=sample.name))


def test_a_resnets_untouched_image_tower_is_warned_of(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = built(stage(files, "resnet"))
    warning = capsys.readouterr().err.replace("\n", " ")
    assert "the SDS loss will train h_w alone and never reach CLIP" in warning and "norms+batchnorm" in warning
    made.forward(made.feeds[0].load(np.arange(3), AT)).row_losses["sds"].sum().backward()
    assert all(p.grad is None for p in made.model.clip.parameters())
    built(stage(files, "vit"))
    assert "trains nothing" not in capsys.readouterr().err


def test_the_embedding_that_the_loss_leaves_out_is_not_computed_in_vain(files: Path) -> None:
    made = built(stage(files, contrastive_weight=0.0))
    outputs = made.forward(made.feeds[0].load(np.arange(3), AT))
    assert not outputs.gathered and set(outputs.row_losses) == {"sds"}
