"""Lists, filters and searches, against what the records themselves say; and catalogues of version 1."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labeler.catalogue import CatalogueStore, Selection
from labeler.errors import RunError
from labeler.records import KINDS, VERDICTS, Label, UnitRecord
from tests.catalogue.catalogue_doubles import filled, record, records

SETTINGS = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
VERSION_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE units (
    unit TEXT PRIMARY KEY, layer TEXT NOT NULL, idx INTEGER NOT NULL, verdict TEXT NOT NULL,
    trust TEXT NOT NULL, record TEXT NOT NULL
);
CREATE INDEX units_by_layer ON units (layer, idx);
CREATE TABLE labels (
    unit TEXT NOT NULL, position INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (unit, position)
);
CREATE INDEX labels_by_text ON labels (text);
CREATE TABLE label_embeddings (text TEXT PRIMARY KEY, vector BLOB NOT NULL);
INSERT INTO meta VALUES ('schema', '1');
"""


def version_1(path: Path, found: list[UnitRecord]) -> Path:
    """A catalogue as version 1 wrote it."""
    with sqlite3.connect(path) as connection:
        connection.executescript(VERSION_1)
        for made in found:
            connection.execute(
                "INSERT INTO units VALUES (?, ?, ?, ?, ?, ?)",
                (made.unit, made.layer, made.index, made.verdict, made.trust.verdict, made.model_dump_json()),
            )
            for position, label in enumerate(made.labels):
                connection.execute("INSERT INTO labels VALUES (?, ?, ?)", (made.unit, position, label.text))
    connection.close()
    return path


def wanted_of(made: UnitRecord, wanted: Selection) -> bool:
    """The filter, said of a record."""
    given = [(made.layer, wanted.layer), (made.verdict, wanted.verdict), (made.trust.verdict, wanted.trust)]
    if any(want is not None and value != want for value, want in given):
        return False
    if wanted.kind is None and wanted.probability is None:
        return True
    return any(
        (wanted.kind is None or label.kind == wanted.kind)
        and (
            wanted.probability is None
            or (label.probability is not None and label.probability >= wanted.probability)
        )
        for label in made.labels
    )


selections = st.builds(
    Selection,
    layer=st.none() | st.sampled_from(["layer1", "=x"]),
    verdict=st.none() | st.sampled_from(VERDICTS[:3]),
    trust=st.none() | st.sampled_from(["partial", "suspect"]),
    kind=st.none() | st.sampled_from(KINDS),
    probability=st.none() | st.floats(0, 1),
)


@SETTINGS
@given(found=records(), wanted=selections)
def test_filters_let_through_what_they_say_in_order(
    tmp_path_factory: pytest.TempPathFactory, found: list[UnitRecord], wanted: Selection
) -> None:
    folder = tmp_path_factory.mktemp("query")
    expected = [made for made in found if wanted_of(made, wanted)]
    old = CatalogueStore(version_1(folder / "old.db", found), read_only=True)
    new = filled(folder / "catalogue.db", found)
    for store in (new, old):
        assert list(store.units(wanted)) == expected
        assert [row.unit for row in store.listed(wanted, 2, 1)] == [made.unit for made in expected[1:3]]
        assert store.label_texts() == sorted({label.text for made in found for label in made.labels})
    assert list(old.listed(wanted)) == list(new.listed(wanted))
    assert old.counts() == new.counts()
    for store in (new, old):
        store.close()


@SETTINGS
@given(found=records())
def test_what_is_listed_is_what_the_record_says(
    tmp_path_factory: pytest.TempPathFactory, found: list[UnitRecord]
) -> None:
    store = filled(tmp_path_factory.mktemp("query") / "catalogue.db", found)
    for made, row in zip(found, store.listed(), strict=True):
        assert (row.unit, row.layer, row.index, row.name) == (made.unit, made.layer, made.index, made.name)
        assert (row.verdict, row.reason, row.coverage) == (made.verdict, made.reason, made.coverage)
        assert row.trust == made.trust.verdict
        assert row.exemplars == tuple(item.image for item in made.exemplars)
        for label, listed in zip(made.labels, row.labels, strict=True):
            assert listed._asdict() == {
                name: value for name, value in dict(label).items() if name in listed._fields
            }
    store.close()


def test_a_catalogue_of_version_1_opened_to_be_written_becomes_one_of_this_version(tmp_path: Path) -> None:
    found = [record("a:1", "a", 1, "accepted", (Label(text="striped fur", kind="texture", probability=0.7),))]
    path = version_1(tmp_path / "catalogue.db", found)
    CatalogueStore(path).close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone() == ("3",)
    store = CatalogueStore(path, read_only=True)
    assert list(store.units(Selection(probability=0.6, kind="texture"))) == found
    assert store.find_words("stripes", 3) == ["striped fur"]
    store.close()


def test_a_catalogue_of_another_version_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = version_1(tmp_path / "catalogue.db", [])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '4'")
    for read_only in (True, False):
        with pytest.raises(RunError, match="version 4"):
            CatalogueStore(path, read_only=read_only)


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE diary (day TEXT)")
    with pytest.raises(RunError, match="not a catalogue"):
        CatalogueStore(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("diary",)]


@pytest.mark.parametrize("old", [False, True])
def test_words_find_labels_by_their_stems_and_beginnings(tmp_path: Path, old: bool) -> None:
    said = ["wheels of a car", "striped", "red wheel", 'odd "quotes" (and) *', "Straße"]
    found = [record(f"a:{i}", "a", i, "accepted", (Label(text=text),)) for i, text in enumerate(said)]
    if old:
        store = CatalogueStore(version_1(tmp_path / "catalogue.db", found), read_only=True)
    else:
        store = filled(tmp_path / "catalogue.db", found)
    assert store.find_words("wheel", 9) == ["red wheel", "wheels of a car"]
    assert store.find_words("wheel car", 9) == ["wheels of a car"]
    assert store.find_words("STRIP", 9) == ["striped"]
    assert store.find_words('"quotes" AND (', 9) == ['odd "quotes" (and) *']
    assert store.find_words("strasse", 9) == []
    assert store.find_words("straße", 9) == ["Straße"]
    assert store.find_words(" *(-", 9) == []
    assert store.find_words("wheel", 1) == ["red wheel"]


def test_a_label_that_no_unit_has_any_more_is_not_found(tmp_path: Path) -> None:
    store = filled(tmp_path / "catalogue.db", [record("a:0", "a", 0, "accepted", (Label(text="dog"),))])
    store.put_unit(record("a:0", "a", 0, "accepted", (Label(text="cat"),)))
    assert store.find_words("dog", 9) == []
    assert store.find_words("cat", 9) == ["cat"]
    assert store.labelled_units("cat", 5) == ["a:0"]


def test_units_of_a_label_come_by_layer_and_index(tmp_path: Path) -> None:
    places = [("b", 3), ("a", 10), ("a", 9)]
    found = [record(f"{la}:{i}", la, i, "accepted", (Label(text="dog"),)) for la, i in places]
    store = filled(tmp_path / "catalogue.db", found)
    assert store.labelled_units("dog", 9) == ["a:9", "a:10", "b:3"]
    assert store.labelled_units("dog", 2) == ["a:9", "a:10"]
