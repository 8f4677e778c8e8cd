"""What each round buys: labels accepted, labels right, tokens; where the truth of the units is known.

A stand-in for a vision-language model (`seeing.SeeingModel`) answers over loopback. It sees contact sheets
only, looks with the encoder, which is not the judge, and is wrong on purpose in a share of its answers, in
every round. The control arm is told the same scores but shown no failing image, and stops after the round in
which it has made as many calls.

A unit counts as right when it is accepted and its labels say what it was trained to do (`rightness.right`);
the shares are of all units that can be named, and of all OR units: a label that names one of the two alone is
none. Decoys should end as uninterpretable. Intervals are bootstraps over networks and, within each, units.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from labeler.catalogue import CatalogueStore, Ledger, costs_by_round
from labeler.config import Config
from labeler.config_file import load_config
from labeler.pipeline.bench import Bench
from labeler.pipeline.pass_stage import activations_key
from labeler.pipeline.pictures import Pictures, pictures_stage
from labeler.pipeline.rounds import Rounds
from labeler.pipeline.verdicts import put_verdicts
from labeler.propose.endpoint import EndpointProposer
from labeler.propose.endpoint.connect import make_exchange
from labeler.records import RoundRecord, UnitId
from labeler.report.text import table
from labeler.resources import resource_directory
from labeler.storage import run_lock
from labeler.suites import Result
from labeler.terminal import TerminalReporter

from .arguments import SuiteParser
from .bootstrap import Mean, figures_of, nested_mean
from .loopback import serving
from .opened import make_bench
from .planted import Outcome, outcomes_of
from .planted_runs import CONFIG, GROUPS, PlantedRun, planted_truth
from .rightness import NO_LABEL
from .seeing import WRONG, SeeingModel
from .timing import say

_COUNTED = ("right", "wrong", "none")  # "none": uninterpretable
ARMS = {"refined": True, "control": False}
"""Whether an arm is shown the images on which its best label failed."""
ROUNDS = 8
"""With two answers in five wrong, three right ones (a part, then what it may lack, twice) come in five rounds
for 68 % of the units, in eight for 95 %. An arm goes on to the last round unless its labels settle."""
NOWHERE = "http://127.0.0.1:9/v1"
"""Stands for the loopback endpoint in the run's description: its port differs from time to time."""


@dataclass(frozen=True)
class Measured:
    """One network: what became of its units after each round of each arm, and what each round took."""

    outcomes: dict[tuple[str, int], list[Outcome]]
    calls: dict[tuple[str, int], int]
    tokens: dict[tuple[str, int], int]


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Label the networks by both arms into `run` (or a temporary directory) and compare with their truth."""
    parser = SuiteParser("rounds", "What each round of refinement buys, against a control.")
    parser.add_argument("--networks", choices=list(GROUPS), default="held-out", help="which to label")
    parser.add_argument("--count", type=int, default=2, help="how many of them")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each arm")
    parser.add_argument("--wrong", type=float, default=WRONG, help="share of answers wrong on purpose")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace a config value"
    )
    options = parser.parse_args(list(arguments))
    names = GROUPS[options.networks][: options.count]
    propose = f"{{kind: vlm, model: seeing, base_url: '{NOWHERE}', concurrency: 4}}"
    refine = f"refine={{rounds: {options.rounds}, patience: {options.rounds}}}"
    settings = [f"propose={propose}", refine, *options.set]
    with tempfile.TemporaryDirectory(prefix="labeler-rounds-") as temporary:
        measured = [
            _measure(name, (run or Path(temporary)) / name, settings, config, options.wrong) for name in names
        ]
    return summarise(measured, options.rounds)


def _measure(name: str, out: Path, settings: Sequence[str], config: Path | None, wrong: float) -> Measured:
    """Both arms on one network; they share everything up to the rounds."""
    say(f"{name} ...")
    chosen = (f"target.model=builtin:{name}", *settings)
    loaded = load_config(config or resource_directory("configs") / CONFIG, chosen)
    with run_lock(out), TerminalReporter() as reporter:
        bench = make_bench(loaded, out)
        live = [unit for unit in bench.inputs.units if bench.alive(unit)]
        key = activations_key(bench.inputs)
        pictures = pictures_stage(
            out, bench.inputs, bench.evidence, live, key, reporter.stage("visualisations")
        )
        found = Measured({}, {}, {})
        for arm, shows in ARMS.items():
            refine = loaded.refine.model_copy(update={"show_failures": shows})
            of_arm = _with(bench, loaded.model_copy(update={"refine": refine}))
            model = SeeingModel(bench.inputs.encoder, wrong=wrong, candidates=loaded.propose.candidates)
            records = _rounds(out, arm, of_arm, pictures, live, model, reporter.stage(arm))
            costs = costs_by_round(out / f"{arm}.db")
            last = loaded.refine.rounds
            if not shows:
                last = as_many(costs, sum(found.calls.values()), last)
            for number in range(1, last + 1) if shows else (last,):
                decided = _decide(out, name, arm, number, bench, pictures, records)
                found.outcomes[arm, number if shows else loaded.refine.rounds] = decided
            for number, row in costs.items():
                if number <= last:
                    found.calls[arm, number], found.tokens[arm, number] = row
    return found


def as_many(costs: Mapping[int, tuple[int, int]], calls: int, most: int) -> int:
    """The first round after which an arm has made at least so many calls, or `most`.

    Fewer of the control's units are ever settled, so by the last round it has asked more often.
    """
    made = 0
    for number in sorted(costs):
        made += costs[number][0]
        if made >= calls:
            return min(number, most)
    return most


def _with(bench: Bench, config: Config) -> Bench:
    return replace(bench, inputs=replace(bench.inputs, config=config))


def _rounds(
    out: Path,
    arm: str,
    bench: Bench,
    pictures: Pictures,
    live: Sequence[UnitId],
    model: SeeingModel,
    progress: Any,
) -> dict[UnitId, list[RoundRecord]]:
    path = out / f"{arm}.db"
    with closing(CatalogueStore(path)) as store, closing(Ledger(path)) as ledger, serving(model) as url:
        settings = bench.inputs.config.propose.model_copy(update={"base_url": url})
        proposer = EndpointProposer(settings, make_exchange(settings, ledger), ledger)
        return Rounds(out, bench, pictures, store, [proposer]).complete(live, progress)


def _decide(
    out: Path,
    name: str,
    arm: str,
    rounds: int,
    bench: Bench,
    pictures: Pictures,
    records: Mapping[UnitId, Sequence[RoundRecord]],
) -> list[Outcome]:
    """The verdicts that the run would have ended with after so many rounds."""
    with closing(CatalogueStore(out / f"{arm}-{rounds}.db")) as store:
        if store.meta("gate") is None:
            known = {unit: found[:rounds] for unit, found in records.items()}
            put_verdicts(bench, pictures, {}, known, store, lambda done, total: None)
        decided = {record.id: record for record in store.units()}
    judges = tuple(bench.inputs.config.encoder.judge)
    item = PlantedRun(name, bench.inputs.probe.name, judges, out, planted_truth(name), decided)
    return outcomes_of(item, None)


def summarise(measured: Sequence[Measured], rounds: int) -> Result:
    """The suite's result from what was measured on each network."""
    first, last, control = ("refined", 1), ("refined", rounds), ("control", rounds)
    means = {
        "right_round_1": _share(measured, first),
        "right_last": _share(measured, last),
        "right_control": _share(measured, control),
        "wrong_accepted": _wrong(measured, last),
        "gain": _difference(measured, last, first),
        "lead": _difference(measured, last, control),
        "or_right": _share(measured, last, ("or",)),
        "decoys_uninterpretable": _uninterpretable(measured, last),
    }
    header = ("arm", "rounds", "accepted", "right", "wrong", "calls", "tokens")
    shown = [("refined", number) for number in range(1, rounds + 1)] + [control]
    nameable = sum(len(_nameable(item, first)) for item in measured)
    every = sum(len(item.outcomes[first]) for item in measured)
    lines = [
        f"{len(measured)} networks, {every} units, {nameable} of which can be named",
        table(header, [_row(measured, *key) for key in shown]),
        "",
        _by_kind(measured, first, last, control),
        "",
        *(f"{name}: {mean}" for name, mean in means.items()),
    ]
    figures, intervals = figures_of(means)
    return Result("rounds", nameable, figures, "\n".join(lines), intervals)


def _row(measured: Sequence[Measured], arm: str, rounds: int) -> tuple[str, ...]:
    outcomes = [outcome for item in measured for outcome in item.outcomes[arm, rounds] if outcome.accepted]
    numbers = (
        len(outcomes), sum(outcome.right for outcome in outcomes),
        sum(not outcome.right for outcome in outcomes),
        sum(count for item in measured for (a, r), count in item.calls.items() if a == arm and r <= rounds),
        sum(count for item in measured for (a, r), count in item.tokens.items() if a == arm and r <= rounds),
    )  # fmt: skip
    return (arm, str(rounds), *(f"{number:,}" for number in numbers))


def _by_kind(measured: Sequence[Measured], *keys: tuple[str, int]) -> str:
    """What became of the units of each kind, after some rounds of some arms."""
    kinds = sorted({outcome.kind for item in measured for outcome in item.outcomes[keys[0]]})
    header = ("kind", "units", *(f"{arm} {number}: {what}" for arm, number in keys for what in _COUNTED))
    rows = []
    for kind in kinds:
        counts: list[int] = []
        for key in keys:
            found = [outcome for item in measured for outcome in item.outcomes[key] if outcome.kind == kind]
            counts += [
                sum(outcome.accepted and outcome.right for outcome in found),
                sum(outcome.accepted and not outcome.right for outcome in found),
                sum(outcome.verdict == "uninterpretable" for outcome in found),
            ]
        rows.append((kind, str(len(found)), *map(str, counts)))
    return table(header, rows)


def _nameable(item: Measured, key: tuple[str, int], kinds: Sequence[str] = ()) -> list[Outcome]:
    """The units of some kinds, or of all that can be named."""
    return [
        outcome
        for outcome in item.outcomes[key]
        if (outcome.kind in kinds if kinds else outcome.kind not in NO_LABEL)
    ]


def _rights(
    item: Measured, key: tuple[str, int], kinds: Sequence[str] = ()
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """For each of those units, whether it has a right label that was accepted. ``(u,)``"""
    found = _nameable(item, key, kinds)
    return np.array([outcome.accepted and outcome.right for outcome in found], np.float64)


def _share(measured: Sequence[Measured], key: tuple[str, int], kinds: Sequence[str] = ()) -> Mean:
    return nested_mean([_rights(item, key, kinds) for item in measured])


def _uninterpretable(measured: Sequence[Measured], key: tuple[str, int]) -> Mean:
    """Share of the decoys that end so."""
    return nested_mean(
        [
            np.array([o.verdict == "uninterpretable" for o in item.outcomes[key] if o.kind == "decoy"], float)
            for item in measured
        ]
    )


def _difference(measured: Sequence[Measured], one: tuple[str, int], other: tuple[str, int]) -> Mean:
    """Paired by unit."""
    return nested_mean([_rights(item, one) - _rights(item, other) for item in measured])


def _wrong(measured: Sequence[Measured], key: tuple[str, int]) -> Mean:
    """Share of the accepted units whose labels are not right, those included that have no right label."""
    return nested_mean(
        [
            np.array([not outcome.right for outcome in item.outcomes[key] if outcome.accepted], np.float64)
            for item in measured
        ]
    )
