"""`mmkd doctor`: what this machine has of what mmkd can use."""

from __future__ import annotations

from typing import Any

import typer

from mmkd_cli.cli.options import Json, Root


def doctor(root: Root = None, json_: Json = False) -> None:
    """Versions, devices, Java, optional models, free disk.

    Example: mmkd doctor
    """
    from mmkd_cli.core import console
    from mmkd_cli.core.paths import default_root

    document = examine(root or default_root())
    if json_:
        console.emit(document)
        return
    for group, values in document.items():
        typer.echo(f"{group}:")
        for key, value in values.items():
            typer.echo(f"  {key:<22} {value}")


def examine(root: Any) -> dict[str, dict[str, str]]:
    """Group -> what was looked for -> what was found (absent things say what they would serve)."""
    import os
    import platform
    import shutil
    import subprocess
    from importlib.util import find_spec
    from pathlib import Path

    import torch

    from mmkd_cli.core.artifacts import versions
    from mmkd_cli.metrics.captions import missing_metrics
    from mmkd_cli.metrics.wups import wordnet_similarity

    devices = {"cpu": f"{os.cpu_count()} cores, {platform.machine()}, {torch.get_num_threads()} threads"}
    for index in range(torch.cuda.device_count()):
        devices[f"cuda:{index}"] = torch.cuda.get_device_name(index)
    if torch.backends.mps.is_available():
        devices["mps"] = "available"

    java = shutil.which("java")
    found = "absent: METEOR, SPICE and Stanford's tokenizer need it"
    if java:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
        found = (answer.stderr or answer.stdout).splitlines()[0] if (answer.stderr or answer.stdout) else java
    optional = {"java": found}
    for package, serves in {
        "spacy": "aro's order tasks, lemmas of some benches",
        "en_core_web_sm": "the same: spaCy's English model, python -m spacy download en_core_web_sm",
        "nltk": "aro's order tasks",
        "clip_benchmark": "templates of more sets for zeroshot-classification, pip install clip-benchmark",
    }.items():
        optional[package] = "installed" if find_spec(package) else f"absent: {serves}"
    wordnet = (
        "its WordNet is there" if wordnet_similarity() else "absent: daquar's WUPS, python -m nltk.downloader wordnet"
    )
    optional["wordnet"] = wordnet
    optional["SPICE"] = missing_metrics().get("SPICE", "its jars are there")
    place = Path(root).resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    disk = {str(root): f"{free / 1e9:.1f} GB free", "writable": "yes" if os.access(place, os.W_OK) else "no"}
    hub = {"HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "not set: hubs may be asked for what is not on disk")}
    return {"versions": versions(), "devices": devices, "optional": optional, "disk": disk, "hub": hub}
