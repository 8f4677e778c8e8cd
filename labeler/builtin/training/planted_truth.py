"""What the units of a planted network shall do: concepts and pairs drawn so that each truth can be told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from labeler.builtin.planted import PlantedKind
from labeler.builtin.planted.network import UNITS
from labeler.builtin.scenes import CONCEPTS

COUNTS: dict[PlantedKind, int] = {
    "single": 44, "duplicate": 6, "or": 12, "and": 8, "not": 6, "context": 4, "decoy": 10, "dead": 6,
}  # fmt: skip
LEARNABLE = 0.93
"""Least AUROC of a concept in the trunk's own map; what the trunk does not see cannot be planted."""
RARE = 0.02
"""Least share of scenes with a concept, so that a probe of 1,200 has two dozen."""

Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class Wanted:
    """One unit to be planted: `terms` are positions in the scenes' concepts."""

    kind: PlantedKind
    terms: tuple[int, ...]


def draw_truth(
    present_nc: Booleans, auroc_c: NDArray[np.float64], allowed: Callable[[str], bool],
    preferred: Callable[[str], bool], rng: np.random.Generator,
) -> list[Wanted]:  # fmt: skip
    """The units of one network, in random order; where too few can be drawn, the rest stay dead.

    Args:
        present_nc: which concepts training scenes show.
        auroc_c: how well the trunk sees each.
        allowed: whether a concept, by name, may be planted in this network.
        preferred: concepts taken before others.
        rng: draws everything.
    """
    share_c = present_nc.mean(axis=0)
    usable = [
        c for c, concept in enumerate(CONCEPTS)
        if allowed(concept.name) and auroc_c[c] >= LEARNABLE and share_c[c] >= RARE
    ]  # fmt: skip
    shuffled = rng.permutation(usable).tolist()
    singles = sorted(shuffled, key=lambda c: not preferred(CONCEPTS[c].name))[: COUNTS["single"]]
    wanted = [Wanted("single", (c,)) for c in singles]
    wanted += [Wanted("duplicate", (c,)) for c in rng.permutation(singles)[: COUNTS["duplicate"]].tolist()]
    together = present_nc.T.astype(np.float64) @ present_nc / len(present_nc)
    pairs = rng.permutation(list(combinations(usable, 2))).tolist()
    wanted += _pairs("or", pairs, lambda a, b: _apart(share_c, together, a, b))
    wanted += _pairs("and", pairs, lambda a, b: _meet(share_c, together, a, b))
    wanted += _pairs("context", pairs[::-1], lambda a, b: _meet(share_c, together, a, b))
    common = [c for c in shuffled if 0.2 <= share_c[c] <= 0.8]
    wanted += [Wanted("not", (c,)) for c in common[: COUNTS["not"]]]
    wanted += [Wanted("decoy", ())] * COUNTS["decoy"] + [Wanted("dead", ())] * COUNTS["dead"]
    wanted += [Wanted("dead", ())] * (UNITS - len(wanted))
    return [wanted[place] for place in rng.permutation(UNITS)]


def holds(unit: Wanted, present_nc: Booleans) -> Booleans:
    """In which scenes the unit should fire, (n,)."""
    shown_nt = present_nc[:, list(unit.terms)]
    rule = np.all if unit.kind in ("and", "context") else np.any
    found = np.asarray(rule(shown_nt, axis=1), dtype=np.bool_)
    return ~found if unit.kind == "not" else found


def _pairs(
    kind: PlantedKind, pairs: Sequence[Sequence[int]], fits: Callable[[int, int], bool]
) -> list[Wanted]:
    """The first fitting pairs, no concept in more than two of them."""
    used: dict[int, int] = {}
    chosen: list[Wanted] = []
    for a, b in pairs:
        if len(chosen) == COUNTS[kind]:
            break
        if max(used.get(a, 0), used.get(b, 0)) < 2 and fits(a, b):
            used[a], used[b] = used.get(a, 0) + 1, used.get(b, 0) + 1
            chosen.append(Wanted(kind, (a, b)))
    return chosen


def _apart(share_c: NDArray[np.float64], together: NDArray[np.float64], a: int, b: int) -> bool:
    """An OR is two things: seldom in one scene, and neither so rare that the other hides it."""
    joint, least, most = together[a, b], min(share_c[a], share_c[b]), max(share_c[a], share_c[b])
    return bool(joint <= 0.25 * least and most <= 4 * least and most <= 0.3)


def _meet(share_c: NDArray[np.float64], together: NDArray[np.float64], a: int, b: int) -> bool:
    """An AND is neither part alone: both occur, and each is more often without the other."""
    joint = together[a, b]
    return bool(joint >= 0.03 and joint <= 0.5 * share_c[a] and joint <= 0.5 * share_c[b])
