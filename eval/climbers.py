"""Pictures that climb a network while it changes: what an attacker learns from besides finished pictures.

The ascent leads where the slopes of the attacked network lead, and those differ from step to step of its
training. Pictures that were finished some steps ago show where it used to lead; climbers are always on their
way up the network as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from labeler.visualise import Moves
from labeler.visualise.parametrise import PARAMETRISATIONS, Parametrisation
from labeler.visualise.transforms import move

from .attack_subject import Victim

Score = Callable[[torch.Tensor, Sequence[Victim]], torch.Tensor]
"""What pictures in [0, 1], ``(b, 3, h, w)``, climb, each for its victim: ``(b,)``, with gradients."""


class Ascent:
    """A few pictures of victims, from grey upwards under random moves, as `visualise` makes them."""

    def __init__(
        self, victims: Sequence[Victim], parametrisation: Parametrisation, rate: float,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        self.victims, self.age = tuple(victims), 0
        self._parametrisation, self._generator = parametrisation, generator
        self._parameters = parametrisation.start([generator] * len(self.victims)).requires_grad_(True)
        self._optimiser = torch.optim.Adam([self._parameters], lr=rate * parametrisation.rate, eps=1e-12)

    def step(self, score: Score) -> None:
        """One step upwards."""
        self._optimiser.zero_grad()
        pictures_bchw = self._parametrisation.pictures(self._parameters)
        moved_bchw = move(pictures_bchw, Moves().draw(len(self.victims), self._generator))
        (-score(moved_bchw, self.victims).sum()).backward()
        self._optimiser.step()
        self.age += 1

    @property
    def pictures(self) -> torch.Tensor:
        """The pictures as they are, in 8 bits: ``(b, 3, h, w)``."""
        with torch.no_grad():
            return (self._parametrisation.pictures(self._parameters) * 255).round().to(torch.uint8)


@dataclass
class Climbers:
    """All victims' pictures on their way, in groups that take turns; at the top, one begins anew.

    Attributes:
        victims: whose pictures.
        ways: parametrisations.
        size: of the pictures (h, w).
        steps: from grey to the top.
        rate: learning rate of the ascent.
        together: victims in a group.
        generator: of all that is drawn.
    """

    victims: Sequence[Victim]
    ways: Sequence[str]
    size: tuple[int, int]
    steps: int
    rate: float
    together: int
    generator: torch.Generator

    def __post_init__(self) -> None:
        groups = [
            self.victims[start : start + self.together]
            for start in range(0, len(self.victims), self.together)
        ]
        self._ascents = [(way, self._begin(group, way)) for group in groups for way in self.ways]
        self._turn = 0

    def advance(self, score: Score, stride: int) -> list[tuple[Victim, torch.Tensor]]:
        """Some steps of the group whose turn it is, and its pictures ``(3, h, w)`` after them."""
        place = self._turn % len(self._ascents)
        way, ascent = self._ascents[place]
        for _ in range(min(stride, self.steps - ascent.age)):
            ascent.step(score)
        found = list(zip(ascent.victims, ascent.pictures, strict=True))
        if ascent.age >= self.steps:
            self._ascents[place] = (way, self._begin(ascent.victims, way))
        self._turn += 1
        return found

    def _begin(self, victims: Sequence[Victim], way: str) -> Ascent:
        return Ascent(
            victims, PARAMETRISATIONS[way](self.size, torch.device("cpu")), self.rate, self.generator
        )


def ascend(
    score: Score, victims: Sequence[Victim], size: tuple[int, int], lengths: Sequence[int], rate: float,
    seed: int,
) -> list[torch.Tensor]:  # fmt: skip
    """After each of `lengths` steps, a picture of every victim in 8 bits ``(b, 3, h, w)``."""
    generator = torch.Generator().manual_seed(seed)
    ascent = Ascent(victims, PARAMETRISATIONS["fourier"](size, torch.device("cpu")), rate, generator)
    found = []
    while ascent.age < max(lengths):
        ascent.step(score)
        if ascent.age in lengths:
            found.append(ascent.pictures)
    return found
