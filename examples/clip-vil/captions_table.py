"""The table of captions.sh, from the results in the root."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tables import caption_scores

ROWS = {
    "constant": "constant", "nearest": "nearest neighbour", "consensus": "consensus of 30 neighbours",
    "cross-entropy": "cross-entropy", "cross-entropy-shuffled": "its captions at other pictures",
    "self-critical": "self-critical", "self-critical-shuffled": "its captions at other pictures",
}  # fmt: skip


if __name__ == "__main__":
    caption_scores(ROWS)
