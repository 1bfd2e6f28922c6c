"""Small files in the official layouts of the benches, pictures of one colour each, and JSON that is almost right."""

from __future__ import annotations

import copy
import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from mmkd_cli.benches.sugarcrepe_files import ITEMS

Json = Any


def png(colour: tuple[int, int, int], size: tuple[int, int] = (24, 16)) -> bytes:
    data = BytesIO()
    Image.new("RGB", size, colour).save(data, "PNG")
    return data.getvalue()


def winoground_rows(items: int = 3) -> list[dict[str, Any]]:
    """Pictures 2i and 2i+1 are red of 10 times their number, caption k of item i is the number 2i+k (small_data)."""
    tags = ("Object", "Relation", "Both")
    return [
        {"id": i, "image_0": f"ex_{i}_img_0", "image_1": f"ex_{i}_img_1", "caption_0": f"{2 * i}",
         "caption_1": f"{2 * i + 1}", "tag": "Noun", "secondary_tag": "", "num_main_preds": 1 + i % 2,
         "collapsed_tag": tags[i % 3]}
        for i in range(items)
    ]  # fmt: skip


def winoground_pictures(items: int = 3) -> dict[str, bytes]:
    return {f"ex_{i}_img_{k}.png": png((10 * (2 * i + k), 0, 0)) for i in range(items) for k in (0, 1)}


def winoground_folder(folder: Path, items: int = 3) -> Path:
    """The gated data set's own layout: data/examples.jsonl, data/images.zip."""
    (folder / "data").mkdir(parents=True)
    lines = [json.dumps(row) for row in winoground_rows(items)]
    (folder / "data" / "examples.jsonl").write_text("\n".join(lines) + "\n")
    with zipfile.ZipFile(folder / "data" / "images.zip", "w") as archive:
        for name, data in winoground_pictures(items).items():
            archive.writestr(f"images/{name}", data)
    return folder


def winoground_parquet(folder: Path, items: int = 3) -> Path:
    """The converted branch: two files, pictures as cells."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = winoground_rows(items)
    for row in rows:
        for k in (0, 1):
            row[f"image_{k}"] = {"bytes": png((10 * (2 * row["id"] + k), 0, 0)), "path": f"ex_{row['id']}_img_{k}.png"}
    folder.mkdir(parents=True)
    for number, part in enumerate((rows[:2], rows[2:])):
        pq.write_table(pa.Table.from_pylist(part), folder / f"test-{number}.parquet", row_group_size=1)
    return folder


def sugarcrepe_folder(folder: Path, items: int = 3) -> Path:
    """Seven files with gaps in their numbers; picture 10 times i red, caption i, negative caption i + 1."""
    (folder / "images").mkdir(parents=True)
    for i in range(items):
        (folder / "images" / f"{i:012d}.jpg").write_bytes(png((10 * i, 0, 0)))
    for name in ITEMS:
        rows = {
            str(3 * i + 1): {"filename": f"{i:012d}.jpg", "caption": f"{i}", "negative_caption": f"{i + 1}"}
            for i in range(items)
        }
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return folder


def aro_folder(folder: Path) -> Path:
    """Relations `on` (right), `under` (wrong), `near` (symmetric); attributes, 25 and 2 items; two captions."""
    (folder / "images").mkdir(parents=True)
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[4:8, 6:12, 0] = 20  # the part that the boxes cut out
    Image.fromarray(pixels).save(folder / "images" / "7.png")
    box = {"image_id": 7, "image_path": "7.png", "bbox_x": 6, "bbox_y": 4, "bbox_w": 6, "bbox_h": 4}
    good, bad = {"true_caption": "2", "false_caption": "3"}, {"true_caption": "3", "false_caption": "2"}
    relations = [("on", good), ("on", good), ("under", bad), ("near", bad), ("near", good)]
    rows = [{**box, **texts, "relation_name": name} for name, texts in relations]
    (folder / "visual_genome_relation.json").write_text(json.dumps(rows))
    pairs = [(["old", "red"], good)] * 20 + [(["old", "red"], bad)] * 5 + [(["new", "blue"], bad)] * 2
    attributes = [{**box, **texts, "attributes": names} for names, texts in pairs]
    (folder / "visual_genome_attribution.json").write_text(json.dumps(attributes))
    (folder / "val2014").mkdir()
    (folder / "val2014" / "a.png").write_bytes(png((20, 0, 0)))
    (folder / "coco_karpathy_test.json").write_text(json.dumps([{"image": "val2014/a.png", "caption": ["2", "2 3"]}]))
    return folder


# ------------------------------------------------------------------------------------------------ almost right
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


@st.composite
def spoiled(draw: st.DrawFn, good: Json) -> Json:
    """A good document with one value somewhere replaced by any JSON, or one removed."""
    document = copy.deepcopy(good)
    place: Any = document
    for _ in range(draw(st.integers(0, 4))):
        inner = place[draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))]
        if not isinstance(inner, (dict, list)) or not inner:
            break
        place = inner
    chosen = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
    if draw(st.booleans()):
        place[chosen] = draw(JSON)
    else:
        del place[chosen]
    return document
