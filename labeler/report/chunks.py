"""The data that a page searches without a server: scripts of rows, each loaded when it is needed.

A page on ``file://`` may not fetch a file, but may load a script beside it. Every chunk is one call with
plain data: ``labeler.chunk(NUMBER, ROWS)``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeler.records import TRUSTS, VERDICTS
from labeler.report.cards import Card

ROWS, BYTES = 4000, 500_000
"""A chunk ends at whichever comes first; both keep it well under 1 MB."""


@dataclass(frozen=True)
class Chunk:
    """One data file: cards of one layer that follow each other."""

    layer: str
    cards: tuple[Card, ...]

    def summary(self) -> dict[str, Any]:
        """What decides whether a search has to load it: its layer, and units by verdict and trust."""
        return {
            "layer": self.layer,
            "units": len(self.cards),
            "verdicts": dict(Counter(card.verdict for card in self.cards)),
            "trusts": dict(Counter(card.trust for card in self.cards)),
        }


def chunked(layer: str, cards: Iterable[Card], rows: int = ROWS, size: int = BYTES) -> Iterator[Chunk]:
    """Cards of one layer in pieces of at most `rows` cards and about `size` bytes."""
    part: list[Card] = []
    length = 0
    for card in cards:
        more = len(script_data(row(card)))
        if part and (len(part) == rows or length + more > size):
            yield Chunk(layer, tuple(part))
            part, length = [], 0
        part.append(card)
        length += more
    if part:
        yield Chunk(layer, tuple(part))


def row(card: Card) -> list[Any]:
    """A card as a page's script reads it; verdict and trust as places in the manifest's lists."""
    return [
        card.unit, card.name, card.href, VERDICTS.index(card.verdict), list(card.labels), card.refused,
        None if card.score is None else round(card.score, 5), TRUSTS.index(card.trust), card.photograph,
        card.picture,
    ]  # fmt: skip


def write_chunks(out: Path, chunks: Sequence[Chunk]) -> None:
    """Write ``manifest.js`` and one ``chunk-N.js`` for each chunk into the directory `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for number, chunk in enumerate(chunks):
        rows = ",\n".join(script_data(row(card)) for card in chunk.cards)
        (out / f"chunk-{number}.js").write_text(f"labeler.chunk({number}, [\n{rows}\n]);\n", "ascii")
    manifest = {
        "verdicts": list(VERDICTS),
        "trusts": list(TRUSTS),
        "chunks": [chunk.summary() for chunk in chunks],
    }
    (out / "manifest.js").write_text(f"labeler.manifest({script_data(manifest)});\n", "ascii")


def script_data(value: Any) -> str:
    """`value` as JSON in ASCII that is also JavaScript, and has no character that HTML reads.

    Line separators, bidi controls and all else outside ASCII are escaped, and so are ``<``, ``>`` and ``&``:
    a text can end neither a string, nor a line, nor a script element.
    """
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
