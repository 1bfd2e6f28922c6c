"""A grey picture under the name of each photo of a folder: what is seen on them says nothing.

python grey_pictures.py --images FOLDER --out FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

GREY, SIZE = (128, 128, 128), (192, 144)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    grey = Image.new("RGB", SIZE, GREY)
    for photo in arguments.images.iterdir():
        if photo.suffix.lower() in (".jpg", ".jpeg", ".png"):
            grey.save(arguments.out / photo.name)


if __name__ == "__main__":
    main()
