"""How long a catalogue of 100,000 units takes: to search, to list, to build its report and to open that.

The catalogue is synthetic (`scale_catalogue`): records of the size that a run writes, a thousand units in
each layer, 20,011 different labels. Times are medians of wall time: in this process, through the JSON API of
a ``labeler serve`` of its own, and of whole ``labeler`` processes; ``_cpu`` is the processor time, which says
what a busy machine would hide. The report is built once, by as many processes as there are cores. What a
browser does is measured in Chromium, where that and playwright are.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import labeler
from labeler.errors import LabelerError, UsageError
from labeler.report.text import table
from labeler.run_report import write_report
from labeler.suites import Result

from . import scale_browser, scale_catalogue
from .arguments import SuiteParser
from .scale_server import Served, serving
from .timing import say

UNITS, PER_LAYER, LABELS = 100_000, 1000, 20_011
PROMISES = {
    "search_ms": 200, "search_api_ms": 200, "list_ms": 300, "list_api_ms": 300, "report_s": 300,
    "interactive_ms": 1000, "largest_kb": 1000,
}  # fmt: skip
"""The most that a figure may be."""
OF_A_BROWSER = ("interactive_ms", "find_s", "served_ms")
MEANING = {
    "search_ms": "search in this process, its encoder loaded",
    "search_api_ms": "the same through the JSON API",
    "list_ms": "a list with a filter in this process: all units without evidence, or 60 whole records",
    "list_api_ms": "60 units of a list with a filter through the JSON API",
    "search_cli_s": "labeler search, the whole process, loading the encoder",
    "list_cli_s": "labeler list with a filter, the whole process",
    "report_s": "labeler report",
    "largest_kb": "the largest file of the report",
    "interactive_ms": "the report's first page from the disk, until it can be searched",
    "find_s": "a search on that page that looks at every unit",
    "served_ms": "the first page of labeler serve, asked for again",
}
TEXTS = ("striped", "purple", "dog 77", "a striped wheel")  # by the encoder's embeddings, and by words
FILTERS: tuple[dict[str, Any], ...] = (
    {"layer": "layer.0"}, {"layer": "layer.0", "verdict": "accepted"}, {"verdict": "polysemantic"},
    {"trust": "suspect", "verdict": "accepted"}, {"kind": "texture", "probability": 0.9},
)  # fmt: skip
ASKED = (
    "layer=layer.0&verdict=accepted", "verdict=accepted&offset=20000", "q=striped",
    "verdict=accepted&order=worst", "trust=suspect&verdict=accepted&order=best",
)  # fmt: skip


@dataclass(frozen=True)
class Timed:
    """Seconds of a question: wall time, and processor time, which other load moves little."""

    wall: float
    processor: float | None

    def named(self, name: str, unit: float = 1.0) -> dict[str, float | None]:
        """Both as figures, in a unit of which `unit` are a second."""
        processor = None if self.processor is None else unit * self.processor
        return {name: unit * self.wall, f"{name}_cpu": processor}


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Measure all of it; ``--run DIR`` keeps the synthetic run for the next time."""
    parser = SuiteParser("scale", "Times of a catalogue of very many units, beside what is promised.")
    parser.add_argument("--units", type=int, default=UNITS, help="how many units")
    parser.add_argument("--repeats", type=int, default=5, help="how often each question is asked")
    options = parser.parse_args(list(arguments))
    if options.units < 1 or options.repeats < 1:
        raise UsageError("--units and --repeats are at least 1.")
    with tempfile.TemporaryDirectory(prefix="labeler-scale-") as temporary:
        place = run or Path(temporary) / "run"
        make_run(place, options.units)
        figures: dict[str, float | None] = {}
        for name, part in _PARTS.items():
            say(f"{name} ...")
            figures |= part(place, options.repeats)
    return summarise(options.units, figures)


def make_run(run: Path, count: int) -> None:
    """Write the synthetic run, unless it is there.

    Raises:
        UsageError: when `run` holds something else.
    """
    if (run / "catalogue.db").is_file():
        with labeler.Catalogue.open(run) as catalogue:
            if len(catalogue) == count:
                return
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise UsageError(f"{run} does not hold a synthetic run of {count} units; give another --run.")
    say(f"writing {count} units ...")
    words = scale_catalogue.WORDS
    texts = [f"{words[number % len(words)]} {number // len(words)}" for number in range(LABELS)]
    tiles = scale_catalogue.some_tiles(run / "images")
    records = (
        record
        for start in range(0, count, PER_LAYER)
        for record in scale_catalogue.units(
            f"layer.{start // PER_LAYER}", min(PER_LAYER, count - start), tiles, texts
        )
    )
    scale_catalogue.write_run(run, records, count, texts)


def _in_process(run: Path, repeats: int) -> dict[str, float | None]:
    with labeler.Catalogue.open(run) as catalogue:
        searches = {text: lambda text=text: catalogue.search(text, 20) for text in TEXTS}
        lists = {f"all of {wanted}": lambda wanted=wanted: catalogue.listed(**wanted) for wanted in FILTERS}
        lists |= {
            f"60 records of {wanted}": lambda wanted=wanted: catalogue.units(limit=60, **wanted)
            for wanted in FILTERS
        }
        return {
            **slowest(searches, repeats).named("search_ms", 1000),
            **slowest(lists, repeats).named("list_ms", 1000),
        }


def _served(run: Path, repeats: int) -> dict[str, float | None]:
    def questions(server: Served, paths: Iterable[str]) -> dict[str, Callable[[], object]]:
        return {path: lambda path=path: server.ask(path) for path in paths}

    with serving(run) as server:
        searches = questions(server, (f"api/search?k=20&q={text.replace(' ', '+')}" for text in TEXTS))
        lists = questions(server, (f"api/units?limit=60&{question}" for question in ASKED))
        return {
            **slowest(searches, repeats, server.processor).named("search_api_ms", 1000),
            **slowest(lists, repeats, server.processor).named("list_api_ms", 1000),
            "served_ms": scale_browser.served_ms(server.url),
        }


def _command_line(run: Path, repeats: int) -> dict[str, float | None]:
    commands = {
        "search_cli_s": ("search", str(run), "striped"),
        "list_cli_s": ("list", str(run), "--verdict", "accepted", "--layer", "layer.0"),
    }
    figures: dict[str, float | None] = {}
    for name, command in commands.items():
        asked = {" ".join(command): lambda command=command: labeler_process(*command)}
        figures |= slowest(asked, repeats).named(name)
    return figures


def _report(run: Path, repeats: int) -> dict[str, float | None]:
    out, page = run / "report", []
    built = slowest({"report": lambda: page.append(write_report(run, out))}, 1, warm=False)
    sizes = (os.path.getsize(f"{at}/{name}") for at, _, names in os.walk(out) for name in names)
    return {
        **built.named("report_s"),
        "largest_kb": max(sizes) / 1000,
        **scale_browser.report_figures(page[0], repeats),
    }


_PARTS: Mapping[str, Callable[[Path, int], dict[str, float | None]]] = {
    "in this process": _in_process,
    "through the API": _served,
    "whole processes": _command_line,
    "the report": _report,
}


def _own_processor() -> float:
    """Processor seconds of this process and of those that it waited for."""
    return sum(os.times()[:4])


def slowest(
    questions: Mapping[str, Callable[[], object]],
    repeats: int,
    processor: Callable[[], float | None] = _own_processor,
    *,
    warm: bool = True,
) -> Timed:
    """Ask each question once, then `repeats` times; the one with the greatest median of wall time.

    Args:
        questions: what to ask, by name; the times of each are said on stderr.
        repeats: how often.
        processor: the processor seconds so far of whoever answers; its answer is the mean of the repeats.
        warm: ask once before.
    """
    found = []
    for name, ask in questions.items():
        if warm:
            ask()
        before, seconds = processor(), []
        for _ in range(repeats):
            start = time.perf_counter()
            ask()
            seconds.append(time.perf_counter() - start)
        after = processor()
        used = None if before is None or after is None else (after - before) / repeats
        found.append(Timed(median(seconds), used))
        shown = "" if used is None else f", {1000 * used:.1f} of processor time"
        say(f"  {1000 * found[-1].wall:7.1f} ms{shown}  {name}")
    return max(found, key=lambda timed: timed.wall)


def labeler_process(*arguments: str) -> str:
    """What ``labeler ARGUMENTS`` prints, as a process of its own.

    Raises:
        LabelerError: when it fails.
    """
    command = [sys.executable, "-c", "from labeler.cli import main; main()", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabelerError(
            f"labeler {arguments[0]} ended with {done.returncode}: {done.stderr.strip()[-200:]}"
        )
    return done.stdout


def summarise(units: int, figures: Mapping[str, float | None]) -> Result:
    """A table of the figures beside what is promised."""
    rows = []
    for name, meaning in MEANING.items():
        value, most, used = figures[name], PROMISES.get(name), figures.get(f"{name}_cpu")
        kept = "" if most is None or value is None else "kept" if value < most else "NOT KEPT"
        measured = ["–" if number is None else f"{number:.4g}" for number in (value, used)]
        rows.append((name, *measured, "" if most is None else f"< {most}", kept, meaning))
    lines = [
        f"{units} units; {os.cpu_count()} cores, load {os.getloadavg()[1]:.1f} over the last five minutes.",
        table(("figure", "measured", "processor", "promised", "", "of"), rows),
    ]
    if figures["interactive_ms"] is None:
        lines.append("– needs Chromium and playwright, which are not here.")
    return Result("scale", units, dict(figures), "\n".join(lines))
