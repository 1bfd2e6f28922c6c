"""VLKD: a training step from the cache against the student alone and beside a live CLIP; and captions a second.

    python examples/benchmarks/vlkd.py [--quick]

Pictures and captions of the built-in scenes; CLIP is a ViT-B/16 of random weights, BART one of three layers a side, 512
wide, of random weights. A step from the cache is that of `mmkd distill --method vlkd`: its loop, its tokens and masks,
the vectors gathered from shards. The student alone has the same model, losses and optimiser in a bare PyTorch loop, on
batches that are ready in memory. Beside a live CLIP both towers are asked for each batch. A step's time is that between
two ends of steps.

Captions are written by beams of five from the cached vectors: as `mmkd generate` has them written, from prompts to
texts, and by transformers' encoder and `generate` called bare on the same model, the token ids and vectors of the same
batches ready in memory, its own tokens taken as they are. Both must write the same texts.

Each pair is timed in turn in one process, medians over the rounds; beside the clock's time the processor time of the
whole process (it says more on a machine with other work). The table goes to stderr, one JSON
document to stdout. `--quick`: CLIP is a ViT-B/32, BART has two layers a side, 256 wide.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer, processors
from torch import Tensor
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutput

from mmkd_cli.architectures.generation import GenerationConfig
from mmkd_cli.architectures.writer import Asked, Writer
from mmkd_cli.cache.reader import open_cache
from mmkd_cli.core import console
from mmkd_cli.core.config import Layer, resolve
from mmkd_cli.core.contracts import Batch, Position, StageContext
from mmkd_cli.methods.vlkd import Vlkd
from mmkd_cli.scenes.captions import captions
from mmkd_cli.scenes.world import scene
from mmkd_cli.stages import cache_teacher, distill, prepare_data
from mmkd_cli.stages.training_data import open_inputs
from mmkd_cli.training.loop import train
from mmkd_cli.training.sampler import Sampler

PICTURES, BATCH, WRITTEN_AT_ONCE, LIVE_ROUNDS = 128, 64, 64, 2
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
HOW = GenerationConfig(num_beams=5, max_new_tokens=20)
TARGETS = {"step_cache_vs_student_alone": "<= 1.05", "step_live_vs_cache": "reported",
           "captions_per_s_vs_bare": ">= 0.95"}  # fmt: skip

Moment = tuple[float, float]
"""Seconds of the clock, seconds of all threads of this process on a processor."""


def now() -> Moment:
    return time.perf_counter(), time.process_time()


# ------------------------------------------------------------------------------------------------ models and data
def random_clip(folder: Path, arch: str) -> dict[str, Any]:
    """The table of a teacher: an architecture of open_clip with random weights."""
    config = open_clip.get_model_config(arch)
    folder.mkdir()
    save_file(open_clip.create_model(arch).state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    return {"name": "clip", "arch": f"local-dir:{folder}"}


def random_bart(folder: Path, layers: int, width: int) -> Path:
    """A BART with a tokenizer of the scenes' captions."""
    made = ByteLevelBPETokenizer(add_prefix_space=False)
    texts = [text for row in range(500) for text in captions(scene(0, row, "train"))]
    made.train_from_iterator(texts, vocab_size=2000, special_tokens=SPECIAL, show_progress=False)
    made._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made._tokenizer, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        mask_token="<mask>",
    )  # fmt: skip
    config = BartConfig(
        vocab_size=len(tokenizer), max_position_embeddings=64, d_model=width, encoder_layers=layers,
        decoder_layers=layers, encoder_attention_heads=width // 64, decoder_attention_heads=width // 64,
        encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width,
    )  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def prepare(root: Path, teacher: dict[str, Any]) -> None:
    """Data `scenes`, and CLIP's vectors of all pictures and captions as the cache `clip`."""
    keys: dict[str, Any] = {"source": {"name": "scenes", "train": PICTURES, "val": 0, "test": 0}}
    prepare_data.run(resolve(prepare_data.Config, [Layer("benchmark", keys)]).config, StageContext(root, "scenes"))
    keys = {"data": "scenes", "teacher": teacher, "signals": ["image_embedding", "text_embedding"],
            "cache": {"threads": torch.get_num_threads()}}  # fmt: skip
    cache_teacher.run(resolve(cache_teacher.Config, [Layer("benchmark", keys)]).config, StageContext(root, "clip"))


# ------------------------------------------------------------------------------------------------ a step
def method(root: Path, bart: Path, teacher: dict[str, Any], steps: int, live: bool) -> tuple[Vlkd, Any]:
    """The method over the cache or the live teacher, and the training's keys."""
    keys = {"method": {"name": "vlkd"}, "student": {"name": "bart", "weights": str(bart)}, "teacher": teacher,
            "train": {"batch_size": BATCH, "max_steps": steps, "validation": False}}  # fmt: skip
    config: Any = resolve(distill.Config, [Layer("benchmark", keys)]).config
    opened = open_inputs(
        root, ["scenes"], None if live else "clip", config.teacher,
        lambda tables: Vlkd.signals(config, tables), live=live, workers=0,
    )  # fmt: skip
    return Vlkd.build(config, opened.training_data("cpu"), "cpu"), config.train


def our_loop(made: Vlkd, keys: Any) -> list[Moment]:
    """When each step of `mmkd distill` ended."""
    ends: list[Moment] = []
    made.after_step = lambda step, gathered: ends.append(now())  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        train(made, keys, Path(folder), device=torch.device("cpu"))
    return ends


def bare_loop(made: Vlkd, keys: Any) -> list[Moment]:
    """The same model, losses and optimiser by hand, on batches that are ready."""
    sampler = Sampler(made.feeds, BATCH, keys.seed)
    parts = [sampler.batch(step).parts[0].rows for step in range(keys.max_steps)]
    batches: list[Batch] = [made.feeds[0].load(rows, Position(0, step, 0)) for step, rows in enumerate(parts)]
    optimizer = torch.optim.AdamW(
        made.parameter_groups(keys.peak_lr, keys.weight_decay), betas=keys.betas, eps=keys.eps, fused=True
    )
    made.model.train()
    ends = []
    for batch in batches:
        said = made.forward(batch)
        losses = {name: values.mean() for name, values in said.row_losses.items()} | {
            **made.joint_losses(said.gathered)
        }
        sum(made.weights[name] * loss for name, loss in losses.items()).backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(made.model.parameters(), keys.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ends.append(now())
    return ends


def spans(ends: list[Moment]) -> list[Moment]:
    """Times between steps, the first few left out."""
    return [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(ends[2:])]


def steps(root: Path, bart: Path, teacher: dict[str, Any], count: int, rounds: int) -> dict[str, list[Moment]]:
    """Times of a step each way. A live step takes many times as long: few are measured."""
    found: dict[str, list[Moment]] = {"alone": [], "cache": [], "live": []}
    for round_ in range(rounds):
        found["alone"] += spans(bare_loop(*method(root, bart, teacher, count, live=False)))
        found["cache"] += spans(our_loop(*method(root, bart, teacher, count, live=False)))
        if round_ < LIVE_ROUNDS:
            found["live"] += spans(our_loop(*method(root, bart, teacher, 4, live=True)))
        print(f"steps, round {round_ + 1} of {rounds}", file=sys.stderr)
    return found


# ------------------------------------------------------------------------------------------------ captions
@torch.no_grad()
def captions_written(root: Path, bart: Path, teacher: dict[str, Any], rounds: int) -> dict[str, list[Moment]]:
    """Times of writing a caption of every picture, through the Writer and by bare `generate`."""
    made, _ = method(root, bart, teacher, 1, live=False)
    student = made.model.eval()
    images = open_cache("clip", root=root, split="train")["image_embedding"][np.arange(PICTURES)].float()
    writer = Writer(student.language_model, student.tokenizer, memory=student.memory)
    asked = [Asked("<mask>", "", str(row)) for row in range(PICTURES)]
    prompt = dict(student.tokenizer(["<mask>"] * WRITTEN_AT_ONCE, return_tensors="pt"))

    def ours() -> list[str]:
        return writer(asked, HOW, batch_size=WRITTEN_AT_ONCE, images=images)

    def bare() -> list[Tensor]:
        found = []
        for own in images.split(WRITTEN_AT_ONCE):
            states, mask = student.memory(student.encode(**prompt), prompt["attention_mask"], own)
            found.append(student.bart.generate(
                encoder_outputs=BaseModelOutput(last_hidden_state=states), attention_mask=mask,
                num_beams=HOW.num_beams, max_new_tokens=HOW.max_new_tokens, do_sample=False,
            ))  # fmt: skip
        return found

    texts = [student.tokenizer.decode(row, skip_special_tokens=True) for part in bare() for row in part]
    if texts != ours():
        raise SystemExit("the two write different captions")
    ways: dict[str, Callable[[], object]] = {"bare generate": bare, "mmkd generate": ours}
    found: dict[str, list[Moment]] = {name: [] for name in ways}
    for round_ in range(rounds):
        for name, call in ways.items():
            began = now()
            call()
            ended = now()
            found[name].append((ended[0] - began[0], ended[1] - began[1]))
        print(f"captions, round {round_ + 1} of {rounds}", file=sys.stderr)
    return found


# ------------------------------------------------------------------------------------------------ all of it
def ratios(seconds: dict[str, float]) -> dict[str, float]:
    return {
        "step_cache_vs_student_alone": seconds["cache"] / seconds["alone"],
        "step_live_vs_cache": seconds["live"] / seconds["cache"],
        "captions_per_s_vs_bare": seconds["bare generate"] / seconds["mmkd generate"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller CLIP and a smaller BART")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed (default 5)")
    options = parser.parse_args()
    arch, layers, width = ("ViT-B-32", 2, 256) if options.quick else ("ViT-B-16", 3, 512)
    console.LEVEL.quiet = True
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        root, place = Path(folder) / "work", Path(folder)
        teacher = random_clip(place / "clip", arch)
        bart = random_bart(place / "bart", layers, width)
        prepare(root, teacher)
        seconds = captions_written(root, bart, teacher, options.rounds)
        seconds |= steps(root, bart, teacher, 12, options.rounds)
    clock, processor = ({name: statistics.median(pair[which] for pair in pairs) for name, pairs in seconds.items()}
                     for which in (0, 1))  # fmt: skip
    result = {
        "sizes": {"clip": arch, "bart_layers": layers, "bart_width": width, "batch": BATCH, "pictures": PICTURES,
                  "rounds": options.rounds},
        "ratios": ratios(clock),
        "processor_ratios": ratios(processor),
        "targets": TARGETS,
        "median_seconds": clock,
        "processor_seconds": processor,
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__},
    }  # fmt: skip
    print(f"{'ratio':30} {'clock':>9} {'processor':>9}  to reach", file=sys.stderr)
    for name, value in result["ratios"].items():
        print(f"{name:30} {value:9.3f} {result['processor_ratios'][name]:9.3f}  {TARGETS[name]}", file=sys.stderr)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
