"""The report on ``file://`` in a real browser: search, filters, keys, sizes, and texts that stay texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browsing import Visit, site_url, visit
from tests.report.catalogues import VERDICTS
from tests.report.conftest import EACH
from tests.report.hostile import HOSTILE, as_parsed

PAGES = -(-len(HOSTILE) // EACH)


@pytest.fixture
def reader(browser: Browser, readable: Path) -> Iterator[Visit]:
    found = visit(browser, site_url(readable))
    yield found
    found.check()
    found.page.context.close()


def found(page: Page, count: int) -> None:
    expect(page.locator("#found")).to_have_text(f"{count} unit{'' if count == 1 else 's'}")


def test_a_filter_shows_its_units_in_pages_and_stands_in_the_address(reader: Visit) -> None:
    page = reader.ready()
    page.select_option("#verdict", "rejected")
    rejected = sum(
        VERDICTS[index % len(VERDICTS)] == "rejected" for count in (70, 60) for index in range(count)
    )
    found(page, rejected)
    expect(page.locator("#results .card")).to_have_count(rejected)
    page.select_option("#verdict", "")
    page.select_option("#layer", "early.1")
    found(page, 70)
    expect(page.locator("#results .card")).to_have_count(60)
    page.get_by_role("button", name="next").click()
    expect(page.locator("#results .card")).to_have_count(10)
    assert page.url.endswith("#layer=early.1&page=2")
    page.go_back()
    expect(page.locator("#results .card")).to_have_count(60)
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#sample")).to_be_visible()
    expect(page.locator("#results")).to_be_hidden()


def test_orders_are_by_score_and_an_address_with_a_question_answers_it(reader: Visit) -> None:
    page = reader.open("index.html#layer=late.2&order=worst&trust=partial")
    expect(page.locator("#trust")).to_have_value("partial")
    texts = page.locator("#results .card .more:last-child")
    expect(texts.first).to_be_visible()
    scores = [float(text.split()[1]) for text in texts.all_text_contents()]
    assert scores == sorted(scores)
    assert len(scores) > 10
    page.select_option("#order", "best")
    expect(texts.first).to_have_text(f"score {max(scores):.3g} · picture: partial")


def test_the_keys_search_choose_open_and_come_back(reader: Visit) -> None:
    page = reader.ready()
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("late.2:1")
    found(page, 11)  # 1 and 10 to 19
    page.keyboard.press("Enter")
    cards = page.locator("#results .card")
    expect(cards.nth(0)).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("ArrowRight")
    expect(cards.nth(2)).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    reader.at("late.2:10")
    page.keyboard.press("j")
    reader.at("late.2:11")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("k")
    reader.at("late.2:1 ")  # the list that was left, not the layer's 9
    page.keyboard.press("Escape")
    expect(page.locator("#q")).to_have_value("late.2:1")
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    expect(page.locator("#q")).to_have_value("")
    expect(page.locator("#sample")).to_be_visible()


def test_arrows_walk_the_rows_of_the_grid_and_the_focus_is_seen(reader: Visit) -> None:
    page = reader.ready()
    page.keyboard.press("j")
    first = page.locator("#sample .card").nth(0)
    expect(first).to_be_focused()
    assert first.evaluate("card => getComputedStyle(card).outlineStyle") == "solid"
    page.keyboard.press("ArrowDown")
    here, above = page.evaluate(
        "[document.activeElement, document.querySelector('#sample .card')].map(card => card.offsetLeft)"
    )
    assert here == above
    assert not first.evaluate("card => card === document.activeElement")


def test_a_unit_opened_by_itself_has_its_layers_neighbours(reader: Visit) -> None:
    page = reader.open("units/early.1/5.html")
    page.keyboard.press("ArrowRight")
    reader.at("early.1:6")
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()


def test_a_missing_data_file_is_said_to_be(browser: Browser, readable: Path, tmp_path: Path) -> None:
    broken = tmp_path / "report"
    broken.mkdir()
    for part in ("index.html", "static", "images"):
        (broken / part).symlink_to(readable / part)
    (broken / "data").mkdir()
    (broken / "data" / "manifest.js").write_bytes((readable / "data" / "manifest.js").read_bytes())
    reader = visit(browser, site_url(broken))
    page = reader.ready()
    page.fill("#q", "dog")
    expect(page.locator("#found")).to_contain_text("chunk-0.js is missing; build the report again")
    page.context.close()


def test_the_policy_lets_nothing_run_and_asks_nobody(reader: Visit) -> None:
    for path in ("index.html", "units/early.1/4.html"):
        reader.open(path)
        reader.check_that_nothing_breaks_out()


def test_hostile_texts_are_shown_and_run_nowhere(reader: Visit) -> None:
    shown: list[str] = []
    for index in range(PAGES):
        page = reader.open(f"units/hostile/{index}.html")
        shown += page.locator(".headline bdi").all_text_contents()
        assert page.locator(".dissection tbody tr").count() == page.locator(".headline bdi").count()
        page.evaluate("document.querySelectorAll('details').forEach(found => { found.open = true; })")
        page.hover(".tile img")
        reader.check()
    for text, found_text in zip(HOSTILE, shown, strict=True):
        assert found_text.startswith(as_parsed(text)[:2000])


def test_hostile_texts_stay_texts_in_the_data_that_is_searched(reader: Visit) -> None:
    page = reader.open("index.html#layer=hostile")
    labels = page.locator("#results .card .label bdi")
    expect(labels).to_have_count(len(HOSTILE))
    shortened = [text if len(text) <= 200 else f"{text[:200]}…" for text in HOSTILE]
    assert labels.all_text_contents() == shortened
    for text in filter(str.isprintable, HOSTILE[::9]):
        page.fill("#q", text[:60])
        expect(page.locator("#results .card").first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["index.html", "units/early.1/4.html", "run.html", "layers/early.1-1.html"])
def test_pages_are_accessible(browser: Browser, readable: Path, path: str, scheme: str) -> None:
    reader = visit(browser, site_url(readable), scheme=scheme)
    page = reader.open(path)
    page.evaluate("document.querySelectorAll('details').forEach(found => { found.open = true; })")
    result = Axe().run(page)
    assert result.violations_count == 0, result.generate_report()
    page.context.close()


@pytest.mark.parametrize("width", [400, 900, 1400])
def test_no_page_is_wider_than_the_screen(browser: Browser, readable: Path, width: int) -> None:
    reader = visit(browser, site_url(readable), width=width)
    for path in (
        "index.html",
        "units/early.1/4.html",
        "units/hostile/0.html",
        "run.html",
        "layers/hostile-1.html",
    ):
        page = reader.open(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    reader.check()
    page.context.close()


def test_the_report_can_be_read_without_scripts(browser: Browser, readable: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site_url(readable)}index.html")
    page.get_by_role("link", name="all units of early.1").click()
    page.locator(".card").nth(3).click()
    expect(page.locator("h1")).to_contain_text("early.1:3")
    context.close()
