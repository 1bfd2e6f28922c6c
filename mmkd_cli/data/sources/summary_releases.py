"""The files that XSum and CNN/DailyMail were released as: a file an article, and lists that name them by split."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmkd_cli.core.errors import UserError
from mmkd_cli.data.sources import fields
from mmkd_cli.data.sources.text_parts import Parts

XSUM_SPLITS = "XSum-TRAINING-DEV-TEST-SPLIT-90-5-5.json"
_XSUM_FOLDERS = ("bbc-summary-data", "xsum-extracts-from-downloads", ".")
_XSUM_NOT_TEXT = {
    "Share this with", "Email", "Facebook", "Messenger", "Twitter", "Pinterest", "WhatsApp", "Linkedin", "LinkedIn",
    "Copy this link", "These are external links and will open in a new window",
}  # fmt: skip
"""Lines of the page around an article. [C] datasets' XSum leaves them out, too."""
_URL_LISTS = {"train": "all_train.txt", "val": "all_val.txt", "test": "all_test.txt"}
_STORY_FOLDERS = ("cnn/stories", "dailymail/stories", "cnn_stories", "dailymail_stories", "stories", ".")
_ENDS = (".", "!", "?", "...", "'", "`", '"', "\u2019", "\u201d", ")")
"""Of a sentence. [C] See et al. put a full stop behind lines without one."""

_MOST_BYTES = 16 << 20


@dataclass(frozen=True)
class Release:
    """files: split -> id -> the article's file; of one that is not there where it was looked for. parse: its text and
    summary."""

    files: Mapping[str, Mapping[str, Path]]
    parse: Callable[[str], tuple[str, str]]

    def add_to(self, parts: Parts) -> None:
        for split, files in self.files.items():
            ids = list(files)
            parts.add(split, len(ids), self._reader(ids, files), f"split {split!r} of the release")

    def _reader(self, ids: list[str], files: Mapping[str, Path]) -> Callable[[int, int], Iterator[dict[str, Any]]]:
        def read(first: int, last: int) -> Iterator[dict[str, Any]]:
            for one in ids[first:last]:
                text, summary, problem = self._article(files[one])
                row = {"text_id": one, "text": text, "summary": summary}
                yield {**row, "problem": problem} if problem else row

        return read

    def _article(self, path: Path) -> tuple[str, str, str]:
        """Text, summary, and why they can't be used."""
        if not path.is_file():
            return "", "", "the file is not there"
        if path.stat().st_size > _MOST_BYTES:
            return "", "", f"file {path} has more than {_MOST_BYTES:,} bytes"
        try:
            text, summary = self.parse(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            return "", "", f"file {path} is not UTF-8"
        problem = f"file {path} has no article" if not text else f"file {path} has no summary" if not summary else ""
        return text, summary, problem

    def missing(self) -> Iterator[str]:
        for files in self.files.values():
            yield from (str(path) for path in files.values() if not path.is_file())

    def listing(self) -> list[Any]:
        """Split, ids and sizes, in order."""
        return [[split, [[one, path.stat().st_size if path.is_file() else -1] for one, path in files.items()]]
                for split, files in self.files.items()]  # fmt: skip


def xsum_release(place: Path) -> Release | None:
    """A folder with the official list of splits and, below it, ID.summary files; None where there is no list."""
    if not (place / XSUM_SPLITS).is_file():
        return None
    file = place / XSUM_SPLITS
    files: dict[str, dict[str, Path]] = {}
    for split, ids in fields.read_document(file).items():
        where = f"file {file}, {split!r}"
        named = [fields.typed(one, str, where) for one in fields.typed(ids, list, where)]
        for one in named:
            fields.inner_path(one, where)
        files[split] = _placed(place, _XSUM_FOLDERS, named, ".summary", where)
    return Release(files, _xsum_article)


def stories_release(place: Path) -> Release | None:
    """A folder with See et al.'s lists of URLs (or url_lists/ with them) and .story files, named by the URL's SHA-1."""
    lists = next((folder for folder in (place, place / "url_lists") if (folder / _URL_LISTS["test"]).is_file()), None)
    if lists is None:
        return None
    files: dict[str, dict[str, Path]] = {}
    for split, name in _URL_LISTS.items():
        if (lists / name).is_file():
            urls = (lists / name).read_text(encoding="utf-8", errors="replace").split()
            ids = [hashlib.sha1(url.encode()).hexdigest() for url in urls]
            files[split] = _placed(place, _STORY_FOLDERS, ids, ".story", f"file {lists / name}")
    return Release(files, _story)


def _placed(place: Path, folders: tuple[str, ...], ids: list[str], suffix: str, where: str) -> dict[str, Path]:
    """id -> file, in the first folder that has it."""
    there = [place / name for name in folders if (place / name).is_dir()]
    found: dict[str, Path] = {}
    for one in ids:
        if one in found:
            raise UserError(f"{where}: {one!r} stands there twice: keep one of them")
        ways = [folder / f"{one}{suffix}" for folder in there]
        found[one] = next((path for path in ways if path.is_file()), ways[0])
    return found


def _xsum_article(text: str) -> tuple[str, str]:
    """`[SN]NAME[SN]` stands before each part: the first sentence is the summary, the rest of the body the article."""
    parts = re.split(r"^\[SN\](.+?)\[SN\]\s*$", text, flags=re.MULTILINE)
    named = dict(zip(parts[1::2], parts[2::2], strict=True))
    article, summary = (
        [line for line in named.get(name, "").splitlines() if line.strip() and line.strip() not in _XSUM_NOT_TEXT]
        for name in ("RESTBODY", "FIRST-SENTENCE")
    )
    return "\n".join(article).strip(), " ".join(summary).strip()


def _story(text: str) -> tuple[str, str]:
    """Lines of the article, then `@highlight` before each line of the summary."""
    article, highlights, in_highlights = [], [], False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("@highlight"):
            in_highlights = True
        elif line:
            (highlights if in_highlights else article).append(line if line.endswith(_ENDS) else f"{line} .")
    return " ".join(article), "\n".join(highlights)
