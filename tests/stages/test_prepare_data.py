"""prepare-data from start to end: tables as the files have them, the same bytes however made, repair, refusals."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from mmkd_cli.core import artifacts
from mmkd_cli.core.config import Layer, resolve
from mmkd_cli.core.contracts import StageContext
from mmkd_cli.core.errors import Refused, UserError
from mmkd_cli.data.prepared import open_data
from mmkd_cli.stages.prepare_data import Config, run
from tests.conftest import Run
from tests.data.made_pictures import jpeg

PAIRS = 23


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A table of 23 photos, every third with two captions, in two splits."""
    lines = ["path,caption,split"]
    for n in range(PAIRS):
        (tmp_path / f"{n:02d}.jpg").write_bytes(jpeg(n, 90 + n, 70))
        lines += [f"{n:02d}.jpg,photo {n} text {k},{'val' if n % 4 == 3 else 'train'}" for k in range(1 + (n % 3 == 0))]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    return tmp_path / "pairs.csv"


def prepare(root: Path, annotations: Path, *, name: str | None = "mine", workers: int = 0, dry_run: bool = False,
            **keys: Any) -> dict[str, Any]:  # fmt: skip
    values = {"source": {"name": "image-text", "annotations": str(annotations)}, "image_size": 32, "rows_per_range": 4}
    config = resolve(Config, [Layer("test", {**values, **keys})]).config
    return run(config, StageContext(root, name=name, workers=workers, dry_run=dry_run))


def arrows(root: Path, name: str = "mine") -> dict[str, str]:
    """SHA-256 of each .arrow file."""
    folder = root / "data" / name
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.arrow")
    }


def test_what_was_given_is_there(tmp_path: Path, pairs: Path) -> None:
    done = prepare(tmp_path / "w", pairs)
    assert done["status"] == "done" and done["rows"]["train"]["images"] + done["rows"]["val"]["images"] == PAIRS
    tables = datasets.load_from_disk(str(tmp_path / "w/data/mine/images"))
    texts = datasets.load_from_disk(str(tmp_path / "w/data/mine/texts"))
    assert list(tables) == ["train", "val"]
    for split in ("train", "val"):
        numbers = [n for n in range(PAIRS) if (n % 4 == 3) == (split == "val")]
        images = tables[split]
        assert images["image_id"][:] == [f"{n:02d}" for n in numbers]
        assert list(zip(images["width"][:], images["height"][:], strict=True)) == [(90 + n, 70) for n in numbers]
        for image, n in zip(images["image"], numbers, strict=True):
            original = Image.open(BytesIO(jpeg(n, 90 + n, 70)))
            small = original.resize(((90 + n) * 32 // 70, 32), Image.Resampling.BICUBIC)
            assert image.size == small.size
            assert np.abs(np.asarray(image).astype(int) - np.asarray(small)).mean() < 3
        for row in texts[split]:
            assert row["text"].startswith(f"photo {numbers[row['image_row']]} text")
        assert len(texts[split]) == sum(1 + (n % 3 == 0) for n in numbers)
    data = open_data(tmp_path / "w", "mine")
    assert data.splits == ("train", "val") and set(data.tables("val")) == {"images", "texts"}
    with pytest.raises(UserError, match=r"no split 'vall'.*did you mean 'val'"):
        data.table("images", "vall")


def test_again_it_is_already_done_and_another_command_is_refused(tmp_path: Path, pairs: Path) -> None:
    prepare(tmp_path / "w", pairs)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "w").rglob("*") if path.is_file()}
    assert prepare(tmp_path / "w", pairs, workers=2, skip_bad=True)["status"] == "already done"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(Refused, match=r"config.image_size was 32, the command says 33"):
        prepare(tmp_path / "w", pairs, image_size=33)
    (tmp_path / "00.jpg").write_bytes(jpeg(99, 50, 50))
    with pytest.raises(Refused, match=r"files.images was"):
        prepare(tmp_path / "w", pairs)


def test_default_name_is_made_from_the_request(tmp_path: Path, pairs: Path) -> None:
    first = prepare(tmp_path / "w", pairs, name=None)
    plan = json.loads((tmp_path / "w" / "data" / first["name"] / "plan.json").read_text())
    assert first["name"] == f"image-text-{plan['request'][:8]}"
    assert prepare(tmp_path / "w", pairs, name=None, image_size=16)["name"] != first["name"]


def test_bytes_do_not_depend_on_who_makes_them(tmp_path: Path, pairs: Path) -> None:
    alone = prepare(tmp_path / "a", pairs)
    fork = multiprocessing.get_context("fork")
    others = [fork.Process(target=prepare, args=(tmp_path / "b", pairs), kwargs={"workers": n}) for n in (0, 2, 3)]
    for process in others:
        process.start()
    for process in others:
        process.join()
    assert [process.exitcode for process in others] == [0, 0, 0]
    many = prepare(tmp_path / "b", pairs)
    assert many["status"] == "already done" and many["fingerprint"] == alone["fingerprint"]
    assert arrows(tmp_path / "a") == arrows(tmp_path / "b") and len(arrows(tmp_path / "a")) == 5 + 2 + 6 + 2
    assert not list((tmp_path / "b").rglob("*.lock")) and not list((tmp_path / "b").rglob("*.tmp"))


def test_damage_is_repaired_file_by_file(tmp_path: Path, pairs: Path) -> None:
    prepare(tmp_path / "w", pairs)
    before = arrows(tmp_path / "w")
    folder = tmp_path / "w" / "data" / "mine"
    flipped, gone = folder / "images/train/data-00001-of-00005.arrow", folder / "texts/val/data-00000-of-00002.arrow"
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    gone.unlink()
    (folder / "images" / "dataset_dict.json").write_text("{}")
    (folder / "texts/train/data-00002-of-00006.json").unlink()
    untouched = (folder / "images/train/data-00000-of-00005.arrow").stat().st_mtime_ns
    with pytest.raises(Refused, match="is damaged"):
        open_data(tmp_path / "w", "mine")
    assert len(artifacts.read(folder).check()) == 4
    again = prepare(tmp_path / "w", pairs)
    assert set(again["repaired"]) == {
        "images/train/data-00001-of-00005.arrow", "texts/val/data-00000-of-00002.arrow", "images/dataset_dict.json",
        "texts/train/data-00002-of-00006.json",
    }  # fmt: skip
    assert arrows(tmp_path / "w") == before and not artifacts.read(folder).check()
    assert (folder / "images/train/data-00000-of-00005.arrow").stat().st_mtime_ns == untouched
    open_data(tmp_path / "w", "mine")


def test_a_repair_that_gives_other_bytes_is_refused(tmp_path: Path, pairs: Path) -> None:
    prepare(tmp_path / "w", pairs, image_size=0)
    data = bytearray((tmp_path / "00.jpg").read_bytes())
    data[-40] ^= 1  # the same size: the listing does not see it
    (tmp_path / "00.jpg").write_bytes(data)
    (tmp_path / "w/data/mine/images/train/data-00000-of-00005.arrow").unlink()
    with pytest.raises(Refused, match=r"data-00000-of-00005.arrow made again has other bytes"):
        prepare(tmp_path / "w", pairs, image_size=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_pictures_are_refused_by_name_or_rejected(tmp_path: Path, pairs: Path, workers: int) -> None:
    (tmp_path / "04.jpg").write_bytes(jpeg(4, 94, 70)[:900])
    (tmp_path / "07.jpg").write_bytes(b"<html>")
    with pytest.raises(UserError, match=r"picture '0(4|7).jpg' .* can't be used: .*--skip-bad"):
        prepare(tmp_path / "w", pairs, workers=workers)
    done = prepare(tmp_path / "w", pairs, workers=workers, skip_bad=True)
    assert done["status"] == "done" and done["rejected"] == 2
    data = open_data(tmp_path / "w", "mine")
    assert data.rejected("train", "images").tolist() == [3] and data.rejected("val", "images").tolist() == [1]
    table = data.table("images", "train")
    assert table[3]["image"] is None and table[3]["image_id"] == "04" and table[4]["image"] is not None
    rejected = data.artifact.manifest["rejected"]  # type: ignore[index]
    assert [(row["split"], row["row"], row["id"]) for row in rejected] == [("train", 3, "04"), ("val", 1, "07")]
    assert "damaged" in rejected[0]["reason"] and "no picture" in rejected[1]["reason"]
    assert done["rows"]["train"]["images"] == 18 and done["rows"]["val"]["images"] == 5
    assert sum(1 for row in data.table("texts", "train") if row["image_row"] == 3) == 1


def empty_captions(folder: Path, kind: str) -> Path:
    """Three pictures of which the second has a caption of spaces, in a table, tar shards or datasets."""
    captions, pictures = ["a dog", " \n", "a cat"], [jpeg(n) for n in range(3)]
    if kind == "table":
        for n, data in enumerate(pictures):
            (folder / f"{n}.jpg").write_bytes(data)
        rows = [{"path": f"{n}.jpg", "caption": text} for n, text in enumerate(captions)]
        (folder / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return folder / "p.jsonl"
    if kind == "shards":
        with tarfile.open(folder / "0.tar", "w") as archive:
            for n, (text, data) in enumerate(zip(captions, pictures, strict=True)):
                for name, member in ((f"{n}.jpg", data), (f"{n}.txt", text.encode())):
                    info = tarfile.TarInfo(name)
                    info.size = len(member)
                    archive.addfile(info, BytesIO(member))
        return folder / "0.tar"
    columns = {"image": [{"bytes": data, "path": None} for data in pictures], "caption": captions}
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(folder / "d")
    return folder / "d"


@pytest.mark.parametrize(("kind", "text_id"), [("table", "2"), ("shards", "0/1"), ("datasets", "1")])
def test_empty_captions_are_refused_by_name_or_rejected_in_place(tmp_path: Path, kind: str, text_id: str) -> None:
    annotations = empty_captions(tmp_path, kind)
    with pytest.raises(UserError, match=rf"caption '{text_id}' \(train/texts row 1, from 0\) .*empty.*--skip-bad"):
        prepare(tmp_path / "w", annotations)
    done = prepare(tmp_path / "w", annotations, skip_bad=True)
    assert done["rejected"] == 1 and done["rows"] == {"train": {"images": 3, "texts": 3}}
    data = open_data(tmp_path / "w", "mine")
    assert data.artifact.manifest["rejected"] == [  # type: ignore[index]
        {"split": "train", "table": "texts", "row": 1, "id": text_id, "reason": "the caption is empty"}
    ]
    assert data.rejected("train", "texts").tolist() == [1] and not len(data.rejected("train", "images"))
    assert [text.strip() for text in data.table("texts", "train")["text"]] == ["a dog", "", "a cat"]


def test_missing_files_are_counted_and_named_before_any_work(tmp_path: Path, pairs: Path) -> None:
    for n in range(12):
        (tmp_path / f"{n:02d}.jpg").unlink()
    with pytest.raises(UserError, match=r"^12 files are missing; the first 10: ") as error:
        prepare(tmp_path / "w", pairs)
    assert str(error.value).endswith(
        ": put them there, or say which folder the table's paths start from by --images FOLDER, or say --skip-bad to "
        "reject their rows and go on"
    )
    source = {"name": "image-text", "annotations": str(pairs), "images": str(tmp_path)}
    with pytest.raises(UserError, match=": put them there, or say --skip-bad"):
        prepare(tmp_path / "w", pairs, source=source)
    assert str(error.value).count(".jpg") == 10 and not (tmp_path / "w" / "data").exists()
    done = prepare(tmp_path / "w", pairs, skip_bad=True)
    assert done["rejected"] == 12


def test_a_table_of_which_all_rows_are_rejected_is_a_mistake(tmp_path: Path, pairs: Path) -> None:
    for n in range(PAIRS):
        (tmp_path / f"{n:02d}.jpg").write_bytes(b"<html>")
    with pytest.raises(
        UserError, match=r"^all 18 rows of train/images are rejected, the first \('00'\) for: it is no picture"
    ):
        prepare(tmp_path / "w", pairs, skip_bad=True)
    assert not list((tmp_path / "w" / "data").glob("*/manifest.json"))


def test_rejected_files_are_named_with_their_reason(mmkd: Run, tmp_path: Path, pairs: Path) -> None:
    for n in (4, *range(8, 20)):
        (tmp_path / f"{n:02d}.jpg").write_bytes(b"<html>" if n == 4 else b"")
    made = mmkd("prepare-data", "--source", "image-text", "--annotations", pairs, "--skip-bad", "--name", "mine").stderr
    shown = mmkd("show", "mine").stdout
    everything = json.loads(mmkd("show", "mine", "--json").stdout)["rejected"]
    assert len(everything) == 13
    for said in (made, shown):
        lines = said[said.index("13 rejected rows:") :].splitlines()[1:12]
        assert lines[0].strip() == (
            "train/images row 3 (from 0), '04': it is no picture in a format that is read "
            "(JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, JPEG 2000)"
        )
        assert [line.split("'")[1] for line in lines[:10]] == [row["id"] for row in everything[:10]]
        assert all("the file is empty" in line for line in lines[1:10])
        assert lines[10].strip() == "and 3 more: `mmkd show mine --json` lists all"


def test_large_pictures_are_refused_before_decoding(tmp_path: Path, pairs: Path) -> None:
    with pytest.raises(UserError, match=r"picture '22.jpg' .*112 x 70 pixels, more than 7,800"):
        prepare(tmp_path / "w", pairs, max_pixels=7800)


def test_dry_run_measures_and_writes_nothing(tmp_path: Path, pairs: Path) -> None:
    said = prepare(tmp_path / "w", pairs, dry_run=True)
    assert not (tmp_path / "w").exists()
    assert said["status"] == "dry run" and said["rows"]["val"] == {"images": 5, "texts": 7}
    assert said["seconds"] > 0
    assert said["bytes"] == pytest.approx(prepare(tmp_path / "w", pairs)["bytes"], rel=0.05)


@pytest.mark.parametrize(("pictures", "image_size", "per_range"), [(36, 0, 0), (36, 32, 5), (150, 32, 0), (3, 0, 0)])
def test_a_dry_run_counts_the_bytes_of_files_rows_and_pictures(
    tmp_path: Path, pictures: int, image_size: int, per_range: int
) -> None:
    """Pictures that grow, captions of some length: what is written is what was said."""
    lines = ["path,caption"]
    for n in range(pictures):
        (tmp_path / f"{n:02d}.jpg").write_bytes(jpeg(n, 48 + n, 40))
        lines.append(f"{n:02d}.jpg,{'a photo ' * (n % 9)}of {n}")
    (tmp_path / "p.csv").write_text("\n".join(lines))
    keys = {"image_size": image_size, "rows_per_range": per_range}
    said = prepare(tmp_path / "w", tmp_path / "p.csv", dry_run=True, **keys)["bytes"]
    assert said == pytest.approx(prepare(tmp_path / "w", tmp_path / "p.csv", **keys)["bytes"], rel=0.05)


def test_too_small_a_disk_is_told_before_the_work(tmp_path: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match=r"needs about [\d,]+ bytes and its disk has 1,000 free, [\d,]+ too few"):
        prepare(tmp_path / "w", pairs)
    assert not arrows(tmp_path / "w")


def test_mistakes_on_the_command_line_are_one_line(mmkd: Run, tmp_path: Path, pairs: Path) -> None:
    pairs.write_text(pairs.read_text().replace("path,caption", "path,captoin"))
    for args, said in (
        (
            ["--source", "image-text", "--annotations", pairs],
            "has no column 'caption', its columns are 'path', 'captoin', 'split'",
        ),
        (["--source", "image-txt", "--annotations", pairs], "did you mean 'image-text'?"),
        (["--source", "flickr8k", "--images", tmp_path], "key 'source.annotations' (the JSON file) is needed"),
        (["--source", "scenes", "--set", "source.trian=3"], "did you mean"),
    ):
        error = mmkd("prepare-data", *args, code=2).stderr
        assert said in error and error.count("\n") == 1


def test_real_flickr8k(tmp_path: Path, real_data: Path) -> None:
    """An excerpt of the real file, its photos byte for byte (they are smaller than what is asked for)."""
    photos = real_data / "flickr8k"
    source = {"name": "flickr8k", "images": str(photos / "images"), "limit": 12, "train_splits": ["train", "restval"],
              "annotations": str(photos / "dataset_flickr8k.json")}  # fmt: skip
    done = run(resolve(Config, [Layer("test", {"source": source})]).config, StageContext(tmp_path, name="real"))
    assert done["rows"] == {split: {"images": 12, "texts": 60} for split in ("train", "val", "test")}
    official = json.loads((photos / "dataset_flickr8k.json").read_text())["images"]
    data = open_data(tmp_path, "real")
    for split in data.splits:
        wanted = [i for i in official if i["split"] in ({"train", "restval"} if split == "train" else {split})][:12]
        table = data.table("images", split).with_format("arrow")[:]
        stored = [picture["bytes"] for picture in table.column("image").to_pylist()]
        assert stored == [(photos / "images" / i["filename"]).read_bytes() for i in wanted]
        assert data.table("texts", split)["text"][:] == [s["raw"] for i in wanted for s in i["sentences"]]
