"""Whether planted units do what their truth says, and whether decoys do nothing, against formulas of two.

The AUROC, or correlation, of an activation with a formula is a sum of ranks, or of
standardised values, over the scenes where the formula holds, so all pairs of concepts are one matrix product
(as in `labeler.baselines.invert`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeler.builtin.scenes import CONCEPTS
from labeler.builtin.training.planted_truth import Wanted

LEAST = 300
"""Scenes in which a formula must hold, and fail, to speak against a decoy."""
LEAST_OF_RIVAL = 60
"""The same to speak against a truth: an OR of rare things holds seldom."""

Doubles = NDArray[np.float64]
Booleans = NDArray[np.bool_]


def decoy_auroc(pooled_n: NDArray[np.float32], present_nc: Booleans, least: int) -> float:
    """The greatest |AUROC - 1/2| + 1/2 of any concept, or any AND, OR (either negated) of two.

    Formulas that hold, or fail, on fewer than `least` scenes do not count: their AUROC is chance.
    """
    literal_nl = np.concatenate([present_nc, ~present_nc], axis=1).astype(np.float64)
    holds, summed = _counts(literal_nl, _ranks(pooled_n))
    both_ll = _auroc(holds[0], summed[0], len(pooled_n), least)  # the OR of two is the negation of an AND
    return float(0.5 + np.abs(both_ll - 0.5).max())


@dataclass(frozen=True)
class Told:
    """How well formulas go with one unit.

    The truth's correlation; that of the best of its terms alone; the greatest of any other formula, in words.
    """

    own: float
    part: float
    rival: float
    words: str


def compare(pooled_n: NDArray[np.float32], present_nc: Booleans, unit: Wanted) -> Told:
    """Correlation of the truth with the activation, and that of its best rival.

    Rivals are every concept, its negation, and AND and OR of two. A formula that says more than the truth is
    one, such as ``a or b`` of a unit planted as ``a``: where it goes with the unit better, the truth is not
    the whole of what the unit does. (AUROC would not do: a formula that holds in fewer of the scenes where
    the truth holds has a greater one.)
    """
    tables = _correlations(pooled_n, present_nc)
    return _told(tables, -np.diag(tables[0]), unit)


def _correlations(pooled_n: NDArray[np.float32], present_nc: Booleans) -> list[Doubles]:
    """With AND and with OR of every two concepts, (c, c) each."""
    standard_n = (pooled_n - pooled_n.mean()) / max(float(pooled_n.std()), 1e-9)
    holds, summed = _counts(present_nc.astype(np.float64), standard_n.astype(np.float64))
    return [_correlation(n, s, len(pooled_n), LEAST_OF_RIVAL) for n, s in zip(holds, summed, strict=True)]


def _told(tables: list[Doubles], negated_c: Doubles, unit: Wanted) -> Told:
    """The truth's entry in the tables of AND and OR, or among the negations, and the greatest other."""
    negated_c = negated_c.copy()
    first, second = min(unit.terms), max(unit.terms)
    if unit.kind == "not":
        own, negated_c[first] = float(negated_c[first]), -1.0
    else:
        own = float(tables[unit.kind == "or"][first, second])
    found = [(float(negated_c.max()), f"not {CONCEPTS[int(negated_c.argmax())].name}")]
    for word, table in zip(("and", "or"), tables, strict=True):
        open_cc = table.copy()
        if unit.kind != "not" and (first == second or (word == "or") == (unit.kind == "or")):
            open_cc[first, second] = open_cc[second, first] = -1.0
        a, b = np.unravel_index(int(open_cc.argmax()), open_cc.shape)
        names = dict.fromkeys((CONCEPTS[a].name, CONCEPTS[b].name))
        found.append((float(open_cc[a, b]), f" {word} ".join(names)))
    value, words = max(found)
    return Told(own, float(max(np.diag(tables[0])[list(unit.terms)])), value, words)


def _ranks(pooled_n: NDArray[np.float32]) -> Doubles:
    """Midranks less their mean; ties count half."""
    _, inverse, ties = np.unique(pooled_n, return_inverse=True, return_counts=True)
    centred: Doubles = (np.cumsum(ties) - (ties - 1) / 2)[inverse] - (len(pooled_n) + 1) / 2
    return centred


def _counts(literal_nl: Doubles, score_n: Doubles) -> tuple[list[Doubles], list[Doubles]]:
    """In how many scenes AND and OR of every two literals hold, and the score summed over them, (l, l)."""
    holds_ll, sum_ll = literal_nl.T @ literal_nl, literal_nl.T @ (literal_nl * score_n[:, None])
    holds_l, sum_l = np.diag(holds_ll), np.diag(sum_ll)
    return (
        [holds_ll, holds_l[:, None] + holds_l - holds_ll],
        [sum_ll, sum_l[:, None] + sum_l - sum_ll],
    )


def _auroc(holds_ll: Doubles, sum_ll: Doubles, count: int, least: int) -> Doubles:
    """From sums of centred ranks; 1/2 where a formula holds, or fails, in fewer than `least` scenes."""
    product, enough_ll = holds_ll * (count - holds_ll), _enough(holds_ll, count, least)
    found: Doubles = 0.5 + np.divide(sum_ll, product, out=np.zeros_like(sum_ll), where=enough_ll)
    return found


def _correlation(holds_ll: Doubles, sum_ll: Doubles, count: int, least: int) -> Doubles:
    """From sums of standardised activations; 0 where a formula holds, or fails, in too few scenes."""
    spread_ll, enough_ll = np.sqrt(holds_ll * (count - holds_ll)), _enough(holds_ll, count, least)
    found: Doubles = np.divide(sum_ll, spread_ll, out=np.zeros_like(sum_ll), where=enough_ll)
    return found


def _enough(holds_ll: Doubles, count: int, least: int) -> Booleans:
    enough_ll: Booleans = (holds_ll >= least) & (count - holds_ll >= least)
    return enough_ll


def concept_correlations(pooled_n: NDArray[np.float32], present_nc: Booleans) -> Doubles:
    """Correlation of one unit with every concept, (c,)."""
    return np.diag(_correlations(pooled_n, present_nc)[0]).copy()


def concept_ious(maps_nuhw: NDArray[np.float32], cells_nchw: NDArray[np.uint8]) -> Doubles:
    """IoU of every unit with every concept over the cells of all scenes, ``(u, c)``.

    A unit's mask are its 0.5 % strongest cells (Bau et al. 2017, sec. 2.2); a concept is in a cell that it
    covers by half.
    """
    unit_mu = np.moveaxis(maps_nuhw, 1, -1).reshape(-1, maps_nuhw.shape[1])
    concept_mc = (np.moveaxis(cells_nchw, 1, -1).reshape(-1, cells_nchw.shape[1]) >= 128).astype(np.float32)
    mask_mu = (unit_mu > np.quantile(unit_mu, 0.995, axis=0)).astype(np.float32)
    both_uc = (mask_mu.T @ concept_mc).astype(np.float64)
    either_uc = mask_mu.sum(axis=0)[:, None] + concept_mc.sum(axis=0) - both_uc
    found: Doubles = both_uc / np.maximum(either_uc, 1)
    return found
