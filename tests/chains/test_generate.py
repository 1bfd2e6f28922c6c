"""`mmkd generate` from the command line: a prompt, and captions by one process and by two."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.architectures.tiny_bart import tiny_gpt2
from tests.stages.vlkd_chain import make_vlkd_chain, taught


def test_a_prompt_is_printed_as_transformers_writes_it(mmkd: Any, tmp_path: Path) -> None:
    folder = tiny_gpt2(tmp_path / "gpt2")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    inputs = tokenizer("A dog", return_tensors="pt")
    own = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=False,
                         max_new_tokens=30)  # fmt: skip
    words = ["generate", "--task", "text", "--model", f"hf:{folder}", "--prompt", "A dog", "--set",
             "generation.do_sample=false", "--set", "generation.max_new_tokens=30"]  # fmt: skip
    said = mmkd(*words)
    assert said.stdout.rstrip("\n") == tokenizer.decode(own[0], skip_special_tokens=True).rstrip("\n")
    assert json.loads(mmkd(*words, "--json").stdout)["prompt"] == "A dog"
    assert "--image is needed" in mmkd("generate", "--task", "vqa", "--model", "x", "--question", "?", code=2).stderr


def test_one_process_and_two_write_the_same(mmkd: Any, tmp_path: Path) -> None:
    make_vlkd_chain(tmp_path)
    taught(tmp_path, "seeing", train__max_steps=1)
    words = ["generate", "--task", "caption", "--split", "train", "--beams", "2", "--set", "rows_per_range=5",
             "--set", "generation.max_new_tokens=5", "--device", "cpu"]  # fmt: skip
    mmkd(*words, "--name", "one")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mmkd_cli"]
    done = subprocess.run(
        [*launch, *words, "--name", "two", "--json"], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "MMKD_ROOT": str(tmp_path / "work"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 32
    one, two = (tmp_path / "work/results" / name / "captions.json" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    command = mmkd("show", "one", "--chain").stdout.splitlines()[-1]
    assert "--model seeing" in command and "--data squares" in command
    assert "already done" in mmkd(*shlex.split(command)[1:]).stderr
