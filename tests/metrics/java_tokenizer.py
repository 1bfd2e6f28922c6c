"""What the official Java tokenizer says, asked through pycocoevalcap's jar.

`python tests/metrics/java_tokenizer.py` writes its answers for the captions of ptb_cases.json again.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

CASES = Path(__file__).with_name("ptb_cases.json")
HAVE_JAVA = shutil.which("java") is not None


def java_lines(captions: list[str]) -> list[str]:
    """One file of these lines, tokenised with the official flags."""
    import pycocoevalcap.tokenizer.ptbtokenizer as official

    jar = Path(official.__file__).with_name(official.STANFORD_CORENLP_3_4_1_JAR)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file:
        file.write("\n".join(captions))
        file.flush()
        said = subprocess.run(
            [
                "java",
                "-cp",
                str(jar),
                "edu.stanford.nlp.process.PTBTokenizer",
                "-preserveLines",
                "-lowerCase",
                file.name,
            ],
            capture_output=True,
            check=True,
        )
    return said.stdout.decode("utf-8").split("\n")


def stored_cases() -> list[tuple[str, str]]:
    """Captions and what Java made of them, as lines of one file."""
    return [(caption, tokens) for caption, tokens in json.loads(CASES.read_text("utf-8"))]


if __name__ == "__main__":
    captions = [caption for caption, _ in stored_cases()]
    cases = list(zip(captions, java_lines(captions), strict=True))
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    CASES.write_text(f"[\n{lines}\n]\n", "utf-8")
