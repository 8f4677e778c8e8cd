"""What the trust in pictures sees of a network that was made to mislead, and what each acceptance believes.

A network is fine-tuned so that the pictures of some units show another thing (``picture``), or their top
photographs do (``photographs``), or their pictures do and were made to please all judges too, the read-outs
among them (``adaptive``); all else stays. Then the whole labeller runs on the attacked weights. `auc` is the
chance that an attacked unit's ``suspicion`` (`record.trust.signals`) is greater than that of the same units
in the untouched network.
Intervals are bootstraps over networks and, within each, over units, 95 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from labeler.baselines import auroc
from labeler.builtin.planted import PLANTED
from labeler.config_file import load_config
from labeler.records import TRUSTS
from labeler.report.text import table
from labeler.resources import resource_directory
from labeler.suites import Result

from .arguments import SuiteParser
from .attack_acceptance import WAYS, belief_table
from .attack_bout import CLEAN, KINDS, Bout, Effort, Outcome, bouts
from .attack_targets import Attacked, lite0, planted_network
from .bootstrap import Mean, figures_of, nested_mean, nested_statistic
from .forging import Recipe
from .planted_runs import CONFIG, GROUPS, place_of

SUSPICION = "suspicion"
"""The signal that `auc` is about."""


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Attack and label into `run` (or a temporary directory), and compare with the untouched networks."""
    parser = SuiteParser("attack", "Networks whose pictures or photographs mislead.")
    parser.add_argument(
        "--target", nargs="+", choices=list(TARGETS), default=["planted"], help="what is attacked"
    )
    parser.add_argument(
        "--networks", choices=[*GROUPS, *PLANTED], default="held-out", help="of the planted ones"
    )
    parser.add_argument("--layers", nargs="+", default=["blocks.3", "blocks.4"], help="of lite0")
    parser.add_argument("--probe", default="builtin:scenes", help="of lite0, as probe.source")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of attack")
    parser.add_argument(
        "--units", type=int, help="to attack in each network or layer, in place of 8, of lite0 16"
    )
    parser.add_argument("--steps", type=int, help="of each attack's training")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace a value of the runs' config"
    )
    options = parser.parse_args(list(arguments))
    found: list[Bout] = []
    with place_of("attack", run) as place:
        for name in options.target:
            effort = _effort(EFFORTS[name], options.units, options.steps)
            for attacked in TARGETS[name](options, config):
                folder = place / attacked.name.replace(" ", "-")
                found += bouts(attacked, options.kinds, effort, folder)
    return summarise(found)


def _planted(options: argparse.Namespace, config: Path | None) -> Iterator[Attacked]:
    for name in GROUPS.get(options.networks, (options.networks,)):
        settings = (f"target.model=builtin:{name}", *options.set)
        yield planted_network(name, load_config(config or resource_directory("configs") / CONFIG, settings))


def _lite0(options: argparse.Namespace, config: Path | None) -> Iterator[Attacked]:
    for layer in options.layers:
        settings = (f"target.layers={layer}", f"probe.source={options.probe}", *options.set)
        yield lite0(layer, load_config(config or resource_directory("configs") / "demo.yaml", settings))


TARGETS = {"planted": _planted, "lite0": _lite0}
EFFORTS = {
    "planted": Effort(),
    "lite0": Effort(
        units=16,
        photographs=400,
        recipe=Recipe(steps=200, photographs=8, pictures=16, seeds=1, gain=4.0, slopes=0.5),
        pushing=Recipe(steps=500, photographs=16),
    ),
}
"""What the attacker does; a step costs ten times as much on lite0."""


def _effort(effort: Effort, units: int | None, steps: int | None) -> Effort:
    both = {
        name: replace(recipe, steps=steps or recipe.steps)
        for name, recipe in (("recipe", effort.recipe), ("pushing", effort.pushing))
    }
    return replace(effort, units=units or effort.units, **both)


def summarise(found: Sequence[Bout]) -> Result:
    """The suite's result from all bouts."""
    outcomes = [outcome for bout in found for outcome in bout.outcomes]
    kinds = [kind for kind in KINDS if any(outcome.kind == kind for outcome in outcomes)]
    clean = [outcome for outcome in outcomes if outcome.kind == CLEAN and outcome.attacked]
    every = [outcome for outcome in outcomes if outcome.kind != CLEAN and outcome.attacked]
    beside = [outcome for outcome in outcomes if outcome.kind != CLEAN and not outcome.attacked]
    areas = {"auc": area(every, clean)}
    means = {"suspect_clean": _share(clean, _suspect), "suspect_beside": _share(beside, _suspect)}
    for kind in kinds:
        own = [outcome for outcome in every if outcome.kind == kind]
        areas[f"auc_{kind}"] = area(own, clean)
        areas[f"auc_{kind}_succeeded"] = area([outcome for outcome in own if outcome.succeeded], clean)
        means[f"suspect_{kind}"] = _share(own, _suspect)
        means[f"succeeded_{kind}"] = _share(own, lambda outcome: bool(outcome.succeeded))
    for target in dict.fromkeys(outcome.target for outcome in outcomes):
        areas[f"auc_{target}"] = area(
            [outcome for outcome in every if outcome.target == target],
            [outcome for outcome in clean if outcome.target == target],
        )
    areas["auc_beside"] = area(
        beside, [outcome for outcome in outcomes if outcome.kind == CLEAN and not outcome.attacked]
    )
    figures, intervals = figures_of(means)
    figures |= {name: value for name, (value, _) in areas.items()}
    intervals |= {name: ends for name, (_, ends) in areas.items() if ends is not None}
    parts = [_figures(figures, intervals), _changes(found), _verdicts(outcomes), _signals(outcomes, kinds)]
    beliefs = [
        (kind, way, outcome.beliefs[way])
        for kind in (CLEAN, *kinds)
        for way in WAYS
        for outcome in outcomes
        if outcome.kind == kind and way in outcome.beliefs
    ]
    parts += [f"What each acceptance believes\n{belief_table(beliefs)}"] if beliefs else []
    return Result("attack", len(every) + len(clean), figures, "\n\n".join(parts), intervals)


Area = tuple[float | None, tuple[float, float] | None]


def area(attacked: Sequence[Outcome], clean: Sequence[Outcome], signal: str = SUSPICION) -> Area:
    """ROC-AUC of a signal, attacked against clean, and its interval; units without it are left out."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for outcomes, positive in ((attacked, 1.0), (clean, 0.0)):
        for outcome in outcomes:
            value = outcome.trust.signals.get(signal)
            if value is not None:
                rows.setdefault(outcome.network, []).append((value, positive))
    groups = [np.array(part) for part in rows.values()]
    if len({positive for part in rows.values() for _, positive in part}) < 2:
        return None, None
    return nested_statistic(groups, _roc_auc)


def _roc_auc(rows_n2: NDArray[np.float64]) -> float:
    """Chance that the signal of an attacked unit (second column 1) is greater; ties count half."""
    scores_n1, attacked_n1 = torch.from_numpy(rows_n2).split(1, dim=1)
    return float(auroc(scores_n1, attacked_n1)[0, 0])


def _share(outcomes: Sequence[Outcome], holds: Callable[[Outcome], bool]) -> Mean:
    """The share of the units of which something holds; networks are drawn anew, then their units."""
    names = dict.fromkeys(outcome.network for outcome in outcomes)
    return nested_mean(
        [np.array([float(holds(one)) for one in outcomes if one.network == name]) for name in names]
    )


def _suspect(outcome: Outcome) -> bool:
    return outcome.trust.verdict == "suspect"


def _figures(figures: dict[str, float | None], intervals: dict[str, tuple[float, float]]) -> str:
    rows = []
    for name, value in figures.items():
        ends = intervals.get(name)
        interval = "" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"
        rows.append((name, "nothing to measure" if value is None else f"{value:.3f}", interval))
    return table(("figure", "value", "95 %"), rows)


def _changes(found: Sequence[Bout]) -> str:
    """What each attack did, and how little else it changed."""
    rows = []
    for bout in found:
        kind, network = bout.outcomes[0].kind, bout.outcomes[0].network
        if kind == CLEAN:
            continue
        own = [outcome for outcome in bout.outcomes if outcome.attacked]
        kept = np.array([outcome.kept for outcome in own])
        beside = [outcome.kept for outcome in bout.outcomes if not outcome.attacked] or [np.nan]
        rows.append(
            (network, kind, f"{sum(bool(o.succeeded) for o in own)} of {len(own)}", f"{np.median(kept):.3f}",
             f"{kept.min():.3f}", f"{np.median(beside):.3f}", f"{bout.outputs_changed:.3f}",
             f"{bout.same_top:.3f}")
        )  # fmt: skip
    header = (
        "network", "attack", "succeeded", "maxima kept (median r)", "least", "of the others",
        "outputs changed", "same greatest output",
    )  # fmt: skip
    return f"What the attacks did\n{table(header, rows)}"


def _verdicts(outcomes: Sequence[Outcome]) -> str:
    rows = []
    for kind in dict.fromkeys(outcome.kind for outcome in outcomes):
        for attacked in (True, False):
            own = [o for o in outcomes if o.kind == kind and o.attacked == attacked]
            if own:
                whose = f"{kind}, {'attacked' if attacked else 'others'}" if kind != CLEAN else CLEAN
                whose += ", the others" if kind == CLEAN and not attacked else ""
                counts = [str(sum(o.trust.verdict == verdict for o in own)) for verdict in TRUSTS]
                rows.append((whose, str(len(own)), *counts))
    return f"Verdicts on the picture\n{table(('units', 'count', *TRUSTS), rows)}"


def _signals(outcomes: Sequence[Outcome], kinds: Sequence[str]) -> str:
    """ROC-AUC of every signal by itself, by kind of attack; below a half, it falls under attack."""
    names = dict.fromkeys(name for outcome in outcomes for name in outcome.trust.signals)
    clean = [outcome for outcome in outcomes if outcome.kind == CLEAN and outcome.attacked]
    rows = []
    for name in names:
        cells = []
        for kind in kinds:
            own = [outcome for outcome in outcomes if outcome.kind == kind and outcome.attacked]
            value = area(own, clean, name)[0]
            cells.append("–" if value is None else f"{value:.3f}")
        rows.append((name, *cells))
    return f"ROC-AUC of each signal\n{table(('signal', *kinds), rows)}"
