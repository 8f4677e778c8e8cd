"""A run that goes on while it is served: what is stored is there at the next question."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from labeler.catalogue import CatalogueStore
from labeler.records import RoundRecord, UnitId
from tests.browsing import visit
from tests.report.catalogues import gate_note, some_tiles, units, write_run
from tests.serve.serving import serving


def test_units_appear_as_they_are_stored(tmp_path: Path) -> None:
    tiles = some_tiles(tmp_path / "run" / "images", 3)
    records = list(units("a", 6, tiles))
    run = write_run(tmp_path / "run", records[:2], 6)
    store = CatalogueStore(run / "catalogue.db")
    with serving(run) as server:
        assert "2 of 6 units have a verdict, 0 rounds" in server.ask("").text
        assert server.ask("units/a/4.html").status == 404
        assert 'rel="next"' not in server.ask("units/a/1.html").text
        store.put_round(UnitId("a", 4), RoundRecord(round=1))
        assert "2 of 6 units have a verdict, 1 rounds" in server.ask("").text
        store.put_unit(records[4])
        assert server.ask("units/a/4.html").status == 200
        assert 'rel="next" href="../../units/a/4.html"' in server.ask("units/a/1.html").text
        assert server.ask("api/units").json["total"] == 3
        store.put_decision(records, {}, gate_note())
        assert server.ask("api/status").json["progress"] == ""
        assert "goes on" not in server.ask("").text
        changed = records[3].model_copy(update={"verdict": "dead", "labels": (), "reason": "Decided anew."})
        store.put_unit(changed)
        assert "Decided anew." in server.ask("units/a/3.html").text
        assert server.ask("api/units?verdict=dead").json["total"] == 1
    store.close()


def test_a_run_that_has_no_catalogue_yet_says_so_and_has_one_later(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [], 3)
    for file in run.glob("catalogue.db*"):
        file.unlink()
    with serving(run) as server:
        for path in ("", "api/units", "units/a/0.html"):
            answer = server.ask(path)
            assert answer.status == 404
            assert "There is no catalogue in" in answer.text
        store = CatalogueStore(run / "catalogue.db")
        assert "0 of 3 units have a verdict" in server.ask("").text
        store.put_unit(next(units("a", 1, ["x.webp"])))
        assert "1 of 3 units have a verdict" in server.ask("").text
        store.close()


def test_an_open_page_says_how_far_the_run_is(browser: Browser, tmp_path: Path) -> None:
    tiles = some_tiles(tmp_path / "run" / "images", 3)
    records = list(units("a", 4, tiles))
    run = write_run(tmp_path / "run", records[:1], 4)
    store = CatalogueStore(run / "catalogue.db")
    with serving(run) as server:
        reader = visit(browser, server.url)
        page = reader.ready()
        line = page.locator("#progress")
        expect(line).to_have_text("The run goes on: 1 of 4 units have a verdict, 0 rounds are recorded.")
        store.put_unit(records[1])
        expect(line).to_contain_text("1 more than on this page: load it again", timeout=15_000)
        store.put_decision(records, {}, gate_note())
        page.reload()
        expect(line).to_have_text("")
        expect(page.locator("#sample .card")).to_have_count(4)
        reader.check()
        page.context.close()
    store.close()
