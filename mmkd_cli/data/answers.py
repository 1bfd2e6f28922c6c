"""Answers that a classifier chooses among, and what each is worth to a question (VQA v2's soft targets)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmkd_cli.core import paths
from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields
from mmkd_cli.metrics.vqa import normalized

PEOPLE = 3
"""VQA's accuracy: so many of the others make an answer right."""


def common_answers(people: Iterable[Sequence[str]], least: int, *, normalize: bool = True) -> list[str]:
    """Answers, normalised or as they stand, that people gave at least so often, the commonest first."""
    counts = Counter(answer for several in people for answer in _read(several, normalize))
    return sorted((one for one, times in counts.items() if times >= least and one), key=lambda a: (-counts[a], a))


def read_answers_file(path: Path) -> list[str]:
    """A JSON list, or lines; each once."""
    if path.suffix == ".json":
        listed = fields.typed(paths.read_json(path), list, f"file {path}")
        found = [fields.typed(one, str, f"file {path}, [{place}]") for place, one in enumerate(listed)]
    else:
        try:
            found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError:
            raise UserError(f"file {path} is not UTF-8: save it as UTF-8") from None
    if doubled := [one for one, times in Counter(found).items() if times > 1]:
        raise UserError(f"file {path}: answer {doubled[0]!r} stands there more than once: keep one")
    if len(found) < 2:
        raise UserError(f"file {path}: at least two answers are needed")
    return found


def soft_scores(people: Sequence[str], *, normalize: bool = True) -> dict[str, float]:
    """Answer -> its worth: the mean over the people of min(1, others who gave it / 3); of one person's 1.

    Of ten people 0.3, 0.6, 0.9 and 1 for one, two, three and four or more. normalize=False: answers as they stand.
    """
    counts, all_of = Counter(_read(people, normalize)), len(people)
    if all_of <= 1:
        return dict.fromkeys(counts, 1.0)
    return {
        one: (times * min(1.0, (times - 1) / PEOPLE) + (all_of - times) * min(1.0, times / PEOPLE)) / all_of
        for one, times in counts.items()
    }


def _read(people: Sequence[str], normalize: bool) -> list[str]:
    return [normalized(answer) if normalize else answer.strip() for answer in people]
