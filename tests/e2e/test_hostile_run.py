"""A whole run before a server that does everything wrong: units end labelled or failed, none unchecked."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass

import pytest

import labeler
from labeler.records import UnitRecord
from tests.e2e.toy_run import NETWORK, Outcome, run_toy, toy_config, write_config
from tests.propose.endpoint.hostile import LONG, MISDEEDS, Misdeed, serving
from tests.propose.endpoint.loopback import labels

UNITS, NEGATIVE = {"colours": "0-5,7-15", "edges": "0-15"}, {"edges": "0-9"}
FIRST = "SELECT unit FROM model_calls WHERE step = 'ask' GROUP BY unit ORDER BY MIN(id)"


@dataclass(frozen=True)
class Suffered:
    """A finished run, and what the server did to the units that it was asked about."""

    outcome: Outcome
    records: dict[str, UnitRecord]
    misdeeds: dict[str, Misdeed]


@pytest.fixture(scope="module")
def suffered(tmp_path_factory: pytest.TempPathFactory) -> Suffered:
    folder = tmp_path_factory.mktemp("hostile")
    with (
        serving(in_turn=True, good=labels("red", "green", "blue", "yellow")) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.delenv("OPENAI_API_KEY", raising=False)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            patch.delenv(name, raising=False)
        patch.setattr("labeler.propose.endpoint.pace.BACKOFF", (0.01, 0.05))
        propose = {
            "kind": "vlm", "model": "toy", "base_url": server.url, "retries": 2, "timeout": 1.0,
            "candidates": 4, "concurrency": 1,
        }  # fmt: skip
        config = toy_config(
            180, propose=propose, visualise={"enabled": False}, refine={"rounds": 1},
            exemplars={"propose": 0.35, "feedback": 0.25},
            target={"model": f"file:{NETWORK}:build", "layers": ["colours", "edges"], "units": UNITS,
                    "negative": NEGATIVE},
            checks={"min_test_images": 40, "min_null_units": 8, "permutations": 100, "interventions": 0},
        )  # fmt: skip
        outcome = run_toy(write_config(folder, config), folder / "run")
    assert outcome.code == 3, outcome.err
    with labeler.Catalogue.open(folder / "run") as catalogue:
        records = {record.unit: record for record in catalogue}
    with closing(sqlite3.connect(folder / "run" / "catalogue.db")) as database:
        units = [unit for (unit,) in database.execute(FIRST)]
    return Suffered(outcome, records, dict(zip(units, MISDEEDS, strict=False)))


def test_the_run_ends(suffered: Suffered) -> None:
    assert suffered.outcome.code == 3, suffered.outcome.err
    assert "Traceback" not in suffered.outcome.err
    assert list(suffered.misdeeds.values()) == list(MISDEEDS)
    assert suffered.records.keys() >= suffered.misdeeds.keys()


def test_every_unit_ends_labelled_or_failed_with_its_cause(suffered: Suffered) -> None:
    for unit, misdeed in suffered.misdeeds.items():
        record = suffered.records[unit]
        assert (record.verdict == "failed") == (misdeed.cause is not None), (misdeed.name, record.reason)
        if misdeed.cause is not None:
            assert misdeed.cause in record.reason, (misdeed.name, record.reason)
            assert record.labels == record.candidates == ()
        else:
            assert record.rounds[0].labels, misdeed.name


def test_nothing_unchecked_reaches_the_catalogue(suffered: Suffered) -> None:
    known = [label for record in suffered.records.values() for label in (*record.labels, *record.candidates)]
    assert any(
        (label.checks["prediction"].value or 0) > 0.5 for label in known
    )  # there is something to accept
    for record in suffered.records.values():
        tried = {label.text for item in record.rounds for label in item.labels}
        assert {label.text for label in (*record.labels, *record.candidates)} <= tried
        assert all(len(text) <= 80 and "<" not in text for text in tried)
        for label in (*record.labels, *record.candidates):
            assert label.split == "test"
            assert label.checks["prediction"].status in ("ok", "not_applicable")
        for label in record.labels:
            check = label.checks["prediction"]
            assert (check.low or 0) > 0
            assert check.significance is not None
            assert (check.significance.p or 0) < 0.05


def test_nothing_that_the_server_said_beyond_labels_is_kept(suffered: Suffered) -> None:
    said = "".join(record.model_dump_json() for record in suffered.records.values())
    assert LONG[:100] not in said
    assert "<script" not in said
    assert "Ignore the rules" not in said
