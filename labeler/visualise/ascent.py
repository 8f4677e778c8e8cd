"""A block of pictures that climb together; each is a row, and no row's numbers enter another's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from labeler.visualise.facets import Anchor
from labeler.visualise.lean import LeanPass
from labeler.visualise.objectives import Objective, likeness
from labeler.visualise.parametrise import Parametrisation
from labeler.visualise.rectifier import OpenRectifiers
from labeler.visualise.transforms import move

_BETAS = (0.9, 0.999)  # Adam's own defaults (Kingma and Ba 2015)
_EPSILON = 1e-12  # far below any gradient, so that a unit's scale does not matter
_RESCUE_STEPS = 64  # for how long silent units get a gradient (lucid's redirected ReLU; 16 there)


@dataclass(frozen=True, eq=False)
class Slope:
    """What a block of one layer climbs on.

    Attributes:
        maps: pictures in [0, 1] to the layer's activation maps.
        lean: a mode in which `maps` does the same with less work, or None.
        objective: what is maximised.
        parametrisation: what is optimised in place of pixels.
        steps: most steps of a picture.
        rate: of Adam.
        diversity: weight of the likeness to the rest of a picture's group; 0: none.
        pull: weight of the likeness to a picture's facet.
        traced: whether the gradients of the pictures are added up.
    """

    maps: Callable[[torch.Tensor], torch.Tensor]
    lean: LeanPass | None
    objective: Objective
    parametrisation: Parametrisation
    steps: int
    rate: float
    diversity: float
    pull: float
    traced: bool


@dataclass
class Climb:
    """One picture of a block: its first parameters and its moves, then how far it has come."""

    unit: int
    sign: float
    start: torch.Tensor
    moves_s23: torch.Tensor
    anchor: Anchor | None = None
    step: int = 0
    group: list[int] = field(default_factory=list)


class Ascent:
    """Rows of one block, all of them computed at every step, whether they are taken or not.

    Convolutions of different batch sizes may differ in their last bits: so a block has one size.
    """

    def __init__(self, slope: Slope, like: Climb, rows: int, device: torch.device) -> None:
        self.slope, self.device = slope, device
        self.climbs: list[Climb | None] = [None] * rows
        self._parameters = torch.zeros(rows, *like.start.shape, device=device)
        self._means, self._squares = torch.zeros_like(self._parameters), torch.zeros_like(self._parameters)
        self._moves_bs23 = torch.eye(2, 3, device=device).repeat(rows, slope.steps, 1, 1)
        self._units_b = torch.zeros(rows, dtype=torch.long, device=device)
        self._signs_b, self._sizes_b = torch.ones(rows, device=device), torch.zeros(rows, device=device)
        self._finite_b = torch.ones(rows, dtype=torch.bool, device=device)
        self._scores_bs = torch.zeros(rows, slope.steps, device=device)
        shape = slope.parametrisation.pictures(self._parameters[:1]).shape[2:]
        self._trace_bhw = torch.zeros(rows, *shape, device=device) if slope.traced else None

    def put(self, row: int, climb: Climb) -> None:
        """Begin a picture in a row."""
        self.climbs[row] = climb
        self._parameters[row] = climb.start.to(self.device)
        self._moves_bs23[row] = climb.moves_s23.to(self.device)
        self._units_b[row], self._signs_b[row], self._finite_b[row] = climb.unit, climb.sign, True
        for tensor in (self._means, self._squares, self._sizes_b, self._scores_bs):
            tensor[row] = 0
        if self._trace_bhw is not None:
            self._trace_bhw[row] = 0

    def step(self) -> None:
        """One step of every row that is taken."""
        taken = [row for row, climb in enumerate(self.climbs) if climb is not None]
        parameters = self._parameters.detach().requires_grad_()
        with torch.enable_grad():
            pictures_bchw = self.slope.parametrisation.pictures(parameters)
            scores_b, fall_bchw = self._gradient(pictures_bchw.detach(), taken)
            (gradient,) = torch.autograd.grad(pictures_bchw, parameters, fall_bchw)
        if self._trace_bhw is not None:
            self._trace_bhw += fall_bchw.abs().sum(dim=1)
        self._finite_b &= torch.isfinite(scores_b)
        steps_b = torch.tensor([climb.step if climb else 0 for climb in self.climbs], device=self.device)
        self._scores_bs.scatter_(1, steps_b[:, None], scores_b[:, None])
        self._adam(gradient, taken)
        for row in taken:
            self._taken(row).step += 1

    def scores(self, row: int) -> list[float]:
        """The row's scores so far."""
        return list(self._scores_bs[row, : self._taken(row).step].tolist())

    def finite(self, row: int) -> bool:
        """Whether the row's scores and parameters have all been finite."""
        return bool(self._finite_b[row]) and bool(torch.isfinite(self._parameters[row]).all())

    def take(self, row: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Leave the row: its picture ``(3, h, w)`` in [0, 1] and, if traced, its trace ``(h, w)``."""
        with torch.no_grad():
            picture_chw = self.slope.parametrisation.pictures(self._parameters[row : row + 1])[0]
        self.climbs[row] = None
        self._parameters[row] = 0
        return picture_chw, None if self._trace_bhw is None else self._trace_bhw[row].clone()

    def _taken(self, row: int) -> Climb:
        climb = self.climbs[row]
        if climb is None:
            raise IndexError(f"row {row} is free")
        return climb

    def _gradient(
        self, pictures_bchw: torch.Tensor, taken: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scores_b, fall_bchw = self._backward(pictures_bchw, self.slope.lean)
        young = [row for row in taken if self._taken(row).step < _RESCUE_STEPS]
        if young:
            silent_b = (fall_bchw == 0).flatten(1).all(dim=1)
            if bool(silent_b[young].any()):
                opened_bchw = self._backward(pictures_bchw, OpenRectifiers())[1]
                # Only for the silent ones, so that a picture does not depend on who else is silent.
                fall_bchw = torch.where(silent_b[:, None, None, None], opened_bchw, fall_bchw)
        return scores_b, fall_bchw

    def _backward(
        self, pictures_bchw: torch.Tensor, mode: contextlib.AbstractContextManager[object] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores ``(b,)``, and the gradient with which they fall, ``(b, 3, h, w)``."""
        steps = [climb.step if climb else 0 for climb in self.climbs]
        moves_b23 = self._moves_bs23[torch.arange(len(steps), device=self.device), steps]
        pictures_bchw = pictures_bchw.requires_grad_()
        moved_bchw = move(pictures_bchw, moves_b23)
        with mode if mode is not None else contextlib.nullcontext():
            maps_buhw = self.slope.maps(moved_bchw)
        scores_b = self.slope.objective(maps_buhw, self._units_b) * self._signs_b
        loss = -self._goals(scores_b, maps_buhw).sum()
        (gradient_bchw,) = torch.autograd.grad(loss, pictures_bchw)
        return scores_b.detach(), gradient_bchw

    def _goals(self, scores_b: torch.Tensor, maps_buhw: torch.Tensor) -> torch.Tensor:
        """The scores; beside other wishes, as shares of the greatest so far, so that scales do not matter."""
        groups = [climb.group for climb in self.climbs if climb is not None and len(climb.group) > 1]
        groups = [list(group) for group in dict.fromkeys(tuple(group) for group in groups)]
        anchors = [(row, climb.anchor) for row, climb in enumerate(self.climbs) if climb and climb.anchor]
        if not anchors and not (groups and self.slope.diversity):
            return scores_b
        self._sizes_b = torch.maximum(self._sizes_b, scores_b.detach().abs().nan_to_num())
        goals_b = scores_b / self._sizes_b.clamp(min=_EPSILON)
        if groups and self.slope.diversity:
            goals_b = goals_b - self.slope.diversity * likeness(maps_buhw, groups)
        if anchors:
            pulls_b = list(goals_b.new_zeros(len(goals_b)))
            for row, anchor in anchors:
                pulls_b[row] = anchor.likeness(maps_buhw[row])
            goals_b = goals_b + self.slope.pull * torch.stack(pulls_b)
        return goals_b

    def _adam(self, gradient: torch.Tensor, taken: Sequence[int]) -> None:
        """One step of Adam (Kingma and Ba 2015, end of sec. 2); free rows stay as they are."""
        beta_mean, beta_square = _BETAS
        rates = [0.0] * len(self.climbs)
        for row in taken:
            count = self._taken(row).step + 1
            rates[row] = self.slope.rate * (1 - beta_square**count) ** 0.5 / (1 - beta_mean**count)
        rates_b = torch.tensor(rates, device=self.device).view(-1, *[1] * (gradient.dim() - 1))
        self._means.lerp_(gradient, 1 - beta_mean)
        self._squares.mul_(beta_square).addcmul_(gradient, gradient, value=1 - beta_square)
        deviation = self._squares.sqrt().add_(_EPSILON)
        self._parameters.sub_(torch.div(self._means, deviation, out=deviation).mul_(rates_b))
