"""The whole loop with a language model behind a real endpoint, or with recorded answers, on the demo's units.

The figures are the share of live units whose labels are accepted, and the share of first answers that had
the form that was asked for; with a planted network in place of the demo's also what was right.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import labeler
from labeler.builtin.planted import PLANTED
from labeler.builtin.scenes import CONCEPTS
from labeler.checks.judges import normal_form
from labeler.config import Config
from labeler.config_file import load_config
from labeler.cost import cost_text, run_cost
from labeler.errors import UsageError
from labeler.records import UnitRecord
from labeler.report.text import table
from labeler.resources import resource_directory
from labeler.suites import Result
from labeler.terminal import TerminalReporter

from . import planted
from .arguments import SuiteParser
from .bootstrap import bootstrap_mean, figures_of
from .opened import ACCEPTED
from .planted_runs import CONFIG as PLANTED_CONFIG
from .planted_runs import PlantedRun, planted_truth
from .rightness import Similarity
from .sentences import sentence_similarity

CONFIG = "demo.yaml"
_FIRST = "SELECT outcome FROM model_calls WHERE step = 'ask' AND outcome != 'error' GROUP BY key"


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Label the demo's units (or those of `config`) into `run`, or a temporary directory, by the model."""
    parser = SuiteParser("vlm", "The whole loop with a language model, or with recorded answers.")
    parser.add_argument("--base-url", default="", help="where the endpoint's API begins")
    parser.add_argument("--model", default="", help="the name that the endpoint gives the model")
    parser.add_argument("--cassette", default="", metavar="DIR", help="recorded answers in place of both")
    parser.add_argument("--network", choices=PLANTED, default="", help="label a planted network instead")
    parser.add_argument("--text-only", action="store_true", help="ask a model without eyes")
    parser.add_argument("--rounds", type=int, default=2, help="of asking and checking")
    parser.add_argument("--budget", default=None, help="most tokens, or money, for all calls")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace a config value"
    )
    options = parser.parse_args(list(arguments))
    if bool(options.base_url) == bool(options.cassette):
        raise UsageError("labeler eval vlm takes either --base-url with --model, or --cassette.")
    if options.base_url and not options.model:
        raise UsageError("--base-url needs --model, the name that the endpoint gives it.")
    shipped = resource_directory("configs") / (PLANTED_CONFIG if options.network else CONFIG)
    loaded = _config(config or shipped, options)
    with tempfile.TemporaryDirectory(prefix="labeler-vlm-") as temporary:
        out = run or Path(temporary) / "run"
        with (
            TerminalReporter() as reporter,
            labeler.run(loaded, out, reporter=reporter, budget=options.budget) as catalogue,
        ):
            records = list(catalogue)
        found = summarise(records, _first_answers(out / "catalogue.db"), cost_text(run_cost(out)))
        return with_truth(found, options.network, out, records) if options.network else found


def _config(path: Path, options: argparse.Namespace) -> Config:
    network = [f"target.model=builtin:{options.network}"] if options.network else []
    loaded = load_config(path, (f"refine.rounds={options.rounds}", *network, *options.set))
    address = f"cassette:{Path(options.cassette).resolve()}" if options.cassette else options.base_url
    asked = {
        "kind": ("llm" if options.text_only else "vlm",),
        "model": options.model or "recorded",
        "base_url": address,
    }
    return loaded.model_copy(update={"propose": loaded.propose.model_copy(update=asked)})


def _first_answers(catalogue: Path) -> list[str]:
    """What came of the first answer to every question: ``ok``, ``invalid`` or ``refused``."""
    with closing(sqlite3.connect(f"{catalogue.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        return [str(row[0]) for row in connection.execute(_FIRST)]


def summarise(records: Sequence[UnitRecord], first: Sequence[str], spent: str) -> Result:
    """The suite's result.

    Args:
        records: of all units.
        first: what came of every first answer.
        spent: what the calls took, in words.
    """
    live = [record for record in records if record.verdict != "dead"]
    means = {
        "accepted": bootstrap_mean([float(record.verdict in ACCEPTED) for record in live]),
        "schema_ok": bootstrap_mean([float(outcome == "ok") for outcome in first]),
    }
    layers = sorted({record.layer for record in live})
    rows = [_row(layer, [record for record in live if record.layer == layer]) for layer in layers]
    header = ("layer", "units", "accepted", "rejected", "no label", "failed")
    lines = [
        table(header, rows),
        "",
        spent,
        *(f"{name}: {mean}, of {mean.count}" for name, mean in means.items()),
        "",
        *(
            f"{record.unit}  {'; '.join(label.text for label in record.labels)}"
            for record in live
            if record.labels
        ),
    ]
    figures, intervals = figures_of(means)
    return Result("vlm", len(live), figures, "\n".join(lines), intervals)


def with_truth(found: Result, network: str, run: Path, records: Sequence[UnitRecord]) -> Result:
    """The result with the planted suite's table: accepted and right, by kind of unit.

    A model's words are free: a term is also right by a synonym of the concept's, or by `same_meaning`.
    """
    item = PlantedRun(network, "", (), run, planted_truth(network), {record.id: record for record in records})
    outcomes = [replace(o, right=o.similar) for o in planted.outcomes_of(item, same_meaning())]
    known = planted.summarise(outcomes, wrong=True)
    figures = {**known.figures, **found.figures}
    intervals = {**known.intervals, **found.intervals}
    return replace(found, figures=figures, intervals=intervals, text=f"{found.text}\n\n{known.text}")


def same_meaning() -> Similarity:
    """1 for a concept of the scenes and its synonyms, else the cosine of the sentences, in [-1, 1]."""
    sentences = sentence_similarity()
    forms = {concept.name: {normal_form(word) for word in concept.words} for concept in CONCEPTS}

    def similarity(first: str, second: str) -> float:
        if normal_form(first) in forms.get(second, ()):
            return 1.0
        return sentences(first, second)

    return similarity


def _row(layer: str, records: Sequence[UnitRecord]) -> tuple[str, ...]:
    def count(*verdicts: str) -> str:
        return str(sum(record.verdict in verdicts for record in records))

    return (
        layer, str(len(records)), count(*ACCEPTED), count("rejected"),
        count("uninterpretable", "abstained"), count("failed"),
    )  # fmt: skip
