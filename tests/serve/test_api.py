"""The JSON API: it says what the catalogue says, in pages, and never fails on a question."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from labeler.catalogue import CatalogueStore
from labeler.records import UnitId, UnitRecord
from tests.report.hostile import HOSTILE
from tests.serve.conftest import EXPECTED
from tests.serve.serving import Server


@pytest.fixture(scope="module")
def records(run: Path) -> list[UnitRecord]:
    store = CatalogueStore(run / "catalogue.db", read_only=True)
    found = list(store.units())
    store.close()
    return found


def test_pages_of_a_filter_are_all_its_units_in_order(server: Server, records: list[UnitRecord]) -> None:
    wanted = [record.unit for record in records if record.layer == "early.1" and record.verdict == "rejected"]
    found: list[str] = []
    for offset in range(0, 30, 7):
        page = server.ask(f"api/units?layer=early.1&verdict=rejected&limit=7&offset={offset}").json
        assert (page["total"], page["limit"], page["offset"]) == (len(wanted), 7, offset)
        found += [unit["unit"] for unit in page["units"]]
    assert found == wanted


def test_a_listed_unit_is_its_record_in_short(server: Server, records: list[UnitRecord]) -> None:
    record = next(record for record in records if record.verdict == "polysemantic")
    (unit,) = server.ask(f"api/units?q={quote(record.unit)}&verdict=polysemantic&limit=1").json["units"]
    assert unit["unit"] == record.unit
    assert unit["labels"] == [
        label.model_dump(include={"text", "kind", "facet", "score", "probability"}) for label in record.labels
    ]
    assert (unit["trust"], unit["reason"]) == (record.trust.verdict, record.reason)
    assert server.ask(unit["page"]).status == 200
    assert server.ask(f"images/{unit['photograph']}").headers["content-type"] == "image/webp"


def test_orders_are_by_score(server: Server) -> None:
    scores = {
        order: [unit["score"] for unit in server.ask(f"api/units?order={order}&limit=200").json["units"]]
        for order in ("best", "worst")
    }
    assert scores["worst"] == sorted(scores["worst"])
    assert scores["best"] == sorted(scores["best"], reverse=True)


def test_a_unit_is_its_whole_record(server: Server, records: list[UnitRecord]) -> None:
    for record in records[::40]:
        for name in (record.unit, quote(record.unit, safe="")):
            assert UnitRecord.model_validate(server.ask(f"api/units/{name}").json) == record


def test_a_search_finds_labels_by_their_words(server: Server, records: list[UnitRecord]) -> None:
    text = next(record for record in records if record.verdict == "accepted").labels[0].text
    found = server.ask(f"api/search?q={quote(text)}&k=3").json
    assert text in {hit["label"] for hit in found["hits"]}
    assert found["method"].startswith("words")


def test_the_status_counts(server: Server, records: list[UnitRecord]) -> None:
    status = server.ask("api/status").json
    assert status["with_verdict"] == sum(status["verdicts"].values()) == len(records)
    assert status["units"] == EXPECTED
    assert status["progress"].startswith(f"The run goes on: {len(records)} of {EXPECTED} units")


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("api/units/early.1:999", 404, "no unit early.1:999"),
        ("api/units/nothing", 422, "unit: "),
        ("api/units/early.1:" + "9" * 5000, 422, "unit: "),
        ("api/units?limit=0", 422, "limit: "),
        ("api/units?limit=201", 422, "limit: "),
        ("api/units?offset=-1", 422, "offset: "),
        ("api/units?verdict=right", 422, "verdict: "),
        ("api/units?order=random", 422, "order: "),
        ("api/search", 422, "q: "),
        ("api/images?unit=early.1:3", 404, "no finished activations"),
        ("api/nothing", 404, "no such page"),
    ],
)  # fmt: skip
def test_an_error_is_one_sentence(server: Server, path: str, status: int, says: str) -> None:
    answer = server.ask(path)
    assert answer.status == status
    assert answer.json.keys() == {"error"}
    assert says in answer.json["error"]
    assert "\n" not in answer.json["error"]


def test_hostile_questions_find_hostile_labels_and_nothing_breaks(server: Server) -> None:
    for text in HOSTILE[::4]:
        asked = quote(text[:60], safe="")
        for path in (f"api/units?q={asked}", f"api/units?layer={asked}", f"api/search?q={asked}"):
            assert server.ask(path).status == 200, path
        assert server.ask(f"api/units/{asked}").status in (404, 422)
        assert server.ask(f"units/{asked}/0.html").status == 404
    units = server.ask("api/units?layer=hostile&limit=200").json["units"]
    texts = [label["text"] for unit in units for label in unit["labels"]]
    assert texts == [text if len(text) <= 200 else f"{text[:200]}…" for text in HOSTILE]


def test_the_description_lists_every_question_and_the_page_shows_it(server: Server) -> None:
    paths = server.ask("api/openapi.json").json["paths"]
    assert set(paths) == {"/api/units", "/api/units/{unit}", "/api/search", "/api/images", "/api/status"}
    assert all(methods.keys() == {"get"} for methods in paths.values())
    page = server.ask("api").text
    for path, methods in paths.items():
        assert path in page
        assert all(parameter["description"] for parameter in methods["get"].get("parameters", []))


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_answers_are_as_described_whatever_is_asked(server: Server, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}api/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 5
    for operation in operations:

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
        def holds(case: schemathesis.Case) -> None:
            case.call_and_validate(timeout=120)

        if operation.path != "/api/status" or mode is GenerationMode.POSITIVE:  # it takes no question
            holds()


def test_ids_are_those_of_the_catalogue(server: Server, records: list[UnitRecord]) -> None:
    found = server.ask("api/units?limit=200").json["units"]
    assert [UnitId.parse(unit["unit"]) for unit in found] == [record.id for record in records][:200]
