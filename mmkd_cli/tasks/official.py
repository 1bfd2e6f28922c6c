"""Ids as official files have them."""

from __future__ import annotations


def official_id(text: str) -> int | str:
    """A number where it is one (COCO's ids); else the text."""
    return int(text) if text.isascii() and text.isdigit() and str(int(text)) == text else text
