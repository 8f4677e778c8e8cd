"""What the checks look at: one layer on one split, the synthetic pictures, and the pairs to be checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from labeler.errors import ActivationError
from labeler.records import CheckResult, Null, SpecificityNull, UnitId

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

CHUNK_ELEMENTS = 2_000_000
"""Images × pairs held at once by a check; 16 MB for each float64 temporary."""


@dataclass(frozen=True)
class LayerData:
    """Pooled activations of one layer's live units on the images of one split.

    A layer's negative side is a layer of its own here: `layer` is a `UnitId.side`.

    `live_units` holds every unit under test and the layer's hash-chosen null units, ascending. `weights_n`
    are inverse sampling probabilities (ones for a uniform sample). `p99_u` was fixed on `propose`.
    `exemplar_ids` gives, for every live unit, the probe ids of its top exemplars *in this split*.
    """

    layer: str
    live_units: Integers  # (u,)
    activations_nu: NDArray[np.float32]  # (n, u) spatial maxima
    image_ids_n: Integers  # (n,) rows of the probe
    weights_n: Floats  # (n,) positive
    p99_u: NDArray[np.float32]  # (u,)
    exemplar_ids: Mapping[int, Sequence[int]]
    correlated: float = 0.7
    """Units correlated above this are one unit for the specificity null (ChecksConfig.correlated)."""

    def __post_init__(self) -> None:
        images, units = self.activations_nu.shape
        if len(self.live_units) != units or len(self.p99_u) != units:
            raise ActivationError(
                f"Layer {self.layer}: {units} columns of activations, but other unit counts."
            )
        if len(self.image_ids_n) != images or len(self.weights_n) != images:
            raise ActivationError(
                f"Layer {self.layer}: {images} rows of activations, but other image counts."
            )
        if not np.isfinite(self.activations_nu).all():
            raise ActivationError(f"Layer {self.layer} has activations that are not finite numbers.")

    @cached_property
    def position(self) -> dict[int, int]:
        """Column of each live unit."""
        return {int(unit): column for column, unit in enumerate(self.live_units)}

    @cached_property
    def related_uu(self) -> Booleans:
        """Which units count as the same unit: correlated above `correlated` on this split, and itself."""
        values_nu = self.activations_nu.astype(np.float64)
        weights_n = self.weights_n / self.weights_n.sum()
        values_nu -= weights_n @ values_nu
        values_nu *= np.sqrt(weights_n)[:, None]
        norms_u = np.linalg.norm(values_nu, axis=0)
        values_nu /= np.where(norms_u > 0, norms_u, 1.0)
        related_uu: Booleans = values_nu.T @ values_nu > self.correlated
        np.fill_diagonal(related_uu, True)
        return related_uu

    @cached_property
    def exemplars_nu(self) -> Booleans:
        """Which images of the split are top exemplars of which unit. ``(n, u)``."""
        row = {int(image): index for index, image in enumerate(self.image_ids_n)}
        chosen_nu: Booleans = np.zeros(self.activations_nu.shape, dtype=np.bool_)
        for unit, column in self.position.items():
            rows = [row[int(image)] for image in self.exemplar_ids.get(unit, ()) if int(image) in row]
            chosen_nu[rows, column] = True
        return chosen_nu


@dataclass(frozen=True)
class PictureData:
    """All synthetic pictures (FVs) of the run, embedded by each judge that can see.

    Pictures of other layers take part: they are the background from which a unit's own are told apart.
    """

    owners: tuple[UnitId, ...]  # (f,) the unit that each picture was made for
    embeddings: Mapping[str, NDArray[np.float32]]  # judge name -> (f, d) unit-norm


@dataclass(frozen=True)
class Readings:
    """The scores of distinct labels on the images of the split, NaN where the judge cannot tell."""

    scores_nl: Floats  # (n, l)
    judges: tuple[str, ...]  # (l,) which judge read each label


@dataclass(frozen=True)
class Pairs:
    """(unit, label) pairs as columns of `LayerData.activations_nu` and of `Readings.scores_nl`."""

    unit_p: Integers  # (p,)
    label_p: Integers  # (p,)

    def __len__(self) -> int:
        return len(self.unit_p)

    def chunks(self, images: int) -> Iterator[tuple[slice, Pairs]]:
        """Consecutive runs of pairs, so that images × pairs stays within `CHUNK_ELEMENTS`."""
        size = max(1, CHUNK_ELEMENTS // max(1, images))
        for start in range(0, len(self), size):
            where = slice(start, start + size)
            yield where, Pairs(self.unit_p[where], self.label_p[where])


def results(
    why_p: Sequence[str],
    judges_p: Sequence[str],
    value_p: Floats,
    low_p: Floats | None,
    count_p: Integers,
    significance_p: Sequence[Null],
    specificity_p: Sequence[SpecificityNull],
) -> list[CheckResult]:
    """One result per pair; those with a reason in `why_p` are not applicable and carry no number."""
    return [
        CheckResult.not_applicable(why_p[index], judges_p[index])
        if why_p[index]
        else CheckResult(
            status="ok",
            value=float(value_p[index]),
            low=None if low_p is None else float(low_p[index]),
            n=int(count_p[index]),
            judge=judges_p[index],
            significance=significance_p[index],
            specificity=specificity_p[index],
        )
        for index in range(len(why_p))
    ]


def rounded(check: CheckResult) -> CheckResult:
    """The same numbers to nine significant digits.

    The last digits of a matrix product depend on which other labels shared the batch, and a run that was
    killed or asks some units again batches otherwise than an undisturbed one.
    """
    if check.status != "ok":
        return check
    nulls: dict[str, object] = {}
    for name, null in (("significance", check.significance), ("specificity", check.specificity)):
        if null is not None:
            nulls[name] = null.model_copy(update={"z": _nine_digits(null.z), "p": _nine_digits(null.p)})
    own = {"value": _nine_digits(check.value), "low": _nine_digits(check.low)}
    return check.model_copy(update={**own, **nulls})


def _nine_digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.9g}")
