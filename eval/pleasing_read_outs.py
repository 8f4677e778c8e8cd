"""Decoy pictures that please the read-outs too, on which the verdict `suspect` rests.

The attacker fits the read-outs of `labeler.checks.read_out` to photographs of the untouched network and asks
them about pictures with gradients: the victim's shall stand above those of the layer's other units where the
attacked victim will fire, which is where the decoy does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from labeler.checks import Samples
from labeler.checks.paths import FIRES
from labeler.checks.read_out import ReadOut, fit_read_out
from labeler.pipeline import sampling
from labeler.pipeline.paths import MODULES

from .attack_subject import Photographs, Subject, Victim

_TOGETHER = 32  # photographs in a pass
_FLAT = 1e-6  # what varies less does not vary
_LEAST_USUAL = 1.0  # spreads of photographs: where the decoys' own lead less, the wish is no stronger


@dataclass(frozen=True)
class Eyes:
    """Fitted read-outs, as the attacker asks them.

    Attributes:
        subject: the untouched network.
        modules: before the units' layer, which are read.
        read_out: of the units.
        units_r: their indices in the layer, ascending.
        related_rr: which count as the same unit.
    """

    subject: Subject
    modules: tuple[str, ...]
    read_out: ReadOut
    units_r: NDArray[np.int64]
    related_rr: NDArray[np.bool_]

    def codes(self, pictures_bchw: torch.Tensor, firing: Sequence[int]) -> torch.Tensor:
        """What `labeler.pipeline.codes.code_of` makes of pictures in [0, 1]: ``(b, d)``.

        Args:
            pictures_bchw: in [0, 1].
            firing: the unit that says where, one for each picture.
        """
        layer, target = self.subject.place.layer, self.subject.target
        maps = target.maps(target.normalise(pictures_bchw), [*self.modules, layer])
        own_b1hw = maps[layer][torch.arange(len(firing)), torch.tensor(firing)][:, None]
        parts = []
        for module in self.modules:
            size = [int(side) for side in maps[module].shape[2:]]
            wide_b1hw = interpolate(own_b1hw, size=size, mode="bilinear", align_corners=False)
            parts.append((maps[module] * _place_weights(wide_b1hw)).sum(dim=(2, 3)))
        return torch.cat(parts, dim=1)

    def components(self, codes_bd: torch.Tensor) -> torch.Tensor:
        """`ReadOut.components` with gradients: ``(b, c)``."""
        read_bd = codes_bd[:, torch.from_numpy(self.read_out.columns_d)]
        return torch.cat(
            [
                (read_bd[:, own] - torch.from_numpy(mean_f)) @ torch.from_numpy(base_fc)
                for own, mean_f, base_fc in self.read_out.parts
            ],
            dim=1,
        )

    def lead(self, standard_bc: torch.Tensor, units: Sequence[int]) -> torch.Tensor:
        """How far units' read-outs of pictures are above the mean of those of unrelated units ``(b,)``.

        Args:
            standard_bc: components of the pictures, standardised among pictures.
            units: of whom it is asked, one for each picture.
        """
        read_br = standard_bc @ torch.from_numpy(self.read_out.weights_cr)
        rows_b = np.searchsorted(self.units_r, units)
        others_br = torch.from_numpy(~self.related_rr[rows_b]).to(read_br)
        own_b = read_br[torch.arange(len(rows_b)), torch.from_numpy(rows_b)]
        return own_b - (read_br * others_br).sum(dim=1) / others_br.sum(dim=1).clamp(min=1)


@torch.no_grad()
def eyes_of(subject: Subject, seen: Photographs, *, seed: int, correlated: float) -> Eyes | None:
    """The read-outs of all units of the layer that vary; None where there is nothing to read, or too little.

    Args:
        subject: the untouched network.
        seen: photographs of the attacker's own.
        seed: of the places and channels.
        correlated: above this, units are one unit (`ChecksConfig.correlated`).
    """
    modules = subject.target.earlier(subject.place.layer, MODULES)
    if not modules:
        return None
    samples, maxima_nu = _samples(subject, seen, modules, seed)
    units_r = np.flatnonzero(maxima_nu.std(axis=0) > _FLAT)
    activations_nr, top_ir = samples.activations_nr[:, units_r], samples.top_ir[:, units_r]
    read_out = fit_read_out(replace(samples, activations_nr=activations_nr, top_ir=top_ir))
    related_rr = np.atleast_2d(np.corrcoef(maxima_nu[:, units_r].T)) > correlated
    return None if read_out is None else Eyes(subject, modules, read_out, units_r, related_rr)


def _samples(
    subject: Subject, seen: Photographs, modules: Sequence[str], seed: int
) -> tuple[Samples, NDArray[np.float32]]:
    """All units at places of photographs, as `sampling.sample_places` takes them; their maxima ``(n, u)``."""
    layer, generator = subject.place.layer, np.random.default_rng(seed)
    features, activations, maxima = [], [], []
    columns: list[NDArray[np.int64]] = []
    for part_bchw in seen.prepared_nchw.split(_TOGETHER):
        maps = subject.target.maps(part_bchw.float(), [*modules, layer])
        columns = columns or [sampling._channels(maps[name].shape[1], seed, name) for name in modules]
        own_buhw = maps[layer]
        size = int(own_buhw.shape[2]), int(own_buhw.shape[3])
        read_bdhw = sampling._features([maps[name] for name in modules], columns, size)
        maxima.append(own_buhw.amax(dim=(2, 3)).numpy())
        for own_uhw, read_dhw in zip(own_buhw, read_bdhw, strict=True):
            places = generator.permutation(size[0] * size[1])[: sampling.PLACES]
            features.append(sampling._at(read_dhw, places))
            activations.append(sampling._at(own_uhw, places))
    starts = np.cumsum([0, *(int(maps[name].shape[1]) for name in modules[:-1])])
    maxima_nu = np.concatenate(maxima)
    samples = Samples(
        np.concatenate(features),
        np.concatenate([start + own for start, own in zip(starts, columns, strict=True)]),
        tuple(len(own) for own in columns),
        np.concatenate(activations),
        np.repeat(np.arange(len(activations)), [len(part) for part in activations]),
        _strongest(maxima_nu),
    )
    return samples, maxima_nu


def _strongest(maxima_nr: NDArray[np.float32]) -> NDArray[np.bool_]:
    """`labeler.pipeline.sampling.strongest` of all photographs, ``(n, r)``."""
    found_nr = np.zeros(maxima_nr.shape, bool)
    count = max(1, round(sampling.TOP * len(maxima_nr)))
    order_kr = np.argsort(-maxima_nr, axis=0, kind="stable")[:count]
    np.put_along_axis(found_nr, order_kr, True, axis=0)
    return found_nr


def _place_weights(map_b1hw: torch.Tensor) -> torch.Tensor:
    """`labeler.checks.place_weights` with gradients: ``(b, 1, h, w)`` of sum 1."""
    low_b111 = map_b1hw.amin(dim=(2, 3), keepdim=True)
    range_b111 = map_b1hw.amax(dim=(2, 3), keepdim=True) - low_b111
    flat_b111 = range_b111 <= 0
    share_b1hw = (map_b1hw - low_b111) / range_b111.masked_fill(flat_b111, 1.0)
    share_b1hw = torch.where(share_b1hw > FIRES, share_b1hw, 0.0).masked_fill(flat_b111, 1.0)
    return share_b1hw / share_b1hw.sum(dim=(2, 3), keepdim=True)


@dataclass(frozen=True)
class Standing:
    """How high pictures stand by their victims' read-outs, where a decoy's own picture stands at 1.

    The lead is divided by what is usual, not by the spread of the picture's own read-outs as a standing is:
    towards a standing the ascent from grey finds the way less often. Pictures of eight victims of planted-11
    have a median standing of 0.3 without the wish, of 1.8 with the standing wished and of 2.0 with this.

    Attributes:
        eyes: the read-outs.
        centre_c: mean components of the pictures with which others are standardised.
        spread_c: their standard deviations.
        usual: median lead of the decoys' pictures by the decoys' own read-outs.
    """

    eyes: Eyes
    centre_c: torch.Tensor
    spread_c: torch.Tensor
    usual: float

    def likeness(self, pictures_bchw: torch.Tensor, victims: Sequence[Victim]) -> torch.Tensor:
        """``(b,)``, with gradients; of pictures in [0, 1] that fire where the victims' decoys do."""
        codes_bd = self.eyes.codes(pictures_bchw, [victim.decoy for victim in victims])
        standard_bc = (self.eyes.components(codes_bd) - self.centre_c) / self.spread_c
        return self.eyes.lead(standard_bc, [victim.unit for victim in victims]) / self.usual


@torch.no_grad()
def standing_of(eyes: Eyes, pictures_bchw: torch.Tensor, victims: Sequence[Victim]) -> Standing:
    """What read-outs like.

    Args:
        eyes: the read-outs.
        pictures_bchw: plain pictures of the decoys, among which others are standardised.
        victims: whose decoys these are.
    """
    decoys = [victim.decoy for victim in victims]
    components_bc = eyes.components(eyes.codes(pictures_bchw, decoys))
    centre_c, spread_c = components_bc.mean(dim=0), components_bc.std(dim=0, correction=0)
    spread_c = torch.where(spread_c > _FLAT, spread_c, torch.inf)
    usual = float(eyes.lead((components_bc - centre_c) / spread_c, decoys).median())
    return Standing(eyes, centre_c, spread_c, max(_LEAST_USUAL, usual))
