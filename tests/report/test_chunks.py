"""The data files that a page searches: all units, once, small enough, and safe to read as a script."""

from __future__ import annotations

import json
import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.records import TRUSTS, VERDICTS
from labeler.report.cards import Card, card
from labeler.report.chunks import chunked, row, script_data, write_chunks
from tests.report.catalogues import units
from tests.report.hostile import HOSTILE

NAMES = st.text(max_size=30)
CARDS = st.builds(
    Card, unit=NAMES, name=NAMES, href=NAMES, verdict=st.sampled_from(VERDICTS),
    labels=st.lists(NAMES, max_size=3).map(tuple), refused=NAMES,
    score=st.none() | st.floats(0, 1), trust=st.sampled_from(TRUSTS), photograph=st.none() | NAMES,
    picture=st.none(),
)  # fmt: skip


def read_chunk(path: Path) -> list[list[object]]:
    found = re.fullmatch(r"labeler\.chunk\(\d+, (\[.*\])\);\n", path.read_text("ascii"), re.DOTALL)
    assert found is not None
    rows: list[list[object]] = json.loads(found[1])
    return rows


@given(
    st.recursive(
        st.text() | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
@settings(max_examples=50, deadline=None)
def test_data_comes_back_from_a_script_and_can_end_nothing(value: object) -> None:
    text = script_data(value)
    assert json.loads(text) == value
    assert text.isascii()
    assert not set(text) & set("<>&\n\r")


def test_hostile_texts_are_only_data() -> None:
    text = script_data(list(HOSTILE))
    assert json.loads(text) == list(HOSTILE)
    assert not re.search(r"[<>&\x00-\x1f\x7f-\uffff]", text)


@given(st.lists(CARDS, max_size=40), st.integers(1, 7), st.integers(50, 2000))
@settings(deadline=None)
def test_chunks_have_every_card_once_in_order_and_keep_their_limits(
    cards: list[Card], rows: int, size: int
) -> None:
    chunks = list(chunked("layer", cards, rows, size))
    assert [found for chunk in chunks for found in chunk.cards] == cards
    for chunk in chunks:
        assert 1 <= len(chunk.cards) <= rows
        assert len(chunk.cards) == 1 or sum(len(script_data(row(found))) for found in chunk.cards) <= size
        summary = chunk.summary()
        assert summary["units"] == sum(summary["verdicts"].values()) == sum(summary["trusts"].values())


def test_the_files_hold_the_cards_and_the_manifest_names_them(tmp_path: Path) -> None:
    cards = [card(record, lambda name: name is not None) for record in units("a", 25, ["t.webp"])]
    write_chunks(tmp_path, list(chunked("a", cards, rows=10)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "chunk-0.js", "chunk-1.js", "chunk-2.js", "manifest.js",
    ]  # fmt: skip
    rows = [found for number in range(3) for found in read_chunk(tmp_path / f"chunk-{number}.js")]
    assert [found[0] for found in rows] == [found.unit for found in cards]
    assert [VERDICTS[int(str(found[3]))] for found in rows] == [found.verdict for found in cards]
    manifest = json.loads((tmp_path / "manifest.js").read_text()[len("labeler.manifest(") : -len(");\n")])
    assert [chunk["units"] for chunk in manifest["chunks"]] == [10, 10, 5]


def test_very_long_labels_do_not_make_a_large_file(tmp_path: Path) -> None:
    record = next(units("a", 1, ["t.webp"]))
    long = record.labels[0].model_copy(update={"text": "\u202e" * 300_000})
    shown = card(record.model_copy(update={"labels": (long,) * 3, "name": "x" * 10**6}), lambda name: True)
    write_chunks(tmp_path, list(chunked("a", [shown] * 3000)))
    assert len(list(tmp_path.iterdir())) > 2
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < 1_000_000
