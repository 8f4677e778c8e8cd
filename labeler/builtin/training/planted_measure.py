"""Whether planted units do what their truth says, and whether decoys do nothing: AUROC of formulas of two.

The AUROC of an activation against a formula is a rank sum over the scenes where the formula holds, so all
pairs of concepts are one matrix product (as in `labeler.baselines.invert`).
"""

from __future__ import annotations

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
    both_ll, _ = _pairs(pooled_n, literal_nl, least)  # the OR of two is the negation of an AND
    return float(0.5 + np.abs(both_ll - 0.5).max())


def best_rival(pooled_n: NDArray[np.float32], present_nc: Booleans, unit: Wanted) -> tuple[float, str]:
    """The greatest AUROC of any concept, its negation, or AND or OR of two, without the truth; and its words.

    A formula that says more than the truth, such as ``a or b`` of a unit planted as ``a``, counts: where it
    goes with the unit better, the truth is not the whole of what the unit does.
    """
    both_cc, either_cc = _pairs(pooled_n, present_nc.astype(np.float64), LEAST_OF_RIVAL)
    negated_c = 1 - np.diag(both_cc).copy()
    own = sorted(unit.terms)
    first, second = own[0], own[-1]
    for kind, table in (("and", both_cc), ("or", either_cc)):
        if unit.kind in (kind, "single", "duplicate") or (unit.kind == "context" and kind == "and"):
            table[first, second] = table[second, first] = 0.0
    if unit.kind == "not":
        negated_c[first] = 0.0
    found = []
    for word, table in (("and", both_cc), ("or", either_cc)):
        a, b = np.unravel_index(int(table.argmax()), table.shape)
        names = list(dict.fromkeys((CONCEPTS[a].name, CONCEPTS[b].name)))
        found.append((float(table[a, b]), f" {word} ".join(names)))
    found.append((float(negated_c.max()), f"not {CONCEPTS[int(negated_c.argmax())].name}"))
    return max(found)


def _pairs(pooled_n: NDArray[np.float32], literal_nl: Doubles, least: int) -> tuple[Doubles, Doubles]:
    """AUROC of AND and of OR of every two literals, (l, l) each; 1/2 where `least` is not reached."""
    count = len(pooled_n)
    _, inverse, ties = np.unique(pooled_n, return_inverse=True, return_counts=True)
    rank_n = (np.cumsum(ties) - (ties - 1) / 2)[inverse] - (count + 1) / 2
    holds_ll = literal_nl.T @ literal_nl
    sum_ll = literal_nl.T @ (literal_nl * rank_n[:, None])
    holds_l, sum_l = np.diag(holds_ll), np.diag(sum_ll)
    either = holds_l[:, None] + holds_l - holds_ll, sum_l[:, None] + sum_l - sum_ll
    return _auroc(holds_ll, sum_ll, count, least), _auroc(*either, count, least)


def _auroc(holds_ll: Doubles, sum_ll: Doubles, count: int, least: int) -> Doubles:
    enough = (holds_ll >= least) & (count - holds_ll >= least)
    product = holds_ll * (count - holds_ll)
    found: Doubles = 0.5 + np.divide(sum_ll, product, out=np.zeros_like(sum_ll), where=enough)
    return found


def concept_aurocs(pooled_n: NDArray[np.float32], present_nc: Booleans) -> Doubles:
    """AUROC of one unit against every concept, (c,)."""
    both_cc, _ = _pairs(pooled_n, present_nc.astype(np.float64), LEAST_OF_RIVAL)
    return np.diag(both_cc).copy()


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
