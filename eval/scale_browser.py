"""How soon pages are there in Chromium, as their reader meets them; nothing where it is not installed."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
NAMES = ("chromium", "chromium-browser", "google-chrome")
_ONE = re.compile(r"^1 unit$")
_LONGEST = 120_000  # milliseconds


def report_figures(page: Path, repeats: int) -> dict[str, float | None]:
    """``interactive_ms``, the median of `repeats` fresh visits, and ``find_s``; None without a browser."""
    with _chromium() as browser:
        if browser is None:
            return {"interactive_ms": None, "find_s": None}
        ready = []
        for _ in range(repeats):
            context = browser.new_context()
            shown = context.new_page()
            ready.append(_opened(shown, page.resolve().as_uri()))
            last = shown.locator("#layer option").last.get_attribute("value")
            start = time.perf_counter()
            shown.fill("#q", f"{last}:0")
            shown.locator("#found", has_text=_ONE).wait_for(timeout=_LONGEST)
            found = time.perf_counter() - start
            context.close()
        return {"interactive_ms": median(ready), "find_s": found}


def served_ms(url: str) -> float | None:
    """Milliseconds until the first page of a server can be searched, when it is asked for again."""
    with _chromium() as browser:
        if browser is None:
            return None
        shown = browser.new_page()
        _opened(shown, url)
        return _opened(shown, url)


def _opened(shown: Any, url: str) -> float:
    shown.goto(url, timeout=_LONGEST)
    shown.locator("html[data-ready=yes]").wait_for(state="attached", timeout=_LONGEST)
    # the page's scripts set that when its document is there, and this is when they had done so
    return float(shown.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"))


@contextmanager
def _chromium() -> Iterator[Any]:
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None or find_spec("playwright") is None:
        yield None
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=list(FLAGS))
        yield browser
        browser.close()
