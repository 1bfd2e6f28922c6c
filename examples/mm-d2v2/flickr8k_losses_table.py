"""The tables of flickr8k-losses.sh, from the results in the root: recall in percent, cells as ../tables.py has them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tables import arms, differences

ARMS = {"mse": "MSE", "mse-itc": "MSE + ITC", "cdl": "CDL", "cdl-bank": "CDL + bank", "itc": "ITC",
        "itc-bank": "ITC + bank of its own vectors"}  # fmt: skip
PAIRS = [("mse-itc", "mse"), ("mse-itc", "itc"), ("cdl", "mse"), ("cdl-bank", "cdl"), ("cdl", "itc"),
         ("itc-bank", "itc")]  # fmt: skip


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    for split in ("val", "test"):
        print(f"\n{split}")
        columns = {f"{way.replace('_', ' ')} R@{k}": (split, f"{way}_recall@{k}")
                   for way in ("image_to_text", "text_to_image") for k in (1, 10)}  # fmt: skip
        differences(arms(ARMS, columns), ARMS, PAIRS)


if __name__ == "__main__":
    main()
