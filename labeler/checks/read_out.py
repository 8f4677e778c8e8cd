"""What photographs taught of a unit, asked of its pictures: a linear read-out of the layers before it.

A network that was made to mislead answers synthetic pictures by another circuit than photographs (Geirhos et
al. 2024, "Don't trust your eyes", sec. 2), along directions in which photographs hardly vary. A read-out that
is fitted on photographs, and within the directions in which these vary, has no part in that circuit. It says
what the unit would make of a picture if it were what photographs show; and, fitted without the strongest
photographs, whether these are of one kind with the rest of the unit's range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labeler.checks.consistency import MIN_PICTURED_UNITS
from labeler.checks.data import Booleans, Floats, Integers
from labeler.checks.paths import PathCodes, PathSignals, known, quantile, standardised

COMPONENTS = 64
"""Principal components of each module's channels that are read: with 16, as well on pictures that were forged
in a planted network; with all, directions in which photographs hardly vary come back."""
RIDGE = 0.1
"""Of the regression, in variances of a component."""
EXEMPLARS_COUNT = 1.5
"""So many times as high as it is, an exemplars' standing is held against the pictures': photographs show
other things as well. Clean units of EfficientNet-Lite0 have medians of 5.8 and 7.3."""
_FLOOR = 1e-4  # of a module's largest variance; below it a component is not made as large as the others
_UPPER = 0.75  # the quantile that is called usual: a layer half of which was attacked is known by the rest
_LEAST = 4  # places for each component, or the regression has none to spare


@dataclass(frozen=True)
class Samples:
    """Places of photographs, each with what the layers before give there, and what the units do.

    Attributes:
        features_nd: of the modules, one after the other.
        columns_d: which columns of a code these are.
        widths: features of each module; their sum is d.
        activations_nr: of the units.
        image_n: which photograph a place is of, as a row of `top_ir`.
        top_ir: the photographs among a unit's strongest, which its read-out is fitted without.
    """

    features_nd: NDArray[np.float32]
    columns_d: Integers
    widths: tuple[int, ...]
    activations_nr: NDArray[np.float32]
    image_n: Integers
    top_ir: Booleans


@dataclass(frozen=True)
class Standings:
    """How far units' read-outs of their own images stand above those of other units (`standings`), ``(r,)``.

    Attributes:
        pictures_r: of the pictures.
        second_r: of those in the second parametrisation.
        exemplars_r: of the exemplars.
    """

    pictures_r: Floats
    second_r: Floats
    exemplars_r: Floats

    @property
    def weakest_r(self) -> Floats:
        """The lower of the pictures', a mean over both parametrisations, and `EXEMPLARS_COUNT` times the
        exemplars'; NaN without either."""
        second_r = np.where(np.isfinite(self.second_r), self.second_r, self.pictures_r)
        weakest_r: Floats = np.minimum((self.pictures_r + second_r) / 2, EXEMPLARS_COUNT * self.exemplars_r)
        return weakest_r

    def added(self, signals: PathSignals, row: int) -> PathSignals:
        """The signals of one unit with its standings."""
        weakest_r = self.weakest_r
        return replace(
            signals,
            standing=known(self.pictures_r[row]),
            second_standing=known(self.second_r[row]),
            exemplars_standing=known(self.exemplars_r[row]),
            weakest_standing=known(weakest_r[row]),
            usual_standing=quantile(weakest_r, _UPPER),
        )


def read_standings(codes: PathCodes, samples: Samples) -> Standings:
    """Fit the read-outs of a layer's units and ask them about pictures and exemplars; NaN where they cannot
    be fitted."""
    read_out = fit_read_out(samples)
    if read_out is None:
        nothing_r = np.full(len(codes.related_uu), np.nan)
        return Standings(nothing_r, nothing_r, nothing_r)
    first_f = ~codes.second_f
    return Standings(
        standings(read_out, codes.pictures_fd[first_f], codes.owner_f[first_f], codes.related_uu),
        standings(
            read_out, codes.pictures_fd[codes.second_f], codes.owner_f[codes.second_f], codes.related_uu
        ),
        standings(read_out, codes.photographs_kd, codes.owner_k, codes.related_uu),
    )


@dataclass(frozen=True)
class ReadOut:
    """Fitted read-outs: of a code, what each unit would give, in spreads of its read-out on photographs."""

    columns_d: Integers
    parts: tuple[tuple[slice, NDArray[np.float32], NDArray[np.float32]], ...]
    weights_cr: NDArray[np.float32]

    def components(self, codes_nd: NDArray[np.float32]) -> NDArray[np.float32]:
        """Principal components ``(n, c)`` of codes, each with a variance of 1 on photographs."""
        return _components(codes_nd[:, self.columns_d], self.parts)


def fit_read_out(samples: Samples) -> ReadOut | None:
    """Fit a read-out of every unit; None where there are too few places to fit any."""
    parts = _bases(samples.features_nd, samples.widths)
    components_nc = _components(samples.features_nd, parts)
    places, width = components_nc.shape
    if places < _LEAST * width:
        return None
    targets_nr = samples.activations_nr - samples.activations_nr.mean(axis=0)
    targets_nr = targets_nr / np.maximum(targets_nr.std(axis=0), 1e-9)
    gram_cc = components_nc.T @ components_nc
    moments_cr = components_nc.T @ targets_nr
    weights_cr = np.zeros((width, targets_nr.shape[1]), np.float32)
    for row in range(targets_nr.shape[1]):
        left_n = samples.top_ir[samples.image_n, row]
        top_kc = components_nc[left_n]
        kept = places - len(top_kc)
        system_cc = (gram_cc - top_kc.T @ top_kc) / kept + RIDGE * np.eye(width, dtype=np.float32)
        wanted_c = (moments_cr[:, row] - top_kc.T @ targets_nr[left_n, row]) / kept
        weights_cr[:, row] = np.linalg.solve(system_cc, wanted_c)
    scale_r = (components_nc @ weights_cr).std(axis=0)
    return ReadOut(samples.columns_d, parts, weights_cr / np.maximum(scale_r, 1e-9))


def standings(
    read_out: ReadOut, codes_nd: NDArray[np.float32], owner_n: Integers, related_rr: Booleans
) -> Floats:
    """How far a unit's read-out of its own images stands above those of other units, ``(r,)``.

    In standard deviations over the unrelated units. The images are standardised among themselves: pictures
    are out of domain for every layer. NaN for units without any, or with fewer than `MIN_PICTURED_UNITS` - 1
    others.
    """
    units = len(related_rr)
    found_r = np.full(units, np.nan)
    owners = np.unique(owner_n)
    if len(owners) < MIN_PICTURED_UNITS:
        return found_r
    read_nr = standardised(read_out.components(codes_nd).astype(np.float64)) @ read_out.weights_cr
    mean_or = np.stack([read_nr[owner_n == owner].mean(axis=0) for owner in owners])
    for place, owner in enumerate(owners.tolist()):
        others = mean_or[place][~related_rr[owner]]
        if len(others) >= MIN_PICTURED_UNITS - 1 and others.std() > 0:
            found_r[owner] = (mean_or[place, owner] - others.mean()) / others.std()
    return found_r


def _bases(
    features_nd: NDArray[np.float32], widths: Sequence[int]
) -> tuple[tuple[slice, NDArray[np.float32], NDArray[np.float32]], ...]:
    """Of each module: its features, their mean, and their principal directions ``(features, c)``, scaled."""
    parts = []
    start = 0
    for width in widths:
        own = slice(start, start + width)
        mean_f = features_nd[:, own].mean(axis=0)
        centred_nf = features_nd[:, own] - mean_f
        variances, directions = np.linalg.eigh(centred_nf.T @ centred_nf / len(centred_nf))
        variances, directions = variances[-COMPONENTS:], directions[:, -COMPONENTS:]
        scale = np.sqrt(np.maximum(variances, max(_FLOOR * float(variances[-1]), 1e-12)))
        parts.append((own, mean_f, (directions / scale).astype(np.float32)))
        start += width
    return tuple(parts)


def _components(
    features_nd: NDArray[np.float32],
    parts: Sequence[tuple[slice, NDArray[np.float32], NDArray[np.float32]]],
) -> NDArray[np.float32]:
    return np.concatenate(
        [(features_nd[:, own] - mean_f) @ base_fc for own, mean_f, base_fc in parts], axis=1
    )
