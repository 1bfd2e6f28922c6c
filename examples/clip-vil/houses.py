"""Houses of the built-in world in Room-to-Room's formats: instructions, graphs, 36 pictures of each viewpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmkd_cli.scenes import house_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--houses", type=int, default=40, help="of training")
    parser.add_argument("--unseen", type=int, default=8, help="of val_unseen")
    parser.add_argument("--each", type=int, default=60, help="paths of a house in training")
    parser.add_argument("--held", type=int, default=30, help="paths of a house in the other splits")
    args = parser.parse_args()
    if not (args.out / "R2R_val_unseen.json").is_file():
        house_files.write(args.out, houses=args.houses, unseen=args.unseen, each=args.each, held=args.held)


if __name__ == "__main__":
    main()
