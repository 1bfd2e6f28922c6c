"""Swaps of the plain built-in world in Winoground's layout: python swaps.py FOLDER writes four folders into it.

seen and held-out hold 400 items of each of three kinds; small-seen and small-held-out the first 100 of each of them,
for the scorer that takes hundreds of forward passes an item.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mmkd_cli.scenes import swap_files


def main() -> None:
    """Write what is not there: the folder gets its name when it is whole."""
    place = Path(sys.argv[1])
    for name in swap_files.SETS:
        for prefix, items in (("", 400), ("small-", 100)):
            folder = place / (prefix + name)
            if not folder.is_dir():
                begun = place / f"{folder.name}.begun"
                swap_files.write("winoground", begun, name, items=items, plain=True)
                begun.rename(folder)


if __name__ == "__main__":
    main()
