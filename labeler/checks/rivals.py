"""*rivals*: does any other word that the judge knows say more about this unit?

``value = r(label) - r(best rival)``, both weighted correlations over all images of the split (*prediction*),
in [-2, 2]; positive where the label is the best word there is. *significance* tests that it is: the standard
error is that of a difference of two dependent correlations, from their influence functions (Devlin,
Gnanadesikan & Kettenring 1975), so that two words for what always comes together do not beat each other.

*specificity* of *prediction* compares units under one label; this compares labels under one unit, which is
what a sibling, a part, or a companion of the true concept fails. A compound label competes with its own terms
too: ``a or b`` has to say more than ``a``. Where a unit has several facets, a label competes for what the
better facets leave unexplained: a second meaning leads there, an idle second label does not.

Of many words some correlate best by luck. So a label does not compete with whichever of thousands is best on
these images, but with the `SHORTLIST` best of the unit on the images of another split, which were picked
before these were looked at, and with its own terms.

In ``eval sanity`` (demo setting) it passes both tests.

What it cannot see: a concept that no word of the vocabulary names. Being the best of bad words is no merit,
which is why it never stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeler.checks.data import Booleans, Floats, LayerData, Pairs, Readings
from labeler.checks.judges import normal_form, terms_of
from labeler.checks.nulls import Z95, normal_tail
from labeler.checks.prediction import MIN_POSITIVES, correlations
from labeler.records import CheckResult, Label, Null

MIN_RIVALS = 16
"""Fewer words to compare with: being the best of a handful says little."""
SHORTLIST = 8
"""Rivals of each unit: parts, wholes and companions of what it answers to are among its best words."""
_ROUNDING = 1e-12  # a smaller standard error: two scores that say the same on every image


@dataclass(frozen=True)
class Words:
    """What one judge says of every word that it knows.

    Attributes:
        judge: its name.
        names: of the words, (w,).
        scores_nw: on the images of the split, NaN where it cannot tell.
        scouted_mw: the same on the images where rivals are picked; None: every word is a rival.
    """

    judge: str
    names: tuple[str, ...]
    scores_nw: Floats
    scouted_mw: Floats | None = None

    def usable(self) -> Booleans:
        """Words that vary enough over the images to be compared with, (w,)."""
        finite_nw = np.isfinite(self.scores_nw)
        yes_w = (finite_nw & (self.scores_nw > np.nanmin(self.scores_nw, axis=0, initial=np.inf))).sum(axis=0)
        no_w = finite_nw.sum(axis=0) - yes_w
        return np.asarray((yes_w >= MIN_POSITIVES) & (no_w >= 1), dtype=np.bool_)


@dataclass(frozen=True)
class Kin:
    """The best label of a facet: its terms, and its scores on the split."""

    facet: int
    terms: tuple[str, ...]
    scores_n: Floats


@dataclass(frozen=True)
class Rivals:
    """With what the labels of one layer compete on one split.

    Attributes:
        data: the layer there.
        words: the rivals, by judge.
        exempt: of a label, the words that are no rivals: itself and words that may mean the same.
        kin: for each unit (its index in the layer) the best label of every facet, the best facet first. A
            facet competes, with every word, for what those before it leave unexplained.
        scouted_mu: the units' activations on the images where rivals are picked, None where they are not.
    """

    data: LayerData
    words: Sequence[Words]
    exempt: Callable[[Label], Collection[str]]
    kin: Mapping[int, Sequence[Kin]] = field(default_factory=dict)
    scouted_mu: NDArray[np.float32] | None = None

    def open_to(self, unit: int, label: Label) -> set[str]:
        """The words that are no rivals of a label of a unit (its index): its own, and the better facets'."""
        better = _before(self.kin.get(unit, ()), label.facet)
        return {*terms_of(label), *self.exempt(label), *(term for kin in better for term in kin.terms)}

    @cached_property
    def _known(self) -> dict[str, _Known]:
        return {item.judge: _Known.of(self.data, item, self.scouted_mu) for item in self.words}

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
            others = [item.scores_n for item in _before(kin, facet_p[row])]
            score_n = readings.scores_nl[:, column]
            terms = terms_of(labels[column])
            found.append(self._known[judge].check(self.data, unit, score_n, terms, same[column], others))
        return found


@dataclass(frozen=True)
class _Known:
    """One judge's words that vary on the split."""

    judge: str
    forms: tuple[str, ...]  # (w,)
    names: tuple[str, ...]  # (w,)
    scores_nw: Floats
    values_uw: Floats  # -2 where a word cannot be compared with
    scouted_uw: Floats | None  # the same on the images where rivals are picked

    @classmethod
    def of(cls, data: LayerData, words: Words, scouted_mu: NDArray[np.float32] | None) -> _Known:
        kept = np.flatnonzero(words.usable()) if len(words.names) else np.zeros(0, dtype=np.int64)
        scores_nw = words.scores_nw[:, kept]
        names = tuple(words.names[column] for column in kept)
        forms = tuple(normal_form(name) for name in names)
        scouted_uw = None
        if scouted_mu is not None and words.scouted_mw is not None:
            scouted_uw = _values(scouted_mu, words.scouted_mw[:, kept], np.ones(len(scouted_mu)))
        values_uw = _values(data.activations_nu, scores_nw, data.weights_n)
        return cls(words.judge, forms, names, scores_nw, values_uw, scouted_uw)

    def check(
        self, data: LayerData, unit: int, score_n: Floats, terms: Sequence[str], same: Collection[str],
        others: Sequence[Floats],
    ) -> CheckResult:  # fmt: skip
        taken = {normal_form(word) for word in same}
        open_w = np.array([form not in taken for form in self.forms], dtype=np.bool_)
        if open_w.sum() < MIN_RIVALS:
            why = f"only {int(open_w.sum())} other words to compare with; {MIN_RIVALS} are needed"
            return CheckResult.not_applicable(why, self.judge)
        activation_n, value_w = data.activations_nu[:, unit].astype(np.float64), self.values_uw[unit]
        if others:
            activation_n = _without(activation_n, others, data.weights_n)
            value_w = _values(activation_n[:, None], self.scores_nw, data.weights_n)[0]
        elif self.scouted_uw is not None:
            parts = {normal_form(term) for term in terms}
            own_w = np.array([form in parts for form in self.forms], dtype=np.bool_)
            open_w = open_w & (_best(np.where(open_w, self.scouted_uw[unit], -3.0), SHORTLIST) | own_w)
        best = int(np.where(open_w, value_w, -3.0).argmax())
        usable_n = np.isfinite(score_n) & np.isfinite(self.scores_nw[:, best])
        weights_n = data.weights_n[usable_n]
        own, own_influence_n = _influence(activation_n[usable_n], score_n[usable_n], weights_n)
        other, influence_n = _influence(activation_n[usable_n], self.scores_nw[usable_n, best], weights_n)
        if own is None or other is None:
            return CheckResult.not_applicable("the label or its rival never changes here", self.judge)
        error = _standard_error(own_influence_n - influence_n, weights_n)
        lead = own - other
        z = lead / error if error > _ROUNDING else None
        return CheckResult(
            status="ok",
            why=f"the best other word is {self.names[best]}, {other:.2f}",
            value=lead,
            low=lead - Z95 * error,
            n=int(usable_n.sum()),
            judge=self.judge,
            significance=Null(z=z, p=1.0 if z is None else normal_tail(z)),  # a tie counts against the label
        )


def _best(value_w: Floats, count: int) -> Booleans:
    """The `count` greatest, ties by place, ``(w,)``."""
    chosen_w = np.zeros(len(value_w), dtype=np.bool_)
    chosen_w[np.argsort(-value_w, kind="stable")[:count]] = True
    return chosen_w


def _before(kin: Sequence[Kin], facet: int) -> list[Kin]:
    """The facets that come before `facet`; all others where it is none of them."""
    return list(takewhile(lambda item: item.facet != facet, kin))


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
