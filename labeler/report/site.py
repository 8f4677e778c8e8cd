"""Build the static site: a first page, a page per unit, pages by layer, and the data that is searched."""

from __future__ import annotations

import functools
import multiprocessing
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from labeler.records import UnitId, UnitRecord
from labeler.report.cards import Card, KeptIn, card, tiles
from labeler.report.chunks import chunked, write_chunks
from labeler.report.info import ListSource, RunInfo, Source
from labeler.report.names import layer_page, unit_page
from labeler.report.overview import Tally, overview
from labeler.report.pages import PAGE, Pages, sample_size

STATIC = Path(__file__).parent / "static"
_PART = 10 * PAGE  # units that one worker builds at a time; whole pages of a layer
_OWN = ("units", "layers", "data", "static")
_MARK = ".report"
"""In every report from its first file on, so that one which was interrupted can be built again."""


@dataclass(frozen=True)
class _Part:
    """Some units of a layer that follow each other, from place `start` on, and the ones beside them."""

    layer: str
    start: int
    units: tuple[UnitId, ...]
    before: UnitId | None
    after: UnitId | None


@dataclass(frozen=True)
class _Built:
    """What building a part leaves for the pages about all units."""

    layer: str
    cards: tuple[Card, ...]
    tally: Tally


@dataclass(frozen=True)
class _Job:
    """All that a worker needs beside its part."""

    source: Source
    info: RunInfo
    images: Path
    out: Path


def build_report(
    records: Iterable[UnitRecord] | Source, info: RunInfo, images: Path, out: Path, *, processes: int = 1
) -> Path:
    """Write the site below `out` and return its first page.

    A picture that a record names and `images` lacks is left out, and the page says so.

    Args:
        records: unit records, or where to read them from.
        info: what to say about the run.
        images: the run's ``images/`` directory; the pictures that are shown are linked or copied from it.
        out: the site's directory; pages of an earlier report there are replaced.
        processes: how many build pages at the same time; more than 1 only where processes can be forked.
    """
    source = ListSource(records) if isinstance(records, Iterable) else records
    _clear(out)
    shutil.copytree(STATIC, out / "static")
    job = _Job(source, info, images, out)
    pages = Pages(info, KeptIn(images))
    total, by_layer = Tally(), dict[str, list[Card]]()
    for built in _build_parts(job, list(_parts(source)), processes):
        by_layer.setdefault(built.layer, []).extend(built.cards)
        total.merge(built.tally)
    for layer, cards in by_layer.items():
        for start in range(0, len(cards), PAGE):
            number = start // PAGE + 1
            text = pages.layer(layer, cards[start : start + PAGE], number, len(cards))
            _write(out / layer_page(layer, number), text)
    write_chunks(
        out / "data", [found for layer, cards in by_layer.items() for found in chunked(layer, cards)]
    )
    view = overview(total, info, by_layer, total.verdicts, total.trusts)
    _write(out / "run.html", pages.run())
    sample = {layer: cards[: sample_size(len(by_layer))] for layer, cards in by_layer.items()}
    _write(out / "index.html", pages.first(view, sample))
    return out / "index.html"


def is_report(out: Path) -> bool:
    """Whether a directory holds a report that another may replace."""
    styles = (out / "static" / "style.css", out / "style.css")  # the second was an earlier version's
    finished = (out / "index.html").is_file() and any(path.is_file() for path in styles)
    return finished or (out / _MARK).is_file()


def _clear(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).touch()
    (out / "index.html").unlink(missing_ok=True)  # written last: where it is, all of a report is
    for part in _OWN:
        shutil.rmtree(out / part, ignore_errors=True)
    (out / "style.css").unlink(missing_ok=True)
    (out / "images").mkdir(parents=True, exist_ok=True)


def _parts(source: Source) -> Iterator[_Part]:
    for layer in source.layers():
        units = source.units(layer)
        for start in range(0, len(units), _PART):
            end = start + _PART
            yield _Part(
                layer,
                start,
                tuple(units[start:end]),
                units[start - 1] if start else None,
                units[end] if end < len(units) else None,
            )


def _build_parts(job: _Job, parts: Sequence[_Part], processes: int) -> Iterator[_Built]:
    workers = min(processes, len(parts))
    if workers < 2 or "fork" not in multiprocessing.get_all_start_methods():
        yield from (_build(job, part) for part in parts)
        return
    context = multiprocessing.get_context("fork")  # spawned ones would run the user's script again
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(job,)) as pool:
        yield from pool.map(_build_in_worker, parts)


_worker_job: list[_Job] = []


def _begin(job: _Job) -> None:
    _worker_job[:] = [job]


def _build_in_worker(part: _Part) -> _Built:
    return _build(_worker_job[0], part)


def _build(job: _Job, part: _Part) -> _Built:
    kept = functools.lru_cache(maxsize=4096)(KeptIn(job.images))
    pages = Pages(job.info, kept)
    found, cards = Tally(), []
    beside = (part.before, *part.units, part.after)
    records = job.source.records(part.layer, part.units[0], len(part.units))
    for place, record in enumerate(records):
        for name in filter(kept, tiles(record)):
            _bring(f"{job.images}/{name}", f"{job.out}/images/{name}")
        text = pages.unit(
            record,
            beside[place],
            beside[place + 2],
            layer_href=layer_page(part.layer, (part.start + place) // PAGE + 1),
        )
        _write(job.out / unit_page(record.id), text)
        cards.append(card(record, kept))
        found.add(record)
    return _Built(part.layer, tuple(cards), found)


def _bring(source: str, destination: str) -> None:
    try:
        os.link(source, destination)
    except FileExistsError:
        if not _is_same(source, destination):
            _copy(source, destination)
    except OSError:  # another file system, or one without hard links
        _copy(source, destination)


def _is_same(source: str, destination: str) -> bool:
    """False of a copy that was cut short, and of what was brought before a damaged picture was mended."""
    one, other = os.stat(source), os.stat(destination)
    unchanged = (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)
    return unchanged or os.path.samestat(one, other)


def _copy(source: str, destination: str) -> None:
    draft = f"{destination}.{os.getpid()}.incomplete"
    shutil.copy2(source, draft)  # with its time
    os.replace(draft, destination)


def _write(path: Path, text: str) -> None:
    data = text.encode("utf-8", "replace")
    try:
        path.write_bytes(data)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
