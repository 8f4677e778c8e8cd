"""Every page of the site as text: the same for a report on disk and for a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from labeler.records import TRUSTS, Exemplar, UnitId, UnitRecord
from labeler.report import words
from labeler.report.cards import Card, Kept
from labeler.report.histogram import unit_histogram
from labeler.report.info import RunInfo
from labeler.report.names import layer_page, unit_page
from labeler.report.nulls import BELL, nulls_svg, value_svg
from labeler.report.overview import Overview

PAGE = 60
"""Units on a page of a list: well under 1 MB, with pictures that are loaded when they come into view."""
SAMPLE, SAMPLES = 12, 300
"""Units of each layer on the first page, and of all layers: 100 layers of 12 would already be 0.8 MB."""
STATIC_CSP = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file:;"
    " base-uri 'none'; form-action 'none'"
)
"""``file:`` is for browsers in which a file is not its own origin; on a web server it means nothing."""
_LONGEST = (
    2000  # characters of one text on a page: labels have at most 80, so it is a page's size that is kept
)
_BANDS = {
    "high": "from p90 to p99", "mid": "from the median to p90", "low": "up to the median",
    "silent": "up to p10, or at rest",
}  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """The range that the bars below tiles stand for; None where a unit has no activation at all."""

    first: float
    last: float

    def bar(self, activation: float | None, kind: str = "") -> Markup:
        """A bar as long as the activation's place between the ends."""
        if activation is None or self.last <= self.first:
            return Markup("")
        share = 100 * min(max((activation - self.first) / (self.last - self.first), 0.0), 1.0)
        return Markup(
            f'<svg class="level {kind}" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect width="{share:.1f}" height="4"/></svg>'
        )


@dataclass(frozen=True)
class GridPage:
    """Which page of a layer this is, and the pages that it links to; None stands for those left out."""

    number: int
    last: int
    units: int
    links: tuple[tuple[int, str | None], ...]


class Pages:
    """Renders pages.

    Args:
        info: what to say about the run.
        kept: whether a picture that a record names is there.
        csp: the policy in every page's head.
        served: a server gives the data that the first page searches, not files beside it.
    """

    def __init__(self, info: RunInfo, kept: Kept, *, csp: str = STATIC_CSP, served: bool = False) -> None:
        self.info = info
        self._environment = Environment(
            loader=PackageLoader("labeler.report"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True, finalize=_finalize,
        )  # fmt: skip
        self._environment.filters.update(
            number=words.number, check=words.check_sentence, words=words.plain, file_name=_file_name,
            value_svg=value_svg, nulls_svg=nulls_svg, iou_svg=_iou_svg, layer_page=layer_page,
        )  # fmt: skip
        self._environment.tests["kept"] = kept
        self._environment.globals.update(
            info=info, csp=csp, served=served, meaning=words.MEANING, meanings=words.VERDICT_MEANING,
            trusts=TRUSTS, bell=BELL, signal_meaning=words.SIGNAL_MEANING,
        )  # fmt: skip
        self._unit = self._environment.get_template("unit.html.j2")

    def unit(
        self, record: UnitRecord, before: UnitId | None, after: UnitId | None, *, layer_href: str
    ) -> str:
        """The page of a unit, with links to the units beside it and to its layer's page."""
        named = {facet.index for facet in record.facets}
        dead = record.verdict == "dead"  # its images are any images, and would be taken for what it likes
        first = [item for item in record.visualisations if not item.second]
        by_facet = [
            (
                facet,
                [item for item in record.exemplars if item.facet == facet.index and item.tile],
                [item for item in first if item.facet == facet.index],
            )
            for facet in (() if dead else record.facets)
        ]
        judges = {check.judge: None for label in record.labels + record.candidates
                  for check in label.checks.values() if check.judge}  # fmt: skip
        return self._unit.render(
            record=record, root="../../", layer_href=layer_href, place=record.unit[len(record.layer) + 1 :],
            before=None if before is None else unit_page(before),
            after=None if after is None else unit_page(after),
            facets=by_facet, others=[item for item in first if item.facet not in named],
            again=[item for item in record.visualisations if item.second],
            scale=_scale(record), histogram=Markup("") if dead else unit_histogram(record), dead=dead,
            bands=[] if dead else _bands(record.bands),
            verdict_meaning=words.VERDICT_MEANING[record.verdict], judges=", ".join(judges),
        )  # fmt: skip

    def layer(self, layer: str, cards: Sequence[Card], number: int, units: int) -> str:
        """The `number`-th page of a layer's units."""
        page = grid_page(layer, number, units)
        return self._render("grid.html.j2", root="../", layer=layer, cards=cards, page=page)

    def first(self, view: Overview, sample: Mapping[str, Sequence[Card]], *, progress: str = "") -> str:
        """The first page; `sample` are some cards of each layer."""
        totals = {row.layer: row.units for row in view.rows}
        return self._render(
            "index.html.j2", root="", view=view, sample=sample, totals=totals, progress=progress
        )

    def run(self) -> str:
        """The page about the run: what the words mean, provenance, config."""
        return self._render("run.html.j2", root="")

    def api(self, operations: Sequence[Mapping[str, Any]]) -> str:
        """The page that lists a server's questions: operations of its OpenAPI document, with paths."""
        return self._render("api.html.j2", root="", operations=operations)

    def message(self, title: str, sentence: str, root: str = "/") -> str:
        """A page that says one thing, for a server's errors."""
        return self._render("message.html.j2", root=root, heading=title, sentence=sentence)

    def _render(self, template: str, **values: Any) -> str:
        return self._environment.get_template(template).render(**values)


def sample_size(layers: int) -> int:
    """How many units of each layer the first page shows."""
    return max(1, min(SAMPLE, SAMPLES // max(layers, 1)))


def grid_page(layer: str, number: int, units: int) -> GridPage:
    """The pager of a layer: the first and last pages, those near `number`, and gaps."""
    last = max(1, -(-units // PAGE))
    near = sorted({1, 2, last - 1, last, *range(number - 2, number + 3)} & set(range(1, last + 1)))
    links: list[tuple[int, str | None]] = []
    for page in near:
        if links and page > links[-1][0] + 1:
            links.append((page - 1, None))
        links.append((page, layer_page(layer, page)))
    return GridPage(number, last, units, tuple(links))


def _scale(record: UnitRecord) -> Scale:
    summary = record.activation
    pictures = [item.activation for item in record.visualisations if item.activation is not None]
    if summary is None:
        return Scale(0.0, 0.0)
    return Scale(summary.minimum, max([summary.maximum, *pictures]))


def _bands(exemplars: Sequence[Exemplar]) -> list[tuple[str, str, list[Exemplar]]]:
    found: dict[str, list[Exemplar]] = {}
    for item in exemplars:
        found.setdefault(item.band, []).append(item)
    return [(band, _BANDS.get(band, ""), items) for band, items in found.items()]


def _iou_svg(iou: float) -> Markup:
    """A bar up to 0.2, with Network Dissection's 0.04 marked."""
    width = 120 * min(max(iou, 0.0), 0.2) / 0.2
    return Markup(
        '<svg class="iou" viewBox="0 0 120 10" aria-hidden="true">'
        f'<rect width="{width:.1f}" height="8" y="1"/>'
        '<line class="zero" x1="24" x2="24" y1="0" y2="10"/></svg>'
    )


def _file_name(path: str) -> str:
    return PurePath(path).name or path


def _finalize(value: object) -> object:
    if type(value) is str and len(value) > _LONGEST:
        return f"{value[:_LONGEST]}… ({len(value) - _LONGEST} more characters)"
    return value
