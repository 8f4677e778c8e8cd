"""The round policy, pure: when to stop, what to keep, and which images a label failed on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from labeler.config import RefineConfig
from labeler.records import Formula, Label, RoundRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray


JOINED = 3
"""Words of a facet that are paired."""
WEAKEST = 0.1
"""Quantile of the exemplars' activation from which on a miss fires as they do."""
NEARLY = 0.85
"""Share of the way from the unit's median to that of its exemplars from which on it does so too: where the
exemplars saturate, all but equal, what the label leaves out may stay just under every one of them."""


@dataclass(frozen=True)
class Step:
    """Whether to stop, and the sentence that the round's record keeps."""

    stop: bool
    reason: str


def next_step(
    rounds: Sequence[RoundRecord],
    facets: Iterable[int],
    passes: Callable[[Label], bool],
    settings: RefineConfig,
    *,
    partial: bool = False,
) -> Step:
    """What to do after the last of `rounds`.

    Stop when every facet has a label that the gate would accept on `feedback`, unless it is known to be
    `partial`; when the last ``patience`` rounds brought no better label; or when the rounds are used up.
    """
    best = best_per_facet(rounds)
    settled = bool(best) and all(facet in best and passes(best[facet]) for facet in facets)
    if settled and not partial:
        return Step(True, "every facet has a label that would pass on feedback")
    if len(rounds) >= settings.rounds:
        return Step(True, f"all {settings.rounds} rounds are used")
    scores = [_best_score(rounds[: end + 1]) for end in range(len(rounds))]
    if len(rounds) > settings.patience and scores[-1] <= scores[-1 - settings.patience]:
        return Step(True, f"no better label in {settings.patience} round(s)")
    if settled:
        return Step(False, "the label would pass on feedback, but leaves out images that fire as strongly")
    return Step(False, "another round may find a better label")


def leaves_out(misses_m: Sequence[float], exemplars_k: Sequence[float], median: float) -> bool:
    """Whether a label leaves out what fires as the exemplars do: two misses stronger than the weakest tenth,
    or nearly as strong as most.

    A part of the whole passes every check: ``wheel`` is true of a unit for wheels or clocks. One such miss
    may be an error of the judge. (On a planted network it kept on asking for 3 of 3 half labels that passed,
    and for 4 of 48 whole ones; with the median in place of the tenth for 1 and 1.)

    Args:
        misses_m: activations of the label's misses on `feedback` ``(m,)``.
        exemplars_k: those of the unit's exemplars ``(k,)``.
        median: the unit's median activation on `feedback`.
    """
    if not exemplars_k:
        return False
    weakest, usual = (float(value) for value in np.quantile(np.asarray(exemplars_k), (WEAKEST, 0.5)))
    strong = min(weakest, median + NEARLY * (usual - median))
    return sum(activation >= strong for activation in misses_m) > 1


def speaks_of_all(rounds: Iterable[RoundRecord]) -> bool:
    """Whether one label is the best of every facet that has any: then it has to name the whole unit."""
    return len({label.text.casefold() for label in best_per_facet(rounds).values()}) == 1


def best_per_facet(rounds: Iterable[RoundRecord]) -> dict[int, Label]:
    """The best label so far of every facet, from all rounds; earlier rounds win ties.

    A later, worse round never replaces a good label.
    """
    best: dict[int, Label] = {}
    for record in rounds:
        for label in record.labels:
            kept = best.get(label.facet)
            if label.score is not None and (kept is None or kept.score is None or label.score > kept.score):
                best[label.facet] = label
    return best


def joined(rounds: Sequence[RoundRecord], smallest_effect: float) -> list[Label]:
    """``a or b`` and ``a and b``, not tried yet, of words that say something of the same facet.

    Two rounds may each have found a part, and no proposer put them together. The `JOINED` words that say
    most are paired; whether a pair says more than either word is for the checks.

    Args:
        rounds: of one unit; what comes back belongs to the last.
        smallest_effect: of *prediction*, from which on a word says something.
    """
    labels = [label for record in rounds for label in record.labels]
    tried = {_meaning(label.formula, label.facet) for label in labels if label.formula is not None}
    found = []
    for facet in sorted({label.facet for label in labels}):
        said = {
            label.text: value
            for label in labels
            if label.facet == facet and label.formula is None and (value := _says(label)) >= smallest_effect
        }
        best = sorted(said, key=lambda text: (-said[text], text))[:JOINED]
        for first, second in combinations(best, 2):
            for op in ("or", "and"):
                formula = Formula(op=op, terms=(first, second))
                if _meaning(formula, facet) not in tried:
                    found.append(
                        Label(
                            text=f"{first} {op} {second}", formula=formula, facet=facet,
                            round=rounds[-1].round, split="feedback",
                        )
                    )  # fmt: skip
    return found


def _says(label: Label) -> float:
    check = label.checks.get("prediction")
    return check.value if check is not None and check.value is not None else 0.0


def _meaning(formula: Formula, facet: int) -> tuple[str, frozenset[str], int]:
    return formula.op, frozenset(term.casefold() for term in formula.terms), facet


def failures(
    activations_n: NDArray[np.float32], scores_n: NDArray[np.float32], fires_above: float, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where a label fails on one split: positions of (misses, false alarms), worst first.

    A miss fires (activation above `fires_above`) where the label's score is at most average; a false alarm
    is silent (activation at most the median) where the score is above average. Unusable (NaN) scores
    count as neither. Ties go to the smaller position.
    """
    usable = np.isfinite(scores_n)
    if not usable.any():
        empty = np.zeros(0, np.int64)
        return empty, empty
    average = float(scores_n[usable].mean())
    quiet = float(np.median(activations_n[usable]))
    missed = usable & (activations_n > fires_above) & (scores_n <= average)
    alarmed = usable & (activations_n <= quiet) & (scores_n > average)
    positions = np.arange(len(activations_n))
    by_miss = np.lexsort((positions, scores_n, -activations_n))
    by_alarm = np.lexsort((positions, activations_n, -scores_n))
    return by_miss[missed[by_miss]][:count], by_alarm[alarmed[by_alarm]][:count]


def _best_score(rounds: Sequence[RoundRecord]) -> float:
    scores = [label.score for record in rounds for label in record.labels if label.score is not None]
    return max(scores, default=float("-inf"))
