"""Feature visualisation by activation maximisation: many units of a layer in one batch (Olah et al. 2017)."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from labeler.config import VisualiseConfig
from labeler.errors import TargetError
from labeler.seams import Progress, Target
from labeler.visualise.ascent import Ascent, Climb, Slope
from labeler.visualise.facets import FacetCrops, anchor
from labeler.visualise.lean import learn
from labeler.visualise.objectives import OBJECTIVES, Objective, of_units
from labeler.visualise.parametrise import PARAMETRISATIONS
from labeler.visualise.precision import resolved
from labeler.visualise.transforms import Moves

_PLATEAU_STEPS = 32  # a picture is finished when its mean score over so many steps ...
_PLATEAU_RISE = 0.01  # ... is not this share above that of the same number of steps before
_LOOK_EVERY = 8  # steps between two looks for a plateau: each waits for the device


@dataclass(frozen=True)
class Request:
    """One picture to make: of `unit` of `layer` (its negative side), from `seed`.

    Requests that differ in their seeds alone are of one group, whose pictures `diversity` keeps apart.
    `crops` gives the photographs of the facet when the picture's turn comes; without them it is a picture of
    the whole unit.
    """

    layer: str
    unit: int
    seed: int
    facet: int = 0
    negative: bool = False
    crops: Callable[[], FacetCrops] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Picture:
    """One finished picture, or the cause why there is none.

    Attributes:
        request: what was asked for.
        image: ``(h, w, 3)``, or None when the optimisation failed.
        activation: spatial maximum (for a negative side: of minus the map) of the unit for the finished 8-bit
            picture.
        steps: how many it took.
        why: the cause when `image` is None.
        opacity: ``(h, w)`` in 0..255, where the unit looked; for MACO (Fel et al. 2023, sec. 3.2), else None.
    """

    request: Request
    image: NDArray[np.uint8] | None
    activation: float | None
    steps: int = 0
    why: str = ""
    opacity: NDArray[np.uint8] | None = None


def visualise(
    target: Target,
    requests: Sequence[Request],
    settings: VisualiseConfig,
    *,
    objective: Objective | None = None,
    moves: Moves | None = None,
    progress: Progress | None = None,
) -> list[Picture]:
    """Make the pictures, in the order of the requests.

    Pictures of one layer share forward passes that stop there, `settings.batch_size` at a time; a finished
    one makes room for the next. Passes always have this size, so that a picture does not depend on what else
    is asked for (on the CPU, byte for byte); with `diversity`, on the others of its own unit and facet alone.

    Pictures are `settings.size` pixels a side, or as large as the target's input where it takes one size
    only (a ViT): their features have the scale at which the target sees photographs.

    Args:
        target: the network; its parameters are not touched.
        requests: what to make.
        settings: how.
        objective: what is maximised, in place of what `settings` names.
        moves: ranges of the random moves; by default those of `Moves`.
        progress: told after every picture.
    """
    done: dict[int, Picture] = {}
    for layer in dict.fromkeys(request.layer for request in requests):
        maker = _Maker(target, layer, settings, objective or OBJECTIVES[settings.objective], moves or Moves())
        places = {place: request for place, request in enumerate(requests) if request.layer == layer}

        def told(count: int, before: int = len(done)) -> None:
            if progress is not None:
                progress(before + count, len(requests))

        done.update(maker.make(places, told))
    return [done[place] for place in range(len(requests))]


@dataclass
class _Finished:
    """A picture that has left its block but was not yet shown to the unit."""

    image_chw: torch.Tensor
    trace_hw: torch.Tensor | None
    steps: int
    finite: bool


class _Maker:
    """Makes the pictures of one layer."""

    def __init__(
        self, target: Target, layer: str, settings: VisualiseConfig, objective: Objective, moves: Moves
    ) -> None:
        self.target, self.layer, self.settings, self.moves = target, layer, settings, moves
        self.size = picture_size(target, layer, settings.size)
        parametrisation = PARAMETRISATIONS[settings.parametrisation](self.size, target.device)
        trial_bchw = torch.rand(2, 3, *self.size, generator=torch.Generator().manual_seed(0))
        self.half = half = resolved(settings.precision, target.device) == "bfloat16"
        self.slope = Slope(
            self._quick_maps,
            learn(self.maps, trial_bchw.to(target.device), torch.bfloat16 if half else torch.float32),
            objective,
            parametrisation,
            settings.steps,
            settings.learning_rate * parametrisation.rate,
            settings.diversity,
            settings.facet_pull,
            settings.parametrisation == "maco",
        )

    def maps(self, pictures_bchw: torch.Tensor) -> torch.Tensor:
        """The layer's maps of pictures in [0, 1]."""
        return self.target.maps(self.target.normalise(pictures_bchw), [self.layer])[self.layer]

    def _quick_maps(self, pictures_bchw: torch.Tensor) -> torch.Tensor:
        kind = self.target.device.type
        with torch.autocast(kind, torch.bfloat16) if self.half else contextlib.nullcontext():
            return self.maps(pictures_bchw).float()

    def make(self, requests: dict[int, Request], told: Callable[[int], None]) -> dict[int, Picture]:
        """The pictures by the places of their requests."""
        waiting = deque(self._groups(requests))
        finished: dict[int, _Finished] = {}
        first = self._climb(requests[waiting[0][0]])
        block = Ascent(self.slope, first, self.settings.batch_size, self.target.device)
        climbing: dict[tuple[int, ...], list[int]] = {}  # the rows of each group, by its places
        while waiting or climbing:
            free = [row for row, climb in enumerate(block.climbs) if climb is None]
            while waiting and len(waiting[0]) <= len(free):
                places = waiting.popleft()
                rows, free = free[: len(places)], free[len(places) :]
                climbing[places] = rows
                for place, row in zip(places, rows, strict=True):
                    climb = self._climb(requests[place])
                    climb.group = rows
                    block.put(row, climb)
            block.step()
            for places, rows in list(climbing.items()):
                if self._at_rest(block, rows):
                    del climbing[places]
                    for place, row in zip(places, rows, strict=True):
                        finished[place] = self._take(block, row)
                    told(len(finished))
        return self._shown(requests, finished)

    def _groups(self, requests: dict[int, Request]) -> list[tuple[int, ...]]:
        """Places of pictures that have to climb together, in order."""
        if not self.settings.diversity:
            return [(place,) for place in requests]
        groups: dict[tuple[int, bool, int], list[int]] = {}
        for place, request in requests.items():
            groups.setdefault((request.unit, request.negative, request.facet), []).append(place)
        size = self.settings.batch_size
        return [
            tuple(group[start : start + size])
            for group in groups.values()
            for start in range(0, len(group), size)
        ]

    def _climb(self, request: Request) -> Climb:
        parametrisation, generator = self.slope.parametrisation, _generator(request)
        start = parametrisation.start([generator])[0]
        moves_s23 = self.moves.draw(self.settings.steps, generator)
        sign = -1.0 if request.negative else 1.0
        if request.crops is None:
            return Climb(request.unit, sign, start, moves_s23)
        device = self.target.device
        found = anchor(request.crops(), self.size, self.maps, self.settings.batch_size, device)
        start = parametrisation.parameters(found.start_chw[None])[0] + start.to(device)
        return Climb(request.unit, sign, start, moves_s23, found)

    def _at_rest(self, block: Ascent, rows: Sequence[int]) -> bool:
        """Whether the pictures are done: by their steps, their plateaus, or numbers that are none."""
        climb = block.climbs[rows[0]]
        assert climb is not None  # the rows of a group are taken until it rests
        if climb.step == self.settings.steps:
            return True
        if climb.step % _LOOK_EVERY:
            return False
        return all(not block.finite(row) or plateau(block.scores(row)) for row in rows)

    def _take(self, block: Ascent, row: int) -> _Finished:
        climb = block.climbs[row]
        steps, finite = climb.step if climb else 0, block.finite(row)
        image_chw, trace_hw = block.take(row)
        eight_bits = (image_chw * 255).round()
        return _Finished(eight_bits, trace_hw, steps, finite)

    def _shown(self, requests: dict[int, Request], finished: dict[int, _Finished]) -> dict[int, Picture]:
        """Show the finished 8-bit pictures to their units, as plainly as any photograph."""
        made: dict[int, Picture] = {}
        places, size = list(requests), self.settings.batch_size
        for start in range(0, len(places), size):
            part = places[start : start + size]
            padded = [*part, *[part[0]] * (size - len(part))]
            images_bchw = torch.stack([finished[place].image_chw for place in padded]) / 255
            units_b = torch.tensor([requests[place].unit for place in padded], device=images_bchw.device)
            signs = torch.tensor([-1.0 if requests[place].negative else 1.0 for place in padded])
            with torch.no_grad():
                own_bhw = of_units(self.maps(images_bchw), units_b)
                tops_b = (own_bhw.flatten(1) * signs.to(own_bhw)[:, None]).amax(dim=1)
            made |= {
                place: _picture(requests[place], finished[place], top)
                for place, top in zip(part, tops_b.tolist(), strict=False)
            }
        return made


def picture_size(target: Target, layer: str, side: int) -> tuple[int, int]:
    """(h, w) of the target's pictures: `side` where it takes them, else its own input size."""
    size = min(side, target.input_size[0]), min(side, target.input_size[1])
    trial_bchw = target.normalise(torch.full((1, 3, *size), 0.5, device=target.device))
    try:
        with torch.no_grad():
            target.maps(trial_bchw, [layer])
    except (RuntimeError, ValueError, AssertionError, TargetError):  # networks refuse a size in many ways
        return target.input_size
    return size


def plateau(scores: Sequence[float]) -> bool:
    """Whether the mean score no longer rises."""
    if len(scores) < 2 * _PLATEAU_STEPS:
        return False
    recent = sum(scores[-_PLATEAU_STEPS:]) / _PLATEAU_STEPS
    before = sum(scores[-2 * _PLATEAU_STEPS : -_PLATEAU_STEPS]) / _PLATEAU_STEPS
    return recent - before < _PLATEAU_RISE * abs(recent)


def _picture(request: Request, finished: _Finished, activation: float) -> Picture:
    steps = finished.steps
    if not finished.finite:
        why = "The activation or its gradient became infinite or undefined."
        return Picture(request, None, None, steps, why)
    if not math.isfinite(activation):
        why = "The activation of the finished picture is not a finite number."
        return Picture(request, None, None, steps, why)
    pixels = finished.image_chw.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    opacity = None if finished.trace_hw is None else _opacity(finished.trace_hw)
    return Picture(request, np.ascontiguousarray(pixels), activation, steps, "", opacity)


def _opacity(trace_hw: torch.Tensor) -> NDArray[np.uint8]:
    """Opaque where the gradients were among the greatest fifth, else in proportion."""
    full = torch.quantile(trace_hw, 0.8).clamp(min=torch.finfo(trace_hw.dtype).tiny)
    opacity: NDArray[np.uint8] = (255 * trace_hw / full).clamp(max=255).to(torch.uint8).cpu().numpy()
    return opacity


def _generator(request: Request) -> torch.Generator:
    """Seeded by the request alone, so that neither neighbours nor order matter."""
    text = f"{request.layer}\0{request.unit}\0{request.negative}\0{request.facet}\0{request.seed}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
    return torch.Generator().manual_seed(seed)
