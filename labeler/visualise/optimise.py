"""Feature visualisation by activation maximisation: many units of a layer in one batch (Olah et al. 2017)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from labeler.config import VisualiseConfig
from labeler.errors import TargetError
from labeler.seams import Progress, Target
from labeler.visualise.objectives import Objective, channel, of_units
from labeler.visualise.parametrise import frequency_scale, pictures, start_spectra
from labeler.visualise.rectifier import OpenRectifiers
from labeler.visualise.transforms import Moves, move

_BETAS = (0.9, 0.999)  # Adam's own defaults (Kingma and Ba 2015)
_EPSILON = 1e-12  # far below any gradient, so that a unit's scale does not matter
_RESCUE_STEPS = 16  # for how long silent units get a gradient (lucid's redirected ReLU)
_PLATEAU_STEPS = 32  # a picture is finished when its mean score over so many steps ...
_PLATEAU_RISE = 0.01  # ... is not this share above that of the same number of steps before


@dataclass(frozen=True)
class Request:
    """One picture to make: of `unit` of `layer` (its negative side), from `seed`."""

    layer: str
    unit: int
    seed: int
    facet: int = 0
    negative: bool = False


@dataclass(frozen=True)
class Picture:
    """One finished picture, or the cause why there is none.

    Attributes:
        request: what was asked for.
        image: ``(h, w, 3)`` of the target's input size, or None when the optimisation failed.
        activation: spatial maximum (for a negative side: of minus the map) of the unit for the finished 8-bit
            picture.
        why: the cause when `image` is None.
    """

    request: Request
    image: NDArray[np.uint8] | None
    activation: float | None
    why: str = ""


def visualise(
    target: Target,
    requests: Sequence[Request],
    settings: VisualiseConfig,
    *,
    objective: Objective = channel,
    moves: Moves | None = None,
    progress: Progress | None = None,
) -> list[Picture]:
    """Make the pictures, in the order of the requests.

    Requests of one layer share a forward pass that stops there. Every batch is padded to
    `settings.batch_size`, because convolutions of different batch sizes may differ in their last bits: so a
    picture does not depend on what else is asked for (on the CPU, byte for byte).

    Pictures have the target's input size, so that their features have the scale at which the target sees
    photographs. At each step the network sees a random part of `settings.size` pixels a side of each: as good
    for the picture, and cheaper. A target that takes one size only (a ViT) sees all of it.

    Args:
        target: the network; its parameters are not touched.
        requests: what to make.
        settings: size of the part, steps, learning rate, batch size.
        objective: what is maximised.
        moves: ranges of the random moves; by default those of `Moves`.
        progress: told after every batch.
    """
    done: dict[int, Picture] = {}
    for layer in dict.fromkeys(request.layer for request in requests):
        places = [place for place, request in enumerate(requests) if request.layer == layer]
        size = _view_size(target, layer, settings.size)
        for start in range(0, len(places), settings.batch_size):
            chosen = places[start : start + settings.batch_size]
            ascent = _Ascent(
                target, [requests[i] for i in chosen], settings, objective, moves or Moves(), size
            )
            ascent.run()
            done.update(zip(chosen, ascent.finished(), strict=True))
            if progress is not None:
                progress(len(done), len(requests))
    return [done[place] for place in range(len(requests))]


class _Ascent:
    """The optimisation of one batch of one layer. A picture's numbers never enter another's."""

    def __init__(
        self,
        target: Target,
        requests: Sequence[Request],
        settings: VisualiseConfig,
        objective: Objective,
        moves: Moves,
        size: tuple[int, int],
    ) -> None:
        padding = [requests[0]] * (settings.batch_size - len(requests))
        rows = [*requests, *padding]
        generators = [_generator(request) for request in rows]
        self.target, self.requests, self.settings, self.objective = target, requests, settings, objective
        self.layer, self.size = requests[0].layer, size
        device = target.device
        self.units_b = torch.tensor([request.unit for request in rows], device=device)
        self.signs_b = torch.tensor([-1.0 if request.negative else 1.0 for request in rows], device=device)
        self.scale_hw1 = frequency_scale(target.input_size).to(device)
        self.spectra_bchw2 = start_spectra(target.input_size, generators).to(device)
        view = (size[0] / target.input_size[0], size[1] / target.input_size[1])
        drawn = [moves.draw(settings.steps, view, generator) for generator in generators]
        self.moves_sb23 = torch.stack(drawn, dim=1).to(device)
        self.means_bchw2 = torch.zeros_like(self.spectra_bchw2)
        self.squares_bchw2 = torch.zeros_like(self.spectra_bchw2)
        self.active_b = torch.ones(len(rows), dtype=torch.bool, device=device)
        self.finite_b = torch.ones(len(rows), dtype=torch.bool, device=device)

    def run(self) -> None:
        """Climb until every picture is finished: by its steps, its plateau, or a number that is not one."""
        scores_sb: list[torch.Tensor] = []
        for step in range(self.settings.steps):
            score_b, gradient_bchw2 = self._gradient(step)
            finite_b = torch.isfinite(score_b) & torch.isfinite(gradient_bchw2).flatten(1).all(dim=1)
            self.finite_b &= finite_b | ~self.active_b
            self.active_b &= finite_b
            scores_sb.append(score_b)
            self._adam(gradient_bchw2, step + 1)
            self.active_b &= ~_plateau(scores_sb)
            if not bool(self.active_b.any()):
                return

    def finished(self) -> list[Picture]:
        """The pictures as 8-bit images, each with what its unit gives for it."""
        with torch.no_grad():
            images_bchw = (self._pictures(self.spectra_bchw2) * 255).round()
            maps_buhw = self._maps(images_bchw / 255)
            activations_b = (of_units(maps_buhw, self.units_b).flatten(1) * self.signs_b[:, None]).amax(dim=1)
        pixels = images_bchw.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return [
            _picture(request, image, activation, finite)
            for request, image, activation, finite in zip(
                self.requests, pixels, activations_b.tolist(), self.finite_b.tolist(), strict=False
            )
        ]

    def _gradient(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        score_b, gradient_bchw2 = self._backward(step)
        silent_b = (gradient_bchw2 == 0).flatten(1).all(dim=1)
        if step < _RESCUE_STEPS and bool((silent_b & self.active_b).any()):
            with OpenRectifiers():
                opened_bchw2 = self._backward(step)[1]
            # Only for the silent ones, so that a picture does not depend on who else is silent.
            gradient_bchw2 = torch.where(_like(silent_b, gradient_bchw2), opened_bchw2, gradient_bchw2)
        return score_b, gradient_bchw2

    def _backward(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            spectra_bchw2 = self.spectra_bchw2.requires_grad_()
            images_bchw = self._pictures(spectra_bchw2)
            maps_buhw = self._maps(move(images_bchw, self.moves_sb23[step], self.size))
            score_b = self.objective(maps_buhw, self.units_b) * self.signs_b
            (gradient_bchw2,) = torch.autograd.grad(-score_b.sum(), spectra_bchw2)
        self.spectra_bchw2 = spectra_bchw2.detach()
        return score_b.detach(), gradient_bchw2

    def _pictures(self, spectra_bchw2: torch.Tensor) -> torch.Tensor:
        return pictures(spectra_bchw2, self.scale_hw1, self.target.input_size[1])

    def _maps(self, images_bchw: torch.Tensor) -> torch.Tensor:
        prepared_bchw = self.target.normalise(images_bchw).contiguous(memory_format=torch.channels_last)
        return self.target.maps(prepared_bchw, [self.layer])[self.layer]

    def _adam(self, gradient_bchw2: torch.Tensor, count: int) -> None:
        """One step of Adam on the pictures that are still active; the others stay as they are."""
        active = _like(self.active_b, gradient_bchw2)
        gradient_bchw2 = torch.where(active, gradient_bchw2, 0.0)
        beta_mean, beta_square = _BETAS
        self.means_bchw2.mul_(beta_mean).add_(gradient_bchw2 * (1 - beta_mean))
        self.squares_bchw2.mul_(beta_square).add_(gradient_bchw2.square() * (1 - beta_square))
        deviation_bchw2 = (self.squares_bchw2 / (1 - beta_square**count)).sqrt_().add_(_EPSILON)
        rate = self.settings.learning_rate / (1 - beta_mean**count)
        step_bchw2 = self.means_bchw2 / deviation_bchw2 * rate
        self.spectra_bchw2 = self.spectra_bchw2 - torch.where(active, step_bchw2, 0.0)


def _picture(request: Request, image: NDArray[np.uint8], activation: float, finite: bool) -> Picture:
    if not finite:
        return Picture(request, None, None, "The activation or its gradient became infinite or undefined.")
    if not math.isfinite(activation):
        return Picture(request, None, None, "The activation of the finished picture is not a finite number.")
    return Picture(request, np.ascontiguousarray(image), activation)


def _plateau(scores_sb: Sequence[torch.Tensor]) -> torch.Tensor:
    if len(scores_sb) < 2 * _PLATEAU_STEPS:
        return torch.zeros_like(scores_sb[-1], dtype=torch.bool)
    recent_b = torch.stack(list(scores_sb[-_PLATEAU_STEPS:])).mean(dim=0)
    before_b = torch.stack(list(scores_sb[-2 * _PLATEAU_STEPS : -_PLATEAU_STEPS])).mean(dim=0)
    return recent_b - before_b < _PLATEAU_RISE * recent_b.abs()


def _view_size(target: Target, layer: str, size: int) -> tuple[int, int]:
    """The (h, w) that goes through the network: `size` where the target takes it, else the whole picture."""
    view = min(size, target.input_size[0]), min(size, target.input_size[1])
    trial_bchw = target.normalise(torch.full((1, 3, *view), 0.5, device=target.device))
    try:
        with torch.no_grad():
            target.maps(trial_bchw, [layer])
    except (RuntimeError, ValueError, AssertionError, TargetError):  # networks refuse a size in many ways
        return target.input_size
    return view


def _generator(request: Request) -> torch.Generator:
    """Seeded by the request alone, so that neither neighbours nor order matter."""
    text = f"{request.layer}\0{request.unit}\0{request.negative}\0{request.facet}\0{request.seed}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
    return torch.Generator().manual_seed(seed)


def _like(mask_b: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    return mask_b.view(-1, *[1] * (tensor.dim() - 1))
