"""Pages: what data says stays text, nothing is asked of any network, and a browser agrees."""

from __future__ import annotations

import io
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from mmkd_cli.reports.blocks import Block, Card, Heading, Paragraph, Pictures, Query, Table, thumbnail
from mmkd_cli.reports.page import render, shown, write_page
from mmkd_cli.reports.plots import histogram_figure, line_figure

HOSTILE = "<script>document.title='taken'</script>\"'><img src=x onerror=\"document.title='taken'\">&amp;</style>"


class Elements(HTMLParser):
    """Every element's name and attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def every_block(text: str) -> list[Block]:
    picture = thumbnail(Image.new("RGB", (400, 200), "teal"))
    card = Card(picture, text, True, text)
    return [
        Heading(text),
        Paragraph(text),
        Table([text, "n"], [[text, 1], [text, 0.25]], caption=text, quoted=frozenset({1})),
        line_figure({text: ([1, 2], [3.0, 4.0])}, text, text, text),
        histogram_figure({text: [0, 3, 1]}, [0, 1, 2, 3], text, text),
        Pictures([card, Card(None, text, False)]),
        Query(card, [Card(picture, "", False, text), Card(None, text)]),
    ]


def test_what_data_says_stays_text() -> None:
    page = Elements(render(HOSTILE, every_block(HOSTILE)))
    assert {tag for tag, _ in page.found}.isdisjoint({"script", "iframe", "object", "link", "base", "a", "form"})
    assert not [name for _, attributes in page.found for name in attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) >= 12
    assert all(
        attributes["src"].startswith("data:image/jpeg;base64,") for tag, attributes in page.found if tag == "img"
    )


def test_a_page_asks_for_nothing() -> None:
    page = render("A page", every_block("a caption"))
    assert "http://" not in page and "https://" not in page and "@import" not in page and "url(http" not in page
    for tag, attributes in Elements(page).found:
        for name in ("href", "xlink:href", "src", "srcset", "poster", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/")), (tag, attributes)
    assert "default-src 'none'" in page


def test_the_same_blocks_give_the_same_bytes() -> None:
    assert render("A page", every_block("a caption")) == render("A page", every_block("a caption"))


def test_right_and_wrong_are_words_and_not_only_colours() -> None:
    page = Elements(render("A page", [Pictures([Card(None, "a", True), Card(None, "b", False), Card(None, "c")])]))
    assert [word for word in page.text.split() if word in ("right", "wrong")][-2:] == ["right", "wrong"]
    classes = [attributes.get("class", "") for tag, attributes in page.found if tag == "div"]
    assert [("right" in (c or ""), "wrong" in (c or "")) for c in classes if c and "card" in c] == [
        (True, False),
        (False, True),
        (False, False),
    ]


def test_thumbnails_are_small_jpegs_of_the_whole_picture() -> None:
    import base64

    data = base64.b64decode(thumbnail(Image.new("RGBA", (1000, 500), "red"), 100).partition(",")[2])
    picture = Image.open(io.BytesIO(data))
    assert (picture.format, picture.size, picture.mode) == ("JPEG", (100, 50), "RGB")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "yes"), (25010, "25,010"), (16.0, "16.00"), (0.02, "0.02"), (0.4992, "0.4992"),
     (-0.5, "-0.50"), (1e-5, "1e-05"), (0.0, "0.00"), ("x", "x")],
)  # fmt: skip
def test_cells(value: object, text: str) -> None:
    assert shown(value) == text  # type: ignore[arg-type]


def test_a_browser_runs_nothing_of_it(tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    write_page(tmp_path / "page.html", "An honest title", every_block(HOSTILE))
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}",
         "--dump-dom", (tmp_path / "page.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if "<html" not in done.stdout:
        pytest.skip(f"Chromium does not start here: {done.stderr.strip().splitlines()[-1:]}")
    assert "<title>An honest title</title>" in done.stdout
    assert "<script" not in done.stdout
    drawn = Elements(done.stdout)
    assert sum(tag == "svg" for tag, _ in drawn.found) == 2
