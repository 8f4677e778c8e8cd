import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from labeler.catalogue import CatalogueStore, Selection
from labeler.catalogue.files import failed
from labeler.errors import CatalogueError, RunError
from labeler.records import (
    CheckResult,
    Judgement,
    Label,
    RoundRecord,
    SpecificityNull,
    Trust,
    UnitId,
    UnitRecord,
)

NO_PICTURE = Trust(verdict="not_applicable", reason="No picture was made.")


def record(layer: str, index: int, verdict: str = "accepted", text: str = "striped") -> UnitRecord:
    labels = (Label(text=text, kind="texture", score=0.4),) if verdict == "accepted" else ()
    return UnitRecord(
        unit=f"{layer}:{index}", layer=layer, index=index, verdict=verdict, reason="r", labels=labels,
        trust=NO_PICTURE,
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> CatalogueStore:
    return CatalogueStore(tmp_path / "catalogue.db")


def test_records_come_back_as_they_went_in_by_layer_and_index(store: CatalogueStore) -> None:
    for layer, index in (("b", 2), ("a", 10), ("a", 9)):
        store.put_unit(record(layer, index))
    assert [found.unit for found in store.units()] == ["a:9", "a:10", "b:2"]
    assert store.unit(UnitId("b", 2)) == record("b", 2)


def test_filters_and_counts(store: CatalogueStore) -> None:
    store.put_unit(record("a", 0))
    store.put_unit(record("a", 1, "rejected"))
    assert [found.index for found in store.units(Selection(verdict="rejected"))] == [1]
    assert list(store.units(Selection(layer="b"))) == []
    assert store.counts() == {("a", "accepted"): 1, ("a", "rejected"): 1}


def test_putting_a_unit_again_replaces_its_labels(store: CatalogueStore) -> None:
    store.put_unit(record("a", 0, text="striped"))
    store.put_unit(record("a", 0, text="dotted"))
    assert store.label_texts() == ["dotted"]
    assert store.labelled_units("dotted", 9) == ["a:0"]
    assert store.labelled_units("striped", 9) == []


def test_decoys_come_back_in_order_and_replace_earlier_ones(store: CatalogueStore) -> None:
    check = CheckResult(status="ok", value=0.1, n=7, specificity=SpecificityNull(z=None, p=0.25, units=40))
    units, label = (
        [UnitId("b", 1), UnitId("a", 2, True)],
        Label(text="dog", score=0.25, checks={"iou": check}),
    )
    store.put_decoys({UnitId("c", 0): [label]})
    store.put_decoys({units[0]: [label, label], units[1]: []})
    assert list(store.decoys().items()) == [(units[0], (label, label)), (units[1], ())]


def test_a_second_answer_replaces_the_first_and_counts_as_the_last(store: CatalogueStore) -> None:
    said = [Judgement(unit="a:0", text=text, source="refused", answer="y") for text in ("dog", "cat")]
    for judgement in said:
        store.put_judgement(judgement)
    again = said[0].model_copy(update={"answer": "n"})
    store.put_judgement(again)
    assert store.judgements() == [said[1], again]


def test_a_decision_replaces_records_decoys_and_gate_together(store: CatalogueStore) -> None:
    store.put_unit(record("a", 0))
    store.put_decision([record("a", 0, "rejected")], {UnitId("a", 0): [Label(text="dog")]}, "{}")
    assert (store.unit(UnitId("a", 0)).verdict, store.meta("gate")) == ("rejected", "{}")
    assert store.label_texts() == []
    assert list(store.decoys()) == [UnitId("a", 0)]


def test_a_unit_that_is_not_there_is_one_sentence(store: CatalogueStore) -> None:
    store.put_unit(record("a", 0))
    with pytest.raises(CatalogueError, match="no layer 'z'"):
        store.unit(UnitId("z", 0))
    with pytest.raises(CatalogueError, match="no unit a:5"):
        store.unit(UnitId("a", 5))


def test_embeddings_keep_their_bytes(store: CatalogueStore) -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    store.put_label_embeddings(["a", "b", "refused"], vectors)
    assert store.label_embeddings()[0] == []  # no unit has any of them
    for index, text in enumerate(("b", "a", "without")):
        store.put_unit(record("x", index, text=text))
    texts, found = store.label_embeddings()
    assert texts == ["a", "b"]
    np.testing.assert_array_equal(found, vectors[:2])


def test_rounds_come_back_in_order(store: CatalogueStore) -> None:
    for number in (2, 1):
        store.put_round(UnitId("a", 0), RoundRecord(round=number, outcome="x" * number))
    assert [record.outcome for record in store.rounds(UnitId("a", 0))] == ["x", "xx"]


def test_a_file_that_is_no_catalogue_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "catalogue.db").write_bytes(b"not a database" * 100)
    with pytest.raises(RunError, match="not a readable catalogue"):
        CatalogueStore(tmp_path / "catalogue.db", read_only=True)
    with pytest.raises(RunError, match="There is no catalogue"):
        CatalogueStore(tmp_path / "other.db", read_only=True)


def coded(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("as SQLite says")
    error.sqlite_errorcode = code
    return error


WHOLE = [
    *map(coded, (sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_PERM)),
    *map(coded, (sqlite3.SQLITE_BUSY_SNAPSHOT, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_TOOBIG)),
    sqlite3.ProgrammingError("Cannot operate on a closed database."),
]  # fmt: skip


@pytest.mark.parametrize("error", WHOLE)
def test_nobody_is_told_to_delete_a_catalogue_that_is_whole(error: sqlite3.Error) -> None:
    assert "delete" not in str(failed(Path("catalogue.db"), error))


@pytest.mark.parametrize(
    "error", [coded(sqlite3.SQLITE_CORRUPT_INDEX), sqlite3.OperationalError("Could not decode to UTF-8")]
)
def test_of_a_damaged_catalogue_it_is_said_how_to_mend_it(error: sqlite3.Error) -> None:
    assert "put a copy in its place" in str(failed(Path("catalogue.db"), error))


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from labeler.catalogue import CatalogueStore
        store = CatalogueStore(Path(sys.argv[1]))
        for number in range(10_000):
            store.put_meta(f"k{number}", "answer")
            print(number, flush=True)
    """)
    path = tmp_path / "catalogue.db"
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    acknowledged = [int(child.stdout.readline()) for _ in range(50)]
    os.kill(child.pid, signal.SIGKILL)
    acknowledged += [int(line) for line in child.stdout if line.strip()]
    child.wait()
    store = CatalogueStore(path, read_only=True)
    assert all(store.meta(f"k{number}") == "answer" for number in acknowledged)
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
