"""INVERT (Bykov et al. 2023): the concept, or formula of two concepts, that a unit's activation ranks best.

The AUROC of an activation against presence is a sum of ranks over the images where the concept is present
(Wilcoxon-Mann-Whitney), so all units and concepts are one product: ranks ``(u, n)`` by presence ``(n, c)``.
Ranks centred at zero make the rest algebra. With S(φ) the rank sum over the images where φ holds and N(φ)
their number, ``AUROC(φ) = 1/2 + S(φ) / (N(φ) · (n - N(φ)))``, and both S and N obey
``f(¬φ) = f(everything) - f(φ)`` and ``f(φ∨ψ) = f(φ) + f(ψ) - f(φ∧ψ)``: every formula of two concepts follows
from the conjunctions alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

BEAM = 3
"""Literals kept per unit before the second is added (B in Bykov et al. 2023, sec. 4)."""
MOST_FRACTION = 0.5
"""Greatest share of the images on which a formula may hold: Bykov et al. 2023, sec. 4, so that NOT of a rare
concept, true nearly everywhere, is not a label."""
MIN_IMAGES = 9
"""A concept or formula that holds, or fails, on fewer images does not count (DESIGN 5, as for dissection)."""
_TILE = 1 << 24  # entries of the masked ranks of one block of units: 128 MB

_FORMULAS = [(op, first, second) for op in (1, 2) for first in (0, 1) for second in (0, 1)]
"""Of two concepts: and (1) or or (2), and which of them are negated."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Explanations:
    """The best formula of every unit: ``first``, ``NOT first``, or ``first op second``, either negated.

    All arrays are ``(u,)``. `op` is ``""`` for a single literal; `first` is -1 where no formula counts.
    """

    op: NDArray[np.str_]
    """``""``, ``"and"`` or ``"or"``."""
    first: NDArray[np.int64]
    first_negated: NDArray[np.bool_]
    second: NDArray[np.int64]
    """-1 where the formula is a single literal."""
    second_negated: NDArray[np.bool_]
    auroc: Doubles
    """NaN where no formula counts."""
    fraction: Doubles
    """Share of the images annotated with all its concepts on which the formula holds."""

    def texts(self, names: Sequence[str]) -> list[str]:
        """The formulas in words, such as ``water AND NOT boat``; empty where none counts."""
        columns = zip(
            self.op, self.first, self.first_negated, self.second, self.second_negated, strict=True
        )  # fmt: skip
        texts = []
        for op, first, first_negated, second, second_negated in columns:
            one = f"{'NOT ' if first_negated else ''}{names[first]}" if first >= 0 else ""
            two = f" {op.upper()} {'NOT ' if second_negated else ''}{names[second]}" if second >= 0 else ""
            texts.append(one + two)
        return texts


def auroc(activations_nu: torch.Tensor, presence_nc: torch.Tensor) -> torch.Tensor:
    """AUROC of every unit against every concept, float64 ``(u, c)``; ties of activation count one half.

    Args:
        activations_nu: finite pooled activations.
        presence_nc: 1 present, 0 absent, NaN where the image is not annotated with the concept, which leaves
            the image out for that concept.

    Returns:
        NaN for concepts that are present, or absent, on no image.
    """
    found_uc = torch.full(
        (activations_nu.shape[1], presence_nc.shape[1]), torch.nan, dtype=torch.float64,
        device=activations_nu.device,
    )  # fmt: skip
    for images, concepts in _patterns(presence_nc):
        present_nc = presence_nc[images][:, concepts].to(torch.float64)
        sums_uc = centred_ranks(activations_nu[images]).T @ present_nc
        found_uc[:, concepts] = _auroc(sums_uc, present_nc.sum(dim=0), len(present_nc))
    return found_uc


def centred_ranks(activations_nu: torch.Tensor) -> torch.Tensor:
    """Midranks of every column minus their mean, float64 ``(n, u)``; each column sums to zero, exactly."""
    values_un = activations_nu.T.contiguous()
    ordered_un = values_un.sort(dim=1).values
    below_un = torch.searchsorted(ordered_un, values_un)
    up_to_un = torch.searchsorted(ordered_un, values_un, right=True)
    return ((below_un + up_to_un).to(torch.float64) - len(activations_nu)).div_(2).T


def explain(
    activations_nu: torch.Tensor,
    presence_nc: torch.Tensor,
    *,
    beam: int = BEAM,
    most_fraction: float = MOST_FRACTION,
    min_images: int = MIN_IMAGES,
) -> Explanations:
    """The formula of at most two concepts with the highest AUROC, for all units at once.

    Beam search: the `beam` concepts of each unit whose AUROC is farthest from 1/2 (plain or negated, whatever
    their fraction) are joined by AND and OR with every literal. A formula of two is taken only when it beats
    the best single literal; it is judged on the images that are annotated with both its concepts.

    Args:
        activations_nu: finite pooled activations.
        presence_nc: as in `auroc`.
        beam: literals kept per unit.
        most_fraction: greatest share of the images on which the formula may hold.
        min_images: on so many images each concept, and the formula, must hold, and on so many fail.
    """
    count_c, known_c = torch.nan_to_num(presence_nc).sum(dim=0), (~presence_nc.isnan()).sum(dim=0)
    counting_c = ((count_c >= min_images) & (known_c - count_c >= min_images)).nonzero()[:, 0]
    presence_nc = presence_nc[:, counting_c]
    auroc_uc = auroc(activations_nu, presence_nc)
    best = _singles(auroc_uc, presence_nc, most_fraction, min_images)
    beam_ub = (auroc_uc - 0.5).abs().topk(min(beam, len(counting_c)), dim=1).indices
    for images, firsts, seconds in _pairs(list(_patterns(presence_nc))):
        for first_u in beam_ub.T:
            units = torch.isin(first_u, firsts).nonzero()[:, 0]
            for block in torch.split(units, max(1, _TILE // max(1, len(images)))):
                found = _joined(
                    activations_nu[images][:, block], presence_nc[images], first_u[block], seconds,
                    most_fraction, min_images,
                )  # fmt: skip
                best.improve(block, found)
    return best.explanations(counting_c)


@dataclass
class _Best:
    """The best formulas so far: AUROC, fraction, and five integers each.

    The integers: op (0 none, 1 and, 2 or), first concept, its negation, second concept, its negation.
    """

    auroc_u: torch.Tensor
    fraction_u: torch.Tensor
    formula_u5: torch.Tensor

    def improve(self, units: torch.Tensor, other: _Best) -> None:
        """Take over what is better in `other`, whose rows are `units`."""
        better = other.auroc_u.nan_to_num(nan=-1.0) > self.auroc_u[units].nan_to_num(nan=-1.0)
        self.auroc_u[units[better]] = other.auroc_u[better]
        self.fraction_u[units[better]] = other.fraction_u[better]
        self.formula_u5[units[better]] = other.formula_u5[better]

    def explanations(self, concepts: torch.Tensor) -> Explanations:
        """The result, with the positions of concepts replaced by `concepts`, their indices in the probe."""
        named = np.append(concepts.cpu().numpy(), -1)
        op, first, first_negated, second, second_negated = self.formula_u5.cpu().numpy().T
        return Explanations(
            np.array(["", "and", "or"])[op], named[first], first_negated.astype(bool), named[second],
            second_negated.astype(bool), self.auroc_u.cpu().numpy(), self.fraction_u.cpu().numpy(),
        )  # fmt: skip


def _singles(
    auroc_uc: torch.Tensor, presence_nc: torch.Tensor, most_fraction: float, min_images: int
) -> _Best:
    """The best single literal: c concepts, then c negated ones."""
    concepts = presence_nc.shape[1]
    count_c = torch.nan_to_num(presence_nc).sum(dim=0, dtype=torch.float64)
    known_c = (~presence_nc.isnan()).sum(dim=0)
    values_ul = torch.cat([auroc_uc, 1 - auroc_uc], dim=1)
    counts_l = torch.cat([count_c, known_c - count_c])[None]
    best_u, auroc_u, fraction_u = _pick(values_ul, counts_l, known_c.repeat(2), most_fraction, min_images)
    formula_u5 = torch.full((len(auroc_uc), 5), -1, dtype=torch.int64, device=auroc_uc.device)
    formula_u5[:, 0], formula_u5[:, 4] = 0, 0
    formula_u5[:, 1] = torch.where(auroc_u.isnan(), -1, best_u % max(concepts, 1))
    formula_u5[:, 2] = best_u >= concepts
    return _Best(auroc_u, fraction_u, formula_u5)


def _joined(
    activations_nu: torch.Tensor,
    presence_nc: torch.Tensor,
    first_u: torch.Tensor,
    seconds: torch.Tensor,
    most_fraction: float,
    min_images: int,
) -> _Best:
    """The best formula of each unit's own first concept with any of `seconds`, by rank sums and counts."""
    images = len(activations_nu)
    ranks_nu = centred_ranks(activations_nu)
    first_nu = presence_nc[:, first_u].to(torch.float64)
    second_nc = presence_nc[:, seconds].to(torch.float64)
    sum_first_u1 = (ranks_nu * first_nu).sum(dim=0)[:, None]
    sum_second_uc, sum_both_uc = ranks_nu.T @ second_nc, (ranks_nu * first_nu).T @ second_nc
    n_first_u1, n_second_1c = first_nu.sum(dim=0)[:, None], second_nc.sum(dim=0)[None]
    n_both_uc = first_nu.T @ second_nc
    # The ranks of all images sum to 0: negation swaps a rank sum s for 0 - s, a count n for images - n.
    sums_uf, counts_uf = (
        torch.cat([_formula(*code, first_u1, second_uc, both_uc, everything) for code in _FORMULAS], dim=1)
        for first_u1, second_uc, both_uc, everything in (
            (sum_first_u1, sum_second_uc, sum_both_uc, 0.0),
            (n_first_u1, n_second_1c, n_both_uc, float(images)),
        )
    )
    values_uf = _auroc(sums_uf, counts_uf, images)
    same_uf = (seconds[None] == first_u[:, None]).repeat(1, len(_FORMULAS))
    values_uf.masked_fill_(same_uf, torch.nan)
    best_u, auroc_u, fraction_u = _pick(
        values_uf, counts_uf, torch.tensor(images, device=values_uf.device), most_fraction, min_images
    )
    code_u3 = torch.tensor(_FORMULAS, device=values_uf.device)[best_u // len(seconds)]
    formula_u5 = torch.stack(
        [code_u3[:, 0], first_u, code_u3[:, 1], seconds[best_u % len(seconds)], code_u3[:, 2]], dim=1
    )
    return _Best(auroc_u, fraction_u, formula_u5)


def _formula(
    op: int, not_first: int, not_second: int, first: torch.Tensor, second: torch.Tensor, both: torch.Tensor,
    everything: float,
) -> torch.Tensor:  # fmt: skip
    """The additive measure of a formula, from those of its concepts and of their conjunction."""
    if not_first and not_second:
        conjunction = everything - first - second + both
    elif not_first:
        conjunction = second - both
    elif not_second:
        conjunction = first - both
    else:
        conjunction = both
    if op == 1:
        return conjunction
    return (
        (everything - first if not_first else first)
        + (everything - second if not_second else second)
        - (conjunction)
    )


def _pick(
    values_uf: torch.Tensor,
    counts_uf: torch.Tensor,
    known: torch.Tensor,
    most_fraction: float,
    min_images: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The best allowed column of every row: its index, its value (NaN: none is allowed) and its fraction."""
    fractions_uf = counts_uf / known
    allowed_uf = (
        (fractions_uf <= most_fraction) & (counts_uf >= min_images) & (known - counts_uf >= min_images)
    )
    # Rounded, so that formulas that hold on the same images tie exactly and the first one wins.
    scores_uf = values_uf.round(decimals=12).masked_fill(~allowed_uf.expand_as(values_uf), -1.0)
    scores_uf = scores_uf.nan_to_num(nan=-1.0)
    if not scores_uf.shape[1]:
        nothing_u = scores_uf.new_full((len(scores_uf),), torch.nan)
        return torch.zeros(len(scores_uf), dtype=torch.int64, device=scores_uf.device), nothing_u, nothing_u
    best_u = scores_uf.argmax(dim=1)
    value_u = scores_uf.gather(1, best_u[:, None])[:, 0]
    fraction_u = fractions_uf.expand_as(values_uf).gather(1, best_u[:, None])[:, 0]
    none_u = value_u < 0
    return best_u, value_u.masked_fill(none_u, torch.nan), fraction_u.masked_fill(none_u, torch.nan)


def _auroc(sums: torch.Tensor, counts: torch.Tensor, images: int) -> torch.Tensor:
    pairs = counts * (images - counts)
    return torch.where(pairs > 0, 0.5 + sums / pairs.clamp(min=1), torch.nan)


def _patterns(presence_nc: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Concepts that are annotated on the same images: ids of the images and of the concepts.

    There are as many as the probe's categories and sources, a handful.
    """
    patterns_pn, pattern_c = torch.unique((~presence_nc.isnan()).T, dim=0, return_inverse=True)
    for number, known_n in enumerate(patterns_pn):
        yield known_n.nonzero()[:, 0], (pattern_c == number).nonzero()[:, 0]


def _pairs(
    patterns: Sequence[tuple[torch.Tensor, torch.Tensor]],
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """For every two patterns: the images that are in both, the concepts of one, the concepts of the other."""
    for images, firsts in patterns:
        for others, seconds in patterns:
            yield images[torch.isin(images, others)], firsts, seconds
