"""GLUE's result files: labels by name or number, similarities; what does not fit the texts is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmkd_cli.benches.glue_files import read_predictions
from mmkd_cli.core.errors import UserError

NAMES = ("entailment", "neutral", "contradiction")
IDS = ("0", "1", "2")


def tsv(folder: Path, *said: object, header: str = "index\tprediction") -> Path:
    path = folder / "MNLI-m.tsv"
    path.write_text("\n".join([header, *(f"{number}\t{one}" for number, one in enumerate(said))]) + "\n")
    return path


def test_names_numbers_and_similarities(tmp_path: Path) -> None:
    assert read_predictions(tsv(tmp_path, "neutral", "entailment", 2), IDS, NAMES).tolist() == [1, 0, 2]
    assert read_predictions(tsv(tmp_path, 4.25, -0.1, 5), IDS, None).tolist() == [4.25, -0.1, 5]
    four = tsv(tmp_path, "neutral", "entailment", "neutral", "contradiction")
    assert read_predictions(four, IDS, NAMES, frozenset({"3"})).tolist() == [1, 0, 1]
    shuffled = tmp_path / "RTE.tsv"
    shuffled.write_text("index\tprediction\r\n2\t0\r\n0\t1\r\n1\t1\r\n")
    assert read_predictions(shuffled, IDS, NAMES).tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("said", "names", "complaint"),
    [
        (("neutral", "nuetral", 1), NAMES, r"row 2: label 'nuetral' is none of .*did you mean 'neutral'"),
        (("neutral", 3, 1), NAMES, "label '3' is none of"),
        (("neutral", -1, 1), NAMES, "row 2: prediction '-1' is none of"),
        ((1, 1), NAMES, r"index: 1 of 3 are missing \(the first: '2'\)"),
        ((1, 1, 1, 1), NAMES, r"index: 1 are not in the annotations \(the first: '3'\)"),
        ((1, "nan", 1), None, "row 2: prediction 'nan' is no number"),
        ((1, "five", 1), None, "row 2: prediction 'five' is no number"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, said: tuple[object, ...], names: tuple[str, ...] | None, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        read_predictions(tsv(tmp_path, *said), IDS, names)


def test_other_columns_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no column 'prediction', .*did you mean 'predictions'"):
        read_predictions(tsv(tmp_path, 1, 1, 1, header="index\tpredictions"), IDS, NAMES)
    with pytest.raises(UserError, match=r"GLUE's result files are \.tsv"):
        read_predictions(tmp_path / "said.json", IDS, NAMES)
    twice = tsv(tmp_path, 1, 1, 1)
    twice.write_text(twice.read_text() + "1\t0\n")
    with pytest.raises(UserError, match=r"index: 1 stand there more than once \(the first: '1'\)"):
        read_predictions(twice, IDS, NAMES)
