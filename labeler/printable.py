"""Text from anywhere, as a terminal may have it: nothing that moves its cursor, colours it or turns it."""

from __future__ import annotations

import json
import unicodedata
from typing import Any


def printable(text: str, keep: str = "") -> str:
    """`text` with a space for every character that draws nothing: escapes, controls, bidi marks.

    Args:
        text: any text.
        keep: characters that stay, e.g. ``"\\n"`` of text in lines.
    """
    return "".join(character if character.isprintable() or character in keep else " " for character in text)


def is_printable(text: str) -> bool:
    """Whether `text` has nothing that `printable` takes out but spaces of another width, as in file names."""
    return all(c.isprintable() or unicodedata.category(c) == "Zs" for c in text)


def json_text(data: Any) -> str:
    """`data` as JSON for reading: letters of all scripts as they are, what draws nothing escaped."""
    text = json.dumps(data, indent=1, ensure_ascii=False)
    if text.replace("\n", "").isprintable():
        return text
    # JSON has such characters inside of strings only, but for the line ends of its own indentation
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
