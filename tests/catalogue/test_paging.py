"""Pages of a catalogue: the same units as reading everything, in the same order, while it is written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.catalogue import CatalogueStore
from labeler.catalogue.paging import CataloguePages, Filter
from labeler.errors import CatalogueError, RunError
from labeler.records import VERDICTS, Label, Trust, UnitId, UnitRecord

TRUSTS = ("supports", "partial")


def record(layer: str, index: int, *, verdict: str = "rejected", trust: str = "partial", text: str = "",
           score: float | None = 0.5, side: str = "", name: str = "") -> UnitRecord:  # fmt: skip
    label = (Label(text=text or "dog", score=score),)
    return UnitRecord(
        unit=f"{layer}:{index}{side}", layer=layer, index=index, name=name, verdict=verdict, reason="r",
        labels=label if text else (), candidates=() if text else label,
        trust=Trust(verdict=trust, reason="t"),
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogueStore]:
    opened = CatalogueStore(tmp_path / "catalogue.db")
    yield opened
    opened.close()


@pytest.fixture
def pages(store: CatalogueStore) -> Iterator[CataloguePages]:
    opened = CataloguePages(store.path)
    yield opened
    opened.close()


def names(pages: CataloguePages, **wanted: str) -> list[str]:
    return [found.unit for found in pages.find(Filter(**wanted)).records]


UNITS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b.1"]), st.integers(0, 30), st.sampled_from(["", "-"]),
        st.sampled_from(VERDICTS), st.sampled_from(TRUSTS), st.sampled_from(["", "striped", "DOTted"]),
        st.none() | st.floats(0, 1),
    ),
    max_size=25, unique_by=lambda row: row[:3],
)  # fmt: skip


@given(
    UNITS,
    st.sampled_from([None, "a"]),
    st.sampled_from([None, "accepted"]),
    st.sampled_from(["", "dott", "a:1"]),
)
@settings(max_examples=30, deadline=None)
def test_pages_are_slices_of_all_units_that_a_filter_lets_through(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple],
    layer: str | None,
    verdict: str | None,
    text: str,
) -> None:
    store = CatalogueStore(tmp_path_factory.mktemp("paging") / "catalogue.db")
    stored = [
        record(where, index, verdict=given, trust=trust, text=label, score=score, side=side)
        for where, index, side, given, trust, label, score in rows
    ]
    store.put_decision(stored, {}, "{}")
    stored.sort(key=lambda found: (found.layer, found.index, found.unit))
    every = [
        found for found in stored
        if layer in (None, found.layer) and verdict in (None, found.verdict)
        and (text in found.unit or any(text.lower() in label.text.lower() for label in found.labels))
    ]  # fmt: skip
    pages, wanted = CataloguePages(store.path), Filter(layer=layer, verdict=verdict, text=text)
    for offset in range(0, len(every) + 1, 4):
        page = pages.find(wanted, limit=4, offset=offset)
        assert page.total == len(every)
        assert list(page.records) == every[offset : offset + 4]
    best = [(found.labels or found.candidates)[0].score for found in every]
    worst = pages.find(wanted, order="worst").records
    assert [(found.labels or found.candidates)[0].score for found in worst] == sorted(
        score for score in best if score is not None
    )
    found_best = [
        (found.labels or found.candidates)[0].score for found in pages.find(wanted, order="best").records
    ]
    assert found_best == sorted(best, key=lambda score: -1.0 if score is None else score, reverse=True)
    for name in ("a", "b.1"):
        units = pages.units(name)
        for place, unit in enumerate(units):
            assert pages.place(unit) == place
            around = [None, *units, None]
            assert pages.beside(unit) == (around[place], around[place + 2])
            assert [found.id for found in pages.records(name, unit, 3)] == units[place : place + 3]
    pages.close()
    store.close()


def test_what_is_written_meanwhile_is_seen(store: CatalogueStore, pages: CataloguePages) -> None:
    assert (pages.layers(), pages.state()) == ({}, (0, 0))
    store.put_unit(record("a", 1))
    before = pages.state()
    assert names(pages) == ["a:1"]
    store.put_unit(record("a", 1, text="striped", verdict="accepted"))
    assert names(pages, text="stri") == ["a:1"]
    assert pages.state() != before
    assert pages.counts("verdict") == {("a", "accepted"): 1}
    assert pages.counts("trust") == {("a", "partial"): 1}


def test_percent_and_underscore_are_looked_for_as_they_are(
    store: CatalogueStore, pages: CataloguePages
) -> None:
    for index, text in enumerate(("100 % wool", "a_b", "axb", "back\\slash", "'quoted'")):
        store.put_unit(record("a", index, text=text))
    assert names(pages, text="%") == ["a:0"]
    assert names(pages, text="a_b") == ["a:1"]
    assert names(pages, text="\\") == ["a:3"]
    assert names(pages, text="'") == ["a:4"]


def test_named_directions_are_found_by_name(store: CatalogueStore, pages: CataloguePages) -> None:
    store.put_unit(record("a.directions", 0, name="Dog over cat"))
    store.put_unit(record("a", 0, name="Dog over cat"))
    assert names(pages, text="over") == ["a.directions:0"]


def test_samples_are_spaced_evenly_and_no_larger_than_asked(
    store: CatalogueStore, pages: CataloguePages
) -> None:
    for index in range(25):
        store.put_unit(record("a", index))
    assert [found.index for found in pages.sample(100)] == list(range(25))
    assert [found.index for found in pages.sample(9)] == list(range(0, 25, 3))


def test_decoys_give_their_scores(store: CatalogueStore, pages: CataloguePages) -> None:
    assert pages.decoy_scores(5) == ()
    decoys = {
        UnitId("a", index): [Label(text="x", score=index / 100), Label(text="y")] for index in range(20)
    }
    store.put_decoys(decoys)
    assert len(pages.decoy_scores(100)) == 20
    assert pages.decoy_scores(5) == (0.0, 0.04, 0.08, 0.12, 0.16)


def test_no_record_is_opened_to_count_or_to_filter(store: CatalogueStore, pages: CataloguePages) -> None:
    store.put_unit(record("a", 0))
    connection = sqlite3.connect(store.path)
    for query in (
        "SELECT COUNT(*) FROM units WHERE verdict = 'accepted' AND trust = 'partial'",
        "SELECT unit FROM units WHERE layer = 'a' AND trust = 'partial' ORDER BY layer, idx, unit LIMIT 60",
    ):
        plan = " ".join(str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {query}"))
        assert "USING COVERING INDEX" in plan
    connection.close()


def test_what_is_not_there_is_one_sentence(
    store: CatalogueStore, pages: CataloguePages, tmp_path: Path
) -> None:
    with pytest.raises(CatalogueError, match="no unit a:5, or none yet"):
        pages.unit(UnitId("a", 5))
    with pytest.raises(RunError, match=r"no catalogue in .* yet"):
        CataloguePages(tmp_path / "other.db")
    (tmp_path / "broken.db").write_bytes(b"not a database" * 100)
    with pytest.raises(RunError, match="not a readable catalogue"):
        CataloguePages(tmp_path / "broken.db")
