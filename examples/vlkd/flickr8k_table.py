"""The table of flickr8k.sh, from the results in the root."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tables import caption_scores

ROWS = {
    "constant": "constant", "nearest": "nearest neighbour", "consensus": "consensus of 30 neighbours",
    "spans": "VLKD, 30 % in spans", "spans-shuffled": "its captions at other pictures",
    "whole": "VLKD, up to the whole caption", "whole-shuffled": "its captions at other pictures",
    "captioner": "trained to caption", "captioner-shuffled": "its captions at other pictures",
}  # fmt: skip


if __name__ == "__main__":
    caption_scores(ROWS)
