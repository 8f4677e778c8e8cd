"""How long asking a model about many units takes: against the answers' own time, with as many calls at once.

Every unit has a sheet of its own, of the size of a real one; the endpoint is a process on this machine that
answers after a given time. Every answer is on the disk before it counts. ``ratio`` is the time of a run over
``units / concurrency * latency``, the median of the turns; the interval is the least and the greatest.
``processor``: seconds that this process computed, over the same; at 1 and more the waiting hides none of it.

A second run over the same catalogue makes no call.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from labeler.catalogue import Ledger, call_totals
from labeler.config import ProposeConfig
from labeler.errors import LabelerError
from labeler.exemplars.images import encode_webp
from labeler.propose.endpoint import EndpointProposer
from labeler.propose.endpoint.connect import make_exchange
from labeler.records import UnitId
from labeler.report.text import table
from labeler.seams import Evidence, FacetEvidence
from labeler.suites import Result

from .arguments import SuiteParser
from .slow_endpoint import slow_endpoint
from .timing import say

SHEET = (1016, 1344)
"""Pixels of a sheet."""


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Ask and time; `config` and `run` are of no use here."""
    parser = SuiteParser("asking", "How long asking about many units takes, against the answers' own time.")
    parser.add_argument("--units", type=int, default=1000, help="how many")
    parser.add_argument("--latency", type=float, default=0.1, help="seconds that an answer takes")
    parser.add_argument("--concurrency", type=int, default=32, help="calls at once")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    options = parser.parse_args(list(arguments))
    evidences = _evidences(options.units)
    ideal = options.units / options.concurrency * options.latency
    with (
        tempfile.TemporaryDirectory(prefix="labeler-asking-") as temporary,
        slow_endpoint(options.latency) as url,
    ):
        settings = ProposeConfig(kind=("vlm",), model="slow", base_url=url, concurrency=options.concurrency)
        catalogues = [Path(temporary) / f"{turn}.db" for turn in range(options.repeats)]
        ask(settings, Path(temporary) / "warm.db", evidences[: options.concurrency])  # imports
        busy = time.process_time()
        turns = [ask(settings, catalogue, evidences) for catalogue in catalogues]
        busy = (time.process_time() - busy) / options.repeats
        say(f"{', '.join(f'{seconds:.2f} s' for seconds in turns)}; {ideal:.2f} s would be ideal")
        again = ask(settings, catalogues[0], evidences)
        totals = call_totals(catalogues[0])
    ratios = [seconds / ideal for seconds in turns]
    calls = int(totals["calls"]) - options.units - 1  # one asks what the endpoint understands
    header = (
        "units", "seconds an answer", "at once", "ideal", "measured", "processor", "ratio", "again",
        "calls again",
    )  # fmt: skip
    row = (
        str(options.units), f"{options.latency:g}", str(options.concurrency), f"{ideal:.2f} s",
        f"{median(turns):.2f} s", f"{busy:.2f} s", f"{median(ratios):.2f}", f"{again:.2f} s", str(calls),
    )  # fmt: skip
    figures: dict[str, float | None] = {
        "ratio": round(median(ratios), 4), "processor": round(busy / ideal, 4), "calls_again": float(calls),
    }  # fmt: skip
    ends = {"ratio": (round(min(ratios), 4), round(max(ratios), 4))}
    return Result("asking", options.units, figures, table(header, [row]), ends)


def ask(settings: ProposeConfig, catalogue: Path, evidences: Sequence[Evidence]) -> float:
    """Seconds until every unit has its labels.

    Raises:
        LabelerError: when one has none.
    """
    with closing(Ledger(catalogue)) as ledger:
        proposer = EndpointProposer(settings, make_exchange(settings, ledger), ledger)
        start = time.perf_counter()
        found = list(proposer.propose_all(evidences))
        seconds = time.perf_counter() - start
    failed = next((proposed.failure for proposed in found if not proposed.proposals), None)
    if failed is not None:
        raise LabelerError(f"A unit got no label, so there is no time to tell: {failed}")
    return seconds


def _evidences(count: int) -> list[Evidence]:
    """Units with sheets of about 120 kB; the unit's number is appended, which no decoder minds."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    sheet = encode_webp(Image.fromarray(noise).resize(SHEET, Image.Resampling.BICUBIC))
    facets = (FacetEvidence(0, (), (), np.zeros((0, 4), np.float32)),)
    key = "\n".join(f"{n}: A, facet 0: activation 1.{n:02d}" for n in range(1, 21))
    return [Evidence(UnitId("layer", n), 1, facets, sheet + n.to_bytes(4, "big"), key) for n in range(count)]
