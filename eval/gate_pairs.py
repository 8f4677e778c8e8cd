"""(unit, label) pairs of planted networks with their truth, checked on `test` as a run checks its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labeler.builtin.scenes import CONCEPTS
from labeler.pipeline.bench import Bench, by_layer
from labeler.pipeline.opening import open_test
from labeler.pipeline.pass_stage import activations_key
from labeler.pipeline.pictures import pictures_stage
from labeler.records import CheckResult, Label, UnitId, UnitRecord
from labeler.storage import hash_order

from .claims import Claim
from .opened import open_run
from .planted_runs import PlantedRun
from .removal import left_out
from .rightness import UNKNOWN, Truth, right, same_name

BEST, OTHERS = 5, 3
"""Of the labels that a unit's rounds tried: the best by `feedback`, and so many of the rest, hash-chosen."""
COMPANIONS, SIBLINGS = 2, 2
"""Confusables of the truth: concepts in the same scenes, and of the same category."""


@dataclass(frozen=True)
class Pair:
    """A label of a unit, whether it is right, and what the checks say of it."""

    network: str
    unit: UnitId
    text: str
    right: bool
    checks: Mapping[str, CheckResult]

    def without(self, names: Collection[str]) -> Pair:
        """The same pair, these checks left out."""
        return replace(self, checks=left_out(self.checks, names))


def pairs_of(item: PlantedRun, judges: tuple[str, ...] = ()) -> list[Pair]:
    """The pairs of one labelled network. Labels that say a part of the truth count as `is_right` says.

    `judges` replaces the run's by some of them: what the gate would see on a probe without annotations.
    """
    opened = open_run(item.run, "gate")
    bench = _judged_by(opened.bench, judges) if judges else opened.bench
    confusable = _confusables(bench)
    labels: dict[UnitId, list[Label]] = {}
    for unit in opened.units:
        truth = item.truth[unit]
        if truth.kind != UNKNOWN:
            tried = _tried(item.records[unit], f"{item.name} {unit}")
            labels[unit] = _distinct([*tried, *_of_truth(truth), *confusable(truth)])
    kin = {unit: (*item.records[unit].labels, *item.records[unit].candidates) for unit in labels}
    key = activations_key(bench.inputs)
    pictures = pictures_stage(item.run, bench.inputs, bench.evidence, opened.units, key, _quiet)
    layers = open_test(bench, pictures, labels, _quiet, kin=kin)
    found = []
    for layer, units in by_layer(list(labels)).items():
        wanted = [(unit, label) for unit in units for label in labels[unit]]
        tests = {unit.index: len(labels[unit]) for unit in units}
        judged = layers[layer].judge([(unit.index, label) for unit, label in wanted], tests)
        for (unit, label), result in zip(wanted, judged, strict=True):
            verdict = is_right(label, item.truth[unit])
            if verdict is not None and result.label.checks["prediction"].status == "ok":
                found.append(Pair(item.name, unit, label.text, verdict, result.label.checks))
    return found


def _judged_by(bench: Bench, judges: tuple[str, ...]) -> Bench:
    config = bench.inputs.config
    encoder = config.encoder.model_copy(update={"judge": judges})
    changed = config.model_copy(update={"encoder": encoder})
    return replace(bench, inputs=replace(bench.inputs, config=changed))


def is_right(label: Label, truth: Truth) -> bool | None:
    """Whether one label is right of one facet; None where it says a part of the truth and no more.

    One term of an OR is the name of one of its facets: right. One term of an AND, and the first of a context,
    is too broad a name for what the unit does: neither right nor a mistake.
    """
    if right(Claim.of_labels([label]), truth):
        return True
    if label.formula is None and truth.kind in ("or", "and", "context"):
        named = any(same_name(label.text, [term]) for term in truth.terms)
        if named:
            return True if truth.kind == "or" else None
    return False


def _tried(record: UnitRecord, purpose: str) -> list[Label]:
    """Labels that the proposers came up with: the best by `feedback`, and some of the others."""
    tried = [label for found in record.rounds for label in found.labels]
    tried.sort(key=lambda label: -(label.score or 0.0))
    rest = tried[BEST:]
    order = hash_order([label.text for label in rest], 0, purpose)
    return [*tried[:BEST], *(rest[place] for place in order[:OTHERS])]


def _of_truth(truth: Truth) -> list[Label]:
    """The simple terms of the truth, so that a unit whose proposers missed it counts too."""
    return [] if truth.kind == "not" else [Label(text=term) for term in truth.terms]


def _distinct(labels: Sequence[Label]) -> list[Label]:
    taken: dict[str, Label] = {}
    for label in labels:
        taken.setdefault(label.text.casefold(), label.model_copy(update={"checks": {}, "score": None}))
    return list(taken.values())


def _confusables(bench: Bench) -> Callable[[Truth], list[Label]]:
    """A function from a truth to the labels that it is most easily taken for."""
    present_nc = np.nan_to_num(bench.activations.areas) >= bench.inputs.config.checks.presence_area
    with np.errstate(invalid="ignore"):
        together_cc: NDArray[np.float64] = np.nan_to_num(np.corrcoef(present_nc.T.astype(np.float64)))
    names = [concept.name for concept in bench.inputs.probe.concepts]
    vectors_cd = bench.inputs.encoder.embed_texts(names)
    alike_cc = vectors_cd @ vectors_cd.T
    category = [concept.category for concept in CONCEPTS]
    place = {name: index for index, name in enumerate(names)}

    def confusable(truth: Truth) -> list[Label]:
        found: list[int] = []
        own = [place[term] for term in truth.terms if term in place]
        for concept in own[:1]:
            others = [c for c in range(len(names)) if c not in own]
            found += sorted(others, key=lambda c: -together_cc[concept, c])[:COMPANIONS]
            kin = [c for c in others if category[c] == category[concept] and c not in found]
            found += sorted(kin, key=lambda c: -alike_cc[concept, c])[:SIBLINGS]
        return [Label(text=names[c]) for c in found]

    return confusable


def _quiet(done: int, total: int) -> None:
    """Nothing is said of so short a stage."""
