"""README.md of a run: what the model is, what it was made from, how it is opened."""

from __future__ import annotations

from typing import Any

from mmkd_cli.core.artifacts import Artifact


def model_card(artifact: Artifact, content: dict[str, Any]) -> str:
    """Markdown. content: the manifest's summary (steps, rows, parameters, last values)."""
    plan = artifact.plan
    config = plan["config"]
    teacher = config["teacher"]["name"] if config.get("teacher") else "none"
    how = "method" if "method" in config else "task"
    counts = content["parameters"]
    inputs = "\n".join(f"* {i.role}: {i.kind} `{i.name}`, fingerprint `{i.fingerprint}`" for i in artifact.inputs)
    last = "\n".join(f"| {name} | {value:.6g} |" for name, value in content["last"].items())
    return f"""---
library_name: mmkd
---
# {artifact.name}

A `{config["student"]["name"]}` student trained by `mmkd {plan["stage"]} --{how} {config[how]["name"]}`.
Teacher: `{teacher}`. {counts["trainable"]:,} of {counts["total"]:,} parameters were trained, for {content["steps"]:,}
steps of {config["train"]["batch_size"]} rows.

## Made from

{inputs}

`mmkd show {artifact.name} --chain` prints the commands that make it again; every key stands in config.toml.

## Last training step

| name | value |
|---|---|
{last}

Curves: report.html. Every step: metrics.jsonl.

## Files

`model/` is in the layout of the library that the model comes from, which opens it unchanged; `heads.safetensors` holds
the parts that are ours. `mmkd evaluate --model {artifact.name}` measures it where it embeds, `mmkd generate --model
{artifact.name}` where it writes.
"""
