"""A run as it is at this moment: every question reads the catalogue anew, so a run that goes on is seen."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

from labeler.api import Catalogue, SearchHit, TopImage
from labeler.catalogue.files import is_begun
from labeler.catalogue.paging import CataloguePages, Filter
from labeler.records import UnitId
from labeler.report.cards import Card, KeptIn, card
from labeler.report.names import layer_page, slug
from labeler.report.overview import overview, tally
from labeler.report.pages import PAGE, Pages, sample_size
from labeler.run_directory import read_run
from labeler.run_report import ordered_layers, run_info

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'"
)
DRAWN = 300
"""Units whose checks the first page draws: reading a record takes about half a millisecond."""


class LiveRun:
    """Reads one run directory. Safe to use from several threads.

    Raises:
        RunError: when it is not a run directory.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.data = read_run(run)
        self.images = run / "images"
        self._lock = threading.RLock()
        self._asking = threading.Lock()  # of its own: an encoder takes seconds to load, and pages do not wait
        self._pages: CataloguePages | None = None
        self._catalogue: Catalogue | None = None
        self._first: tuple[object, str] = (None, "")
        self._renderer: tuple[object, Pages | None] = (None, None)

    def catalogue(self) -> CataloguePages:
        """The catalogue's pages.

        Raises:
            RunError: when the run has not begun a catalogue yet.
        """
        with self._lock:
            if self._pages is None:
                self._pages = CataloguePages(self.run / "catalogue.db")
            return self._pages

    def renderer(self) -> Pages:
        """What renders pages, with what there is to say about the run now."""
        found = self.catalogue()
        state = found.note("gate")
        with self._lock:
            known, pages = self._renderer
            if pages is None or known != state:
                info = run_info(self.data, found)
                pages = Pages(info, KeptIn(self.images), csp=CSP, served=True)
                self._renderer = (state, pages)
            return pages

    def first_page(self) -> str:
        """The first page; it is kept until a unit or the gate changes."""
        found = self.catalogue()
        state = (found.state(), found.note("gate"), found.rounds())
        with self._lock:
            if self._first[0] != state:
                self._first = (state, self._render_first(found))
            return self._first[1]

    def _render_first(self, found: CataloguePages) -> str:
        layers = ordered_layers(self.data, found.layers())
        pages, drawn = self.renderer(), tally(found.sample(DRAWN))
        view = overview(drawn, pages.info, layers, found.counts("verdict"), found.counts("trust"))
        shown = sample_size(len(layers))
        sample = {layer: self._cards(Filter(layer=layer), shown, 0) for layer in layers}
        return pages.first(view, sample, progress=self.progress())

    def unit_page(self, layer_slug: str, index: int, negative: bool) -> str:
        """The page of one unit.

        Raises:
            CatalogueError: when it has no verdict (yet).
        """
        found = self.catalogue()
        unit = UnitId(self._layer(layer_slug), index, negative)
        record = found.unit(unit)
        before, after = found.beside(unit)
        href = layer_page(unit.layer, found.place(unit) // PAGE + 1)
        return self.renderer().unit(record, before, after, layer_href=href)

    def layer_page(self, layer_slug: str, number: int) -> str | None:
        """The `number`-th page of a layer's units; None where it has not so many."""
        layer = self._layer(layer_slug)
        units = self.catalogue().layers().get(layer, 0)
        cards = self._cards(Filter(layer=layer), PAGE, (number - 1) * PAGE)
        return self.renderer().layer(layer, cards, number, units) if cards else None

    def _cards(self, wanted: Filter, limit: int, offset: int) -> list[Card]:
        shown = partial(card, kept=KeptIn(self.images))
        return [shown(record) for record in self.catalogue().find(wanted, limit=limit, offset=offset).records]

    def _layer(self, layer_slug: str) -> str:
        """The layer of a slug; the slug itself, which is then no layer, where there is none."""
        return next((la for la in self.catalogue().layers() if slug(la) == layer_slug), layer_slug)

    def progress(self) -> str:
        """How far the run is, in one sentence; empty when every unit has a verdict."""
        done, units = sum(self.catalogue().layers().values()), int(self.data["units"])
        if done >= units:
            return ""
        rounds = self.catalogue().rounds()
        return f"The run goes on: {done} of {units} units have a verdict, {rounds} rounds are recorded."

    def search(self, text: str, k: int) -> tuple[str, list[SearchHit]]:
        """How it was searched, and the `k` units whose accepted labels are nearest to a text."""
        with self._asking:
            found = self._opened()
            hits = found.search(text, k)
            return found.search_method, hits

    def top_images(self, unit: UnitId, k: int) -> list[TopImage]:
        """The `k` probe images that activate a unit most.

        Raises:
            LabelerError: when the run keeps no activations, or they do not have the unit.
        """
        with self._asking:
            return self._opened().top_images(unit, k=k)

    def _opened(self) -> Catalogue:
        if self._catalogue is None:
            self._catalogue = Catalogue.open(self.run)
        return self._catalogue

    def close(self) -> None:
        """Close the catalogue."""
        for opened in (self._pages, self._catalogue):
            if opened is not None:
                opened.close()


def check_run(run: Path) -> None:
    """Refuse what cannot be served, before a server starts.

    Raises:
        RunError: when `run` is not a run directory, or its catalogue cannot be read.
    """
    read_run(run)
    if is_begun(run / "catalogue.db"):
        CataloguePages(run / "catalogue.db").close()
