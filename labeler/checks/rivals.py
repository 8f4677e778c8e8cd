"""*rivals*: does any other word that the judge knows say more about this unit?

``value = r(label) - r(best rival)``, both weighted correlations over all images of the split (*prediction*),
in [-2, 2]; positive where the label is the best word there is. *significance* tests that it is: the standard
error is that of a difference of two dependent correlations, from their influence functions (Devlin,
Gnanadesikan & Kettenring 1975), so that two words for what always comes together do not beat each other.

*specificity* of *prediction* compares units under one label; this compares labels under one unit, which is
what a sibling, a part, or a companion of the true concept fails. A compound label competes with its own terms
too: ``a or b`` has to say more than ``a``. Where a unit has several facets, a label competes for what the
better facets leave unexplained: a second meaning leads there, an idle second label does not.

What it cannot see: a concept that no word of the vocabulary names. Being the best of bad words is no merit,
which is why it never stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeler.checks.data import Booleans, Floats, LayerData, Pairs, Readings
from labeler.checks.judges import normal_form
from labeler.checks.nulls import Z95, upper_tail
from labeler.checks.prediction import MIN_POSITIVES, correlations
from labeler.records import CheckResult, Label, Null

MIN_RIVALS = 16
"""Fewer words to compare with: being the best of a handful says little."""
_ROUNDING = 1e-12  # a smaller standard error: two scores that say the same on every image


@dataclass(frozen=True)
class Words:
    """What one judge says of every word that it knows.

    Attributes:
        judge: its name.
        names: of the words, (w,).
        scores_nw: on the images of the split, NaN where it cannot tell.
    """

    judge: str
    names: tuple[str, ...]
    scores_nw: Floats

    def usable(self) -> Booleans:
        """Words that vary enough over the images to be compared with, (w,)."""
        finite_nw = np.isfinite(self.scores_nw)
        yes_w = (finite_nw & (self.scores_nw > np.nanmin(self.scores_nw, axis=0, initial=np.inf))).sum(axis=0)
        no_w = finite_nw.sum(axis=0) - yes_w
        return np.asarray((yes_w >= MIN_POSITIVES) & (no_w >= 1), dtype=np.bool_)


@dataclass(frozen=True)
class Rivals:
    """With what the labels of one layer compete on one split.

    Attributes:
        data: the layer there.
        words: the rivals, by judge.
        exempt: of a label, the words that are no rivals: itself and words that may mean the same.
        kin: for each unit (its index in the layer) the best label of every facet, the best facet first, as
            facet and scores (n,). A facet competes for what those before it leave unexplained.
    """

    data: LayerData
    words: Sequence[Words]
    exempt: Callable[[Label], Collection[str]]
    kin: Mapping[int, Sequence[tuple[int, Floats]]] = field(default_factory=dict)

    @cached_property
    def _known(self) -> dict[str, _Known]:
        return {item.judge: _Known.of(self.data, item) for item in self.words}

    def check(
        self, readings: Readings, labels: Sequence[Label], pairs: Pairs, facet_p: Sequence[int]
    ) -> list[CheckResult]:
        """The lead of each label over the best rival that its judge knows.

        Args:
            readings: the labels' scores on the split, with the judge that read each.
            labels: those of `readings`, in its order.
            pairs: (unit, label) pairs.
            facet_p: the facet that each pair's label is for.
        """
        found = []
        same = [self.exempt(label) for label in labels]
        for row, (unit, column) in enumerate(zip(pairs.unit_p.tolist(), pairs.label_p.tolist(), strict=True)):
            judge = readings.judges[column]
            if judge not in self._known:
                found.append(CheckResult.not_applicable("its judge has no list of words", judge))
                continue
            kin = self.kin.get(int(self.data.live_units[unit]), ())
            others = _before(kin, facet_p[row])
            score_n = readings.scores_nl[:, column]
            found.append(self._known[judge].check(self.data, unit, score_n, judge, same[column], others))
        return found


@dataclass(frozen=True)
class _Known:
    """One judge's words that vary on the split."""

    forms: tuple[str, ...]  # (w,)
    names: tuple[str, ...]  # (w,)
    scores_nw: Floats
    values_uw: Floats  # -2 where a word cannot be compared with

    @classmethod
    def of(cls, data: LayerData, words: Words) -> _Known:
        kept = np.flatnonzero(words.usable()) if len(words.names) else np.zeros(0, dtype=np.int64)
        scores_nw = words.scores_nw[:, kept]
        names = tuple(words.names[column] for column in kept)
        forms = tuple(normal_form(name) for name in names)
        return cls(forms, names, scores_nw, _values(data.activations_nu, scores_nw, data.weights_n))

    def check(
        self, data: LayerData, unit: int, score_n: Floats, judge: str, same: Collection[str],
        others: Sequence[Floats],
    ) -> CheckResult:  # fmt: skip
        taken = {normal_form(word) for word in same}
        open_w = np.array([form not in taken for form in self.forms], dtype=np.bool_)
        if open_w.sum() < MIN_RIVALS:
            why = f"only {int(open_w.sum())} other words to compare with; {MIN_RIVALS} are needed"
            return CheckResult.not_applicable(why, judge)
        activation_n, value_w = data.activations_nu[:, unit].astype(np.float64), self.values_uw[unit]
        if others:
            activation_n = _without(activation_n, others, data.weights_n)
            value_w = _values(activation_n[:, None], self.scores_nw, data.weights_n)[0]
        best = int(np.where(open_w, value_w, -3.0).argmax())
        usable_n = np.isfinite(score_n) & np.isfinite(self.scores_nw[:, best])
        weights_n = data.weights_n[usable_n]
        own, own_influence_n = _influence(activation_n[usable_n], score_n[usable_n], weights_n)
        other, influence_n = _influence(activation_n[usable_n], self.scores_nw[usable_n, best], weights_n)
        if own is None or other is None:
            return CheckResult.not_applicable("the label or its rival never changes here", judge)
        error = _standard_error(own_influence_n - influence_n, weights_n)
        lead = own - other
        z = lead / error if error > _ROUNDING else None
        return CheckResult(
            status="ok",
            why=f"the best other word is {self.names[best]}, {other:.2f}",
            value=lead,
            low=lead - Z95 * error,
            n=int(usable_n.sum()),
            judge=judge,
            significance=Null(z=z, p=1.0 if z is None else _upper(z)),  # a tie counts against the label
        )


def _before(kin: Sequence[tuple[int, Floats]], facet: int) -> list[Floats]:
    """The scores of the facets that come before `facet`; of all others where it is none of them."""
    found = []
    for other, score_n in kin:
        if other == facet:
            break
        found.append(score_n)
    return found


def _values(activations_nu: NDArray[np.floating[Any]], scores_nw: Floats, weights_n: Floats) -> Floats:
    """Correlations ``(u, w)``; -2 where there is none."""
    return np.nan_to_num(correlations(activations_nu, scores_nw, weights_n), nan=-2.0)


def _without(activation_n: Floats, others: Sequence[Floats], weights_n: Floats) -> Floats:
    """What is left of the activation when the other facets' labels have explained what they can.

    Weighted least squares on their scores; an image where a score is unknown takes that label's mean, and a
    label that is known nowhere explains nothing.
    """
    columns = [np.where(np.isfinite(s), s, np.nanmean(s)) for s in others if np.isfinite(s).any()]
    design_nk = np.stack([np.ones(len(activation_n)), *columns], axis=1) * np.sqrt(weights_n)[:, None]
    target_n = activation_n * np.sqrt(weights_n)
    fitted_k = np.linalg.lstsq(design_nk, target_n, rcond=None)[0]
    left: Floats = (target_n - design_nk @ fitted_k) / np.sqrt(weights_n)
    return left


def _upper(z: float) -> float:
    return float(upper_tail(np.array([z]), np.zeros(1))[0])


def _influence(activation_n: Floats, score_n: Floats, weights_n: Floats) -> tuple[float | None, Floats]:
    """The weighted correlation and each image's influence on it; None where either side is constant."""
    shares_n = weights_n / weights_n.sum()
    standard = []
    for values_n in (activation_n, score_n):
        centred_n = values_n - shares_n @ values_n
        sd = float(np.sqrt(shares_n @ centred_n**2))
        if not sd > 1e-9:
            return None, centred_n
        standard.append(centred_n / sd)
    value = float(shares_n @ (standard[0] * standard[1]))
    return value, standard[0] * standard[1] - 0.5 * value * (standard[0] ** 2 + standard[1] ** 2)


def _standard_error(influence_n: Floats, weights_n: Floats) -> float:
    return float(np.sqrt(((weights_n * influence_n) ** 2).sum()) / weights_n.sum())
