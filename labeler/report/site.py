"""Build the static site: an overview, grid pages by layer, and a page per unit."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from labeler.records import VERDICTS, Exemplar, UnitRecord, Visualisation
from labeler.report import words
from labeler.report.histogram import histogram_svg

PAGE = 60  # units a grid page: well under 1 MB with lazily loaded pictures
Kept = Callable[[str | None], bool]
_CSP = "default-src 'none'; img-src 'self' file: data:; style-src 'self' file:"


@dataclass(frozen=True)
class RunInfo:
    """What the report says about the run itself: `facts` are (name, value) lines, `control` the gate's."""

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    gate: tuple[tuple[str, str], ...] = field(default=())


@dataclass(frozen=True)
class _Row:
    """One unit on the grid."""

    unit: str
    href: str
    verdict: str
    text: str
    trust: str
    photograph: Exemplar | None
    picture: Visualisation | None


def build_report(records: Iterable[UnitRecord], info: RunInfo, images: Path, out: Path) -> Path:
    """Write the site below `out` and return its first page.

    A picture that a record names and `images` lacks is left out, and the page says so.

    Args:
        records: unit records in the order in which they are to appear.
        info: what to say about the run.
        images: the run's ``images/`` directory; the pictures that are shown are linked or copied from it.
        out: the site's directory; pages of an earlier report there are replaced.
    """
    kept = functools.partial(_kept, images)
    environment = _environment(kept)
    for part in ("units", "layers"):
        shutil.rmtree(out / part, ignore_errors=True)
    (out / "images").mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[_Row]] = {}
    page = environment.get_template("unit.html.j2")
    for record in records:
        row = _row(record, kept)
        for name in filter(kept, _pictures(record)):
            _bring(images / str(name), out / "images" / str(name))
        _write(
            out / row.href,
            page.render(record=record, info=info, root="../../", csp=_CSP, **_unit_parts(record)),
        )
        rows.setdefault(record.layer, []).append(row)
    grids = [grid for layer, of_layer in rows.items() for grid in _grids(layer, of_layer)]
    for grid in grids:
        _write(out / grid["href"], environment.get_template("grid.html.j2").render(
            info=info, root="../", csp=_CSP, **grid))  # fmt: skip
    index = environment.get_template("index.html.j2").render(
        info=info, root="", csp=_CSP, table=_table(rows), grids=grids, meanings=words.VERDICT_MEANING,
        sample={layer: of_layer[:12] for layer, of_layer in rows.items()},
        totals={layer: len(of_layer) for layer, of_layer in rows.items()},
    )  # fmt: skip
    _write(out / "index.html", index)
    shutil.copyfile(Path(__file__).parent / "templates" / "style.css", out / "style.css")
    return out / "index.html"


def slug(layer: str) -> str:
    """A file name for a layer: its own name where that is safe, else with a hash that keeps it unique."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", layer)[:80]
    if safe == layer and not safe.startswith("."):
        return safe
    return f"{safe.strip('.')}-{hashlib.sha256(layer.encode()).hexdigest()[:8]}"


def _environment(kept: Kept) -> Environment:
    environment = Environment(
        loader=PackageLoader("labeler.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=words.number, check=words.check_sentence)
    environment.tests["kept"] = kept
    return environment


def _row(record: UnitRecord, kept: Kept) -> _Row:
    shown = [exemplar for exemplar in record.exemplars if kept(exemplar.tile)]
    pictures = [picture for picture in record.visualisations if kept(picture.tile)]
    side = "-negative" if record.id.negative else ""
    return _Row(
        unit=record.unit,
        href=f"units/{slug(record.layer)}/{record.index}{side}.html",
        verdict=record.verdict,
        text="; ".join(label.text for label in record.labels),
        trust=record.trust.verdict,
        photograph=shown[0] if shown else None,
        picture=pictures[0] if pictures else None,
    )


def _unit_parts(record: UnitRecord) -> dict[str, Any]:
    facets = [
        (facet, [item for item in record.exemplars if item.facet == facet.index and item.tile])
        for facet in record.facets
    ]
    return {
        "facets": facets,
        "meaning": words.MEANING,
        "verdict_meaning": words.VERDICT_MEANING[record.verdict],
        "histogram": histogram_svg(record.activation) if record.activation else "",
        "layer_href": f"layers/{slug(record.layer)}-1.html",
    }


def _pictures(record: UnitRecord) -> set[str | None]:
    exemplars = [*record.exemplars, *record.near_misses, *record.bands]
    for item in record.rounds:
        exemplars += [*item.misses, *item.false_alarms]
    tiles = {item.tile for item in exemplars} | {item.tile for item in record.visualisations}
    return tiles | {item.sheet for item in record.rounds}


def _grids(layer: str, rows: Sequence[_Row]) -> Iterator[dict[str, Any]]:
    pages = (len(rows) + PAGE - 1) // PAGE
    for page in range(pages):
        yield {
            "layer": layer,
            "href": f"layers/{slug(layer)}-{page + 1}.html",
            "rows": rows[page * PAGE : (page + 1) * PAGE],
            "page": page + 1,
            "pages": pages,
            "links": [f"{slug(layer)}-{number + 1}.html" for number in range(pages)],
        }


def _table(rows: dict[str, list[_Row]]) -> list[tuple[str, int, list[tuple[str, int]]]]:
    table: list[tuple[str, int, list[tuple[str, int]]]] = []
    for layer, of_layer in rows.items():
        counts = [(str(verdict), sum(row.verdict == verdict for row in of_layer)) for verdict in VERDICTS]
        table.append((layer, len(of_layer), counts))
    return table


def _kept(images: Path, name: str | None) -> bool:
    """Whether a record's picture is there; a name that is a path would lead out of the directory."""
    return name is not None and Path(name).name == name and (images / name).is_file()


def _bring(source: Path, destination: Path) -> None:
    if destination.exists():
        return
    try:
        os.link(source, destination)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, destination)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
