"""What the official caption scorers run in Java: whether it is there, and Stanford's tokenizer."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from mmkd_cli.core.errors import UserError

STANFORD = "Stanford PTBTokenizer 3.4.1 (Java)"


@cache
def has_java() -> bool:
    """Whether there is a `java` that starts."""
    java = shutil.which("java")
    return java is not None and subprocess.run([java, "-version"], capture_output=True, check=False).returncode == 0


def stanford_lines(captions: Sequence[str]) -> list[str]:
    """The tokens of each caption in lower case, joined by spaces. A caption is one line."""
    import pycocoevalcap.tokenizer.ptbtokenizer as official

    jar = Path(official.__file__).with_name(official.STANFORD_CORENLP_3_4_1_JAR)
    with tempfile.TemporaryDirectory() as folder:  # pycocoevalcap's own call writes among its modules
        lines = Path(folder) / "captions.txt"
        lines.write_bytes("\n".join(captions).encode())
        command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
        done = subprocess.run([*command, str(lines)], capture_output=True, check=False)
    tokens = done.stdout.decode().split("\n")
    if done.returncode or len(tokens) != len(captions):
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise UserError(f"Stanford's tokenizer failed ({said[0]}): mend java, or choose the tokenizer 'mmkd'")
    return tokens
