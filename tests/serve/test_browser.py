"""The served pages in a real browser: they do what the report on the disk does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from tests.browsing import Visit, visit
from tests.report.conftest import EACH
from tests.report.hostile import HOSTILE, as_parsed
from tests.serve.serving import Server


@pytest.fixture
def reader(browser: Browser, server: Server) -> Iterator[Visit]:
    found = visit(browser, server.url)
    yield found
    found.check()
    found.page.context.close()


def test_filters_search_and_keys_do_what_they_do_on_the_disk(reader: Visit) -> None:
    page = reader.ready()
    page.select_option("#layer", "late/2")
    expect(page.locator("#found")).to_have_text("60 units")
    expect(page.locator("#results .card")).to_have_count(60)
    page.keyboard.press("/")
    page.keyboard.type("late/2:1")
    expect(page.locator("#found")).to_have_text("11 units")
    page.keyboard.press("Enter")
    expect(page.locator("#results .card").nth(0)).to_be_focused()
    page.keyboard.press("j")
    expect(page.locator("#results .card").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    reader.at("late/2:10")
    page.keyboard.press("j")
    reader.at("late/2:11")
    page.keyboard.press("Escape")
    expect(page.locator("#q")).to_have_value("late/2:1")
    expect(page.locator("#found")).to_have_text("11 units")
    page.get_by_role("link", name="API").click()
    expect(page.locator("h1")).to_have_text("JSON API")


def test_worst_scores_come_first_when_asked_for(reader: Visit) -> None:
    page = reader.open("index.html#order=worst&verdict=accepted")
    lines = page.locator("#results .card .more:last-child")
    expect(lines.first).to_be_visible()
    scores = [float(text.split()[1]) for text in lines.all_text_contents()]
    assert scores == sorted(scores)


def test_the_policy_lets_nothing_run_and_asks_nobody(reader: Visit) -> None:
    for path in ("index.html", "units/early.1/4.html"):
        reader.open(path)
        reader.check_that_nothing_breaks_out()


def test_hostile_texts_are_shown_and_run_nowhere(reader: Visit) -> None:
    shown: list[str] = []
    for index in range(-(-len(HOSTILE) // EACH)):
        page = reader.open(f"units/hostile/{index}.html")
        shown += page.locator(".headline bdi").all_text_contents()
        reader.check()
    for text, found in zip(HOSTILE, shown, strict=True):
        assert found.startswith(as_parsed(text)[:2000])
    page = reader.open("index.html#layer=hostile")
    labels = page.locator("#results .card .label bdi")
    expect(labels).to_have_count(len(HOSTILE))
    assert labels.all_text_contents() == [text if len(text) <= 200 else f"{text[:200]}…" for text in HOSTILE]


def test_pictures_are_there(reader: Visit) -> None:
    page = reader.open("units/early.1/4.html")
    page.wait_for_load_state("networkidle")
    first = page.locator(".tile img").first
    assert first.evaluate("image => image.naturalWidth") == 48


@pytest.mark.parametrize("path", ["api", "nothing", "index.html"])
def test_pages_of_a_server_are_accessible(browser: Browser, server: Server, path: str) -> None:
    page = visit(browser, server.url).open(path)
    result = Axe().run(page)
    assert result.violations_count == 0, result.generate_report()
    page.context.close()
