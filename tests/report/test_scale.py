"""100,000 units: how long lists, the report and its first page take, and how large any file is."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from labeler.catalogue.paging import CataloguePages, Filter
from labeler.run_report import write_report
from tests.browsing import site_url, visit
from tests.report.catalogues import some_tiles, units, write_run
from tests.serve.serving import serving

UNITS, LAYERS = 100_000, 4


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `UNITS` units; LABELER_LARGE_RUN keeps it for the next time."""
    kept = os.environ.get("LABELER_LARGE_RUN")
    run = Path(kept) if kept else tmp_path_factory.mktemp("large")
    if not (run / "run.json").is_file():
        tiles = some_tiles(run / "images")
        records = (
            record for layer in range(LAYERS) for record in units(f"layer.{layer}", UNITS // LAYERS, tiles)
        )
        write_run(run, records, UNITS)
    return run


def seconds(function: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """The median of five."""
    found = []
    for _ in range(5):
        start = clock()
        function()
        found.append(clock() - start)
    return sorted(found)[2]


@pytest.mark.slow
def test_a_list_with_a_filter_takes_less_than_300_ms(large: Path) -> None:
    pages = CataloguePages(large / "catalogue.db")
    deepest = UNITS // LAYERS - 60
    asked = {
        "verdict": lambda: pages.find(Filter(verdict="accepted")),
        "layer, last page": lambda: pages.find(Filter(layer="layer.2"), offset=deepest),
        "trust and verdict": lambda: pages.find(Filter(verdict="accepted", trust="suspect")),
        "text": lambda: pages.find(Filter(text="striped")),
        "worst first": lambda: pages.find(Filter(verdict="accepted"), order="worst"),
        "counts": lambda: pages.counts("verdict"),
    }
    gc.collect()
    gc.freeze()  # the many objects of the test process are not those of a user's
    measured = {name: seconds(question, time.process_time) for name, question in asked.items()}
    print({name: f"{1000 * found:.0f} ms" for name, found in measured.items()})
    gc.unfreeze()
    assert max(measured.values()) < 0.3
    pages.close()


@pytest.mark.slow
def test_the_report_of_100_000_units(large: Path, browser: Browser) -> None:
    before, start = os.times(), time.perf_counter()
    write_report(large, large / "report")
    wall, after = time.perf_counter() - start, os.times()
    processor = sum(after[:4]) - sum(before[:4])
    print(f"{wall:.0f} s, {processor:.0f} s of processor time")
    assert processor / 2 < 300  # on two cores that nothing else uses
    files = [
        entry for folder in ("data", "layers", "static") for entry in os.scandir(large / "report" / folder)
    ]
    pages = [entry for layer in os.scandir(large / "report" / "units") for entry in os.scandir(layer)]
    assert len(pages) == UNITS
    largest = max(entry.stat().st_size for entry in (*files, *pages))
    print(f"largest file {largest} bytes, {len(files)} other files")
    assert max(largest, (large / "report" / "index.html").stat().st_size) < 1_000_000
    reader = visit(browser, site_url(large / "report"))
    page = reader.ready()
    interactive = page.evaluate("performance.now()")
    start = time.perf_counter()
    page.fill("#q", "layer.3:24999")
    expect(page.locator("#found")).to_have_text("1 unit", timeout=60_000)
    print(f"interactive after {interactive:.0f} ms, search of all in {time.perf_counter() - start:.2f} s")
    assert interactive < 1000
    reader.check()
    page.context.close()


@pytest.mark.slow
def test_a_server_over_100_000_units(large: Path, browser: Browser) -> None:
    with serving(large) as server:
        reader = visit(browser, server.url)
        page = reader.ready()
        first = page.evaluate("performance.now()")
        page.reload()
        page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
        again = page.evaluate("performance.now()")
        listed = seconds(lambda: server.ask("api/units?verdict=accepted&order=worst&limit=60"))
        print(f"first page {first:.0f} ms, again {again:.0f} ms, list {1000 * listed:.0f} ms")
        assert again < 1000
        assert listed < 0.3
        reader.check()
        page.context.close()
