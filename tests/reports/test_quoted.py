"""The papers' rows against means that the same papers print."""

from __future__ import annotations

import pytest

from mmkd_cli.reports.quoted import quoted_rows

COCO = {row["model"]: row for row in quoted_rows("coco-retrieval")}
FLICKR = {row["model"]: row for row in quoted_rows("flickr30k-retrieval")}


def mean(*rows: dict[str, float]) -> float:
    values = [value for row in rows for value in row.values()]
    return round(sum(values) / len(values), 2)


@pytest.mark.parametrize(
    ("model", "mean_of_twelve"),
    [("MM-D2V2 dagger (5+1, BEiT-2 teacher)", 29.93), ("MM-D2V2 dagger 7_2 (5+2, BEiT-2 teacher)", 30.8)],
)
def test_means_that_the_notes_print(model: str, mean_of_twelve: float) -> None:
    assert mean(COCO[model]["metrics"], FLICKR[model]["metrics"]) == mean_of_twelve


@pytest.mark.parametrize(
    ("model", "coco", "flickr30k"),
    [("Transformer SHRe", 55.45, 66.44), ("Transformer SHRe, two GPUs", 59.59, 70.78), ("S-SMKE (MSE)", 66.87, 77.1),
     ("S-SMKE CDL", 67.15, 78.3), ("S-SMKE CDL MB", 67.26, 79.9)],
)  # fmt: skip
def test_means_that_the_thesis_prints(model: str, coco: float, flickr30k: float) -> None:
    assert mean(COCO[model]["metrics"]) == coco
    assert mean(FLICKR[model]["metrics"]) == pytest.approx(flickr30k, abs=0.011)


def test_direction_means_of_the_teachers() -> None:
    """The thesis's table of teachers prints a mean for each direction."""
    dino = COCO["S-SMKE CDL MB, DINO teacher"]["metrics"]
    by_direction = {d: mean({k: v for k, v in dino.items() if k.startswith(d)}) for d in ("image_to", "text_to")}
    assert by_direction == {"image_to": 71.88, "text_to": 57.63}


def test_every_row_says_that_it_is_quoted_and_from_where() -> None:
    rows = [*COCO.values(), *FLICKR.values()]
    assert rows and all(row["quoted"] is True and row["source"] and row["metrics"] for row in rows)
    assert len(COCO) == len(quoted_rows("coco-retrieval"))
    assert "image_to_text_recall@10" not in COCO["FLAVA"]["metrics"]  # the notes leave it empty
    assert quoted_rows("flickr8k-retrieval") == []


def test_compositional_benches_have_rows_in_percent() -> None:
    winoground, aro = quoted_rows("winoground"), quoted_rows("aro")
    negclip = next(row["metrics"] for row in winoground if row["model"] == "NegCLIP")
    assert negclip == {"text": 29.5, "image": 10.5, "group": 8.0}
    diffusion = next(row for row in winoground if row["model"].startswith("Diffusion Classifier"))
    assert diffusion["metrics"] == {"text": 34.0} and diffusion["source"] == "arXiv 2303.16203v3"
    assert {row["model"]: row["metrics"] for row in aro}["NegCLIP"] == {"vg_relation": 81.0, "vg_attribution": 71.0}
    for row in (*winoground, *aro):
        assert row["quoted"] is True and row["source"] and all(1 < value < 100 for value in row["metrics"].values())
