"""The compound proposer: ``a or b``, ``a and b``, ``not a`` where they go with a unit better than one word.

Scores are combined as the judges combine them (DESIGN 5): OR is the maximum, AND the minimum, NOT the
negative. The search is INVERT's beam of one step (Bykov et al. 2023, sec. 4), with the correlation that
*prediction* measures in place of AUROC, on `propose` images; whether a compound holds is for the checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeler.records import Formula, Kind, UnitId
from labeler.seams import Evidence, Proposal, Proposed
from labeler.storage import fingerprint

BEAM = 4
"""Words of each unit that are joined with every other word (INVERT keeps 3)."""
MIN_GAIN = 0.03
"""Least correlation that a compound must have over the best word: the best of many noisy ones has some."""
_ELEMENTS = 1 << 24  # images × units × words held at once, float32: 64 MB

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Compounds:
    """The best compounds of every unit, best first. All ``(u, k)``.

    `gain` is the correlation over that of the unit's best word, which *rivals* asks a compound to beat; `op`
    0 is OR, 1 AND, 2 NOT; `second` is -1 for NOT.
    """

    op: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    gain: Floats


_OPS = ("or", "and", "not")


def best_compounds(activations_nu: Floats, scores_nt: Floats, keep: int, beam: int = BEAM) -> Compounds:
    """The `keep` compounds of greatest gain for all units at once.

    Args:
        activations_nu: pooled activations, finite.
        scores_nt: the words' scores on the same images: 0 or 1, or standardised similarity; NaN counts as
            the word's mean.
        keep: compounds per unit.
        beam: words of each unit that are joined with every other word. The second part of an AND may say
            little alone.
    """
    filled_nt = np.where(np.isnan(scores_nt), np.nanmean(scores_nt, axis=0), scores_nt).astype(np.float32)
    standard_nu = _standard(activations_nu)
    value_ut: Floats = standard_nu.T @ _standard(filled_nt) / np.float32(len(filled_nt))
    best_um = np.argsort(-value_ut, axis=1, kind="stable")[:, :beam]
    step = max(1, _ELEMENTS // max(1, filled_nt.size))
    found: list[list[NDArray[np.int64] | Floats]] = []
    for place in range(best_um.shape[1]):
        parts = [
            _joined(
                standard_nu[:, s : s + step], filled_nt, value_ut[s : s + step], best_um[s : s + step, place]
            )
            for s in range(0, standard_nu.shape[1], step)
        ]
        gain_uop = np.concatenate(parts)  # (u, 2, t)
        # A pair of two beam words is met twice; it counts where the first is the better one.
        earlier_um = best_um[:, :place]
        np.put_along_axis(gain_uop, earlier_um[:, None, :].repeat(2, axis=1), -np.inf, axis=2)
        order = np.argsort(-gain_uop.reshape(len(gain_uop), -1), axis=1, kind="stable")[:, :keep]
        gain_uk = np.take_along_axis(gain_uop.reshape(len(gain_uop), -1), order, axis=1)
        op_uk, second_uk = np.divmod(order, filled_nt.shape[1])
        found.append([op_uk, best_um[:, [place]].repeat(order.shape[1], axis=1), second_uk, gain_uk])
    negated_u1 = value_ut.argmin(axis=1)[:, None]
    gain_u1 = -np.take_along_axis(value_ut, negated_u1, axis=1) - value_ut.max(axis=1, keepdims=True)
    found.append([np.full_like(negated_u1, 2), negated_u1, np.full_like(negated_u1, -1), gain_u1])
    op, first, second, gain = (np.concatenate(columns, axis=1) for columns in zip(*found, strict=True))
    order = np.argsort(-gain, axis=1, kind="stable")[:, :keep]
    taken = [np.take_along_axis(column, order, axis=1) for column in (op, first, second, gain)]
    return Compounds(*taken)


def _joined(standard_nu: Floats, scores_nt: Floats, value_ut: Floats, first_u: NDArray[np.int64]) -> Floats:
    """Gain of each unit's first word joined with every word, by OR and by AND, ``(u, 2, t)``.

    -inf for the word with itself.
    """
    first_nu1 = scores_nt[:, first_u][:, :, None]
    best_u1 = value_ut.max(axis=1, keepdims=True)
    gains = [
        _correlate(standard_nu, join(first_nu1, scores_nt[:, None, :])) - best_u1
        for join in (np.maximum, np.minimum)
    ]
    gain_uop: Floats = np.stack(gains, axis=1)
    np.put_along_axis(gain_uop, first_u[:, None, None].repeat(2, axis=1), -np.inf, axis=2)
    return gain_uop


def _correlate(standard_nu: Floats, joined_nup: Floats) -> Floats:
    centred_nup = joined_nup - joined_nup.mean(axis=0)
    sd_up = np.sqrt((centred_nup**2).mean(axis=0))
    covariance_up = np.einsum("nu,nup->up", standard_nu, centred_nup) / len(standard_nu)
    found: Floats = covariance_up / np.where(sd_up > 1e-6, sd_up, np.inf)
    return found


def _standard(values_nu: Floats) -> Floats:
    centred_nu = values_nu.astype(np.float32) - values_nu.mean(axis=0)
    sd_u = np.sqrt((centred_nu**2).mean(axis=0))
    standard: Floats = centred_nu / np.where(sd_u > 1e-9, sd_u, np.inf)
    return standard


def proposals(compounds: Compounds, row: int, words: Sequence[tuple[str, Kind]]) -> list[Proposal]:
    """The compounds of one unit (a row of `compounds`) that gain enough, each with its parts, best first.

    `words` are the names and kinds of the words whose positions `compounds` holds.
    """
    found: list[Proposal] = []
    for op, first, second, gain in zip(
        compounds.op[row], compounds.first[row], compounds.second[row], compounds.gain[row], strict=True
    ):
        if gain >= MIN_GAIN:
            parts = [words[place] for place in (first, second) if place >= 0]
            terms = tuple(name for name, _ in parts)
            text = f"not {terms[0]}" if _OPS[op] == "not" else f" {_OPS[op]} ".join(terms)
            found.append(Proposal(text, formula=Formula.model_validate({"op": _OPS[op], "terms": terms})))
            found += [Proposal(name, kind) for name, kind in parts if _OPS[op] != "not"]
    return found


class CompoundProposer:
    """Proposes the compounds found for each unit, once; they speak of the whole unit, so of its first facet.

    Args:
        found: the compounds of each unit and their parts, best first.
    """

    name = "compounds"
    needs_sheet = False

    def __init__(self, found: Mapping[UnitId, Sequence[Proposal]]) -> None:
        self._found = found
        listed = {str(unit): [proposal.text for proposal in items] for unit, items in found.items()}
        self.fingerprint = fingerprint("compounds", 1, listed)

    def propose(self, evidence: Evidence) -> Proposed:
        """The unit's compounds, those not tried yet."""
        tried = {label.text.casefold() for label in evidence.history}
        fresh = [p for p in self._found.get(evidence.unit, ()) if p.text.casefold() not in tried]
        return Proposed(tuple(fresh))
