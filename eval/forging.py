"""Fine-tuning a network so that the pictures of its units, or their top photographs, mislead.

The attacks follow Geirhos et al. 2024 ("Don't trust your eyes", sec. 2: a unit that answers synthetic
pictures by another circuit than photographs), Bareeva et al. 2024 ("Manipulating feature visualizations with
gradient slingshots") and Nanfack et al. 2024 ("Adversarial attacks on the interpretation of neuron activation
maximization": push down, push up). They are made to be hard to see, not to be quick: what is attacked here is
the verdict of a labeller that looks at both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, cosine_similarity

from labeler.config import VisualiseConfig
from labeler.visualise import Moves, Request, visualise
from labeler.visualise.optimise import picture_size
from labeler.visualise.transforms import move

from .attack_subject import Photographs, Subject, Victim
from .climbers import Climbers, ascend

_EDGE = 1 / 512  # half a step of 8 bits: a pixel of 0 or 1 has no logit
_SEEDS = 1000  # of the attacker's own pictures: no run begins so high
_OUTPUTS_EVERY = 4  # steps: what is after the unit's layer costs as much again, and follows the maps
_OPENED = 0.5  # spreads above zero at which a rectified victim answers grey: the ascent has a slope there
_COARSE = 4  # pixels a side over which slopes are averaged: single ones are noise, and the ascent is 1/f
_STAGES = (2, 6, 16)
"""Steps after which the ascent's pictures are learnt from, beside the finished ones."""

Wish = Callable[[torch.Tensor, Sequence[Victim]], torch.Tensor]
"""How far pictures in [0, 1], ``(b, 3, h, w)``, fulfil what is wished of each one's victim, ``(b,)``; beside
showing the decoy, where the decoy's own pictures give it 1."""


@dataclass(frozen=True)
class Recipe:
    """How long and how hard an attack trains.

    Attributes:
        steps: of Adam.
        photographs: in each step.
        pictures: synthetic ones in each step.
        rate: greatest learning rate; it rises over a tenth of the steps and falls to nothing (cosine).
        stride: steps that the pictures of the network as it has become climb in each step.
        seeds: pictures of each decoy that are learnt from, each at several lengths.
        gain: how much more strongly, in spreads of photographs, a victim answers pictures than its decoy did.
        slopes: weight of leading where the decoy's picture leads, from every picture on the way.
        bystanders: weight of leaving all other units alone on pictures.
    """

    steps: int = 240
    photographs: int = 32
    pictures: int = 32
    rate: float = 1e-3
    stride: int = 3
    seeds: int = 2
    gain: float = 1.2
    slopes: float = 0.3
    bystanders: float = 0.1


class Forger:
    """One attack on one network: from what is learnt to the attacked weights.

    Args:
        clean: the network as it was.
        student: the same network, which changes.
        photographs: what it shall make of photographs.
        recipe: how it is trained.
        seed: of all that is drawn.
        told: is told how the training goes.
    """

    def __init__(
        self, clean: Subject, student: Subject, photographs: Photographs, recipe: Recipe, seed: int,
        told: Callable[[str], None] = lambda text: None,
    ) -> None:  # fmt: skip
        self._clean, self._student, self._photographs = clean, student, photographs
        self._recipe, self._seed, self._told = recipe, seed, told
        self._generator = torch.Generator().manual_seed(seed)
        wanted_nuhw = photographs.wanted_nuhw.float()
        self._mean_u, self._scale_u = wanted_nuhw.mean(dim=(0, 2, 3)), _spread(wanted_nuhw, (0, 2, 3))
        soft_nuhw = student.soft(wanted_nuhw)
        self._spread_u, self._peaks_u = (
            _spread(soft_nuhw, (0, 2, 3)),
            _spread(soft_nuhw.amax(dim=(2, 3)), (0,)),
        )
        outputs_no = photographs.outputs_no.float()
        self._power = float((outputs_no - outputs_no.mean(dim=0)).square().mean().clamp(min=1e-6))
        self._pool: list[tuple[Victim, torch.Tensor]] = []
        self._grey_u = self._start_u = torch.zeros_like(self._mean_u)
        self._own: dict[Victim, float] = {}
        """What each decoy answers to its own pictures."""
        self._wish: Wish | None = None
        self._looks = 0
        self._climbers: Climbers | None = None
        self._climbed: list[tuple[Victim, torch.Tensor]] = []
        """Where the network's own pictures are now."""

    def mislead_photographs(self) -> None:
        """Train on photographs alone: on what `pushed` made of them."""
        self._train(lambda: [self._natural()])

    def mislead_pictures(
        self, victims: Sequence[Victim], settings: VisualiseConfig,
        wish_of: Callable[[torch.Tensor], Wish] | None = None,
    ) -> None:  # fmt: skip
        """Train on photographs, which stay, and on pictures, which the victims shall see as their decoys do.

        The pictures are those of the decoys on their way from the grey start, and all the time those that
        climb the network itself: so that the ascent leads there from wherever it comes. With a wish, those in
        the second parametrisation too, since whoever wishes knows the judges.

        Args:
            victims: the units.
            settings: how the runs make pictures.
            wish_of: from the decoys' finished pictures ``(b, 3, h, w)`` in [0, 1] to something else that the
                victims' pictures shall fulfil.
        """
        steps, recipe = settings.steps, self._recipe
        self._look_at_grey(self._size(settings))
        lengths = [*(length for length in _STAGES if length < steps), steps]
        ways = [settings]
        if wish_of is not None and settings.second != "none":
            ways.insert(0, settings.model_copy(update={"parametrisation": settings.second}))
        for way in ways:
            for length in lengths:
                for seed in range(recipe.seeds):
                    self._draw(victims, way, length, seed)
        if wish_of is not None:
            self._please(victims, settings, lengths, wish_of)
        self._climbers = Climbers(
            victims, [way.parametrisation for way in ways], self._size(settings), steps,
            settings.learning_rate, recipe.pictures // 2, self._generator,
        )  # fmt: skip
        self._train(lambda: [self._natural(), self._forged()])

    def _size(self, settings: VisualiseConfig) -> tuple[int, int]:
        return picture_size(self._clean.target, self._clean.place.layer, settings.size)

    @torch.no_grad()
    def _look_at_grey(self, size: tuple[int, int]) -> None:
        """What units answer to grey, and what victims shall: the same, but through an open rectifier."""
        grey_bchw = torch.full((1, 3, *size), 0.5)
        maps_buhw = self._clean.maps(self._clean.target.normalise(grey_bchw))
        self._grey_u = (maps_buhw.mean(dim=(0, 2, 3)) - self._mean_u) / self._scale_u
        opened_u = _OPENED - self._mean_u / self._scale_u
        self._start_u = opened_u if self._clean.place.rectified else self._grey_u

    def _please(
        self, victims: Sequence[Victim], settings: VisualiseConfig, lengths: Sequence[int],
        wish_of: Callable[[torch.Tensor], Wish],
    ) -> None:  # fmt: skip
        """Pictures that show the decoys and fulfil the wish as well, into the pool."""
        owners = [victim for victim, _ in self._pool[-len(victims) :]]
        plain_bchw = torch.stack([image_chw for _, image_chw in self._pool[-len(victims) :]]).float() / 255

        def shown(pictures_bchw: torch.Tensor, owners: Sequence[Victim]) -> torch.Tensor:
            maps_buhw = self._clean.maps(self._clean.target.normalise(pictures_bchw))
            return self._above_grey(maps_buhw, owners).mean(dim=(1, 2))

        with torch.no_grad():
            own_b = shown(plain_bchw, owners).clamp(min=1.0)
        self._own = dict(zip(owners, own_b.tolist(), strict=True))
        self._wish = wish = wish_of(plain_bchw)

        def score(pictures_bchw: torch.Tensor, owners: Sequence[Victim]) -> torch.Tensor:
            return shown(pictures_bchw, owners) / own_b + wish(pictures_bchw, owners)

        size = self._size(settings)
        for seed in range(self._recipe.seeds):
            made = ascend(score, owners, size, lengths, settings.learning_rate, self._seed + seed)
            self._pool += [item for images in made for item in zip(owners, images, strict=True)]

    def _draw(self, victims: Sequence[Victim], settings: VisualiseConfig, length: int, seed: int) -> None:
        """The decoys' pictures after so many steps, into the pool."""
        subject = self._clean
        requests = [Request(subject.place.layer, one.decoy, _SEEDS + self._seed + seed) for one in victims]
        made = visualise(subject.target, requests, settings.model_copy(update={"steps": length}))
        for victim, picture in zip(victims, made, strict=True):
            if picture.image is not None:
                self._pool.append((victim, torch.from_numpy(picture.image).permute(2, 0, 1)))

    def _climb(self, pictures_bchw: torch.Tensor, victims: Sequence[Victim]) -> torch.Tensor:
        """What the network's own pictures climb: the mean over all places."""
        student, units = self._student, torch.tensor([victim.unit for victim in victims])
        maps_buhw = student.soft(student.maps(student.target.normalise(pictures_bchw)))
        return maps_buhw[torch.arange(len(units)), units].mean(dim=(1, 2))

    def _above_grey(self, maps_buhw: torch.Tensor, victims: Sequence[Victim]) -> torch.Tensor:
        """What the decoys answer above grey, from the untouched network's maps: ``(b, h, w)``, in spreads."""
        decoys = [victim.decoy for victim in victims]
        return self._lifted(maps_buhw, decoys) - self._grey_u[decoys, None, None]

    def _lifted(self, maps_buhw: torch.Tensor, units: Sequence[int]) -> torch.Tensor:
        units_b = torch.tensor(units)
        own_bhw = maps_buhw[torch.arange(len(units)), units_b]
        return (own_bhw - self._mean_u[units_b][:, None, None]) / self._scale_u[units_b][:, None, None]

    def _train(self, losses_of: Callable[[], list[torch.Tensor]]) -> None:
        weights = _reaching(self._student, self._photographs.prepared_nchw[:2].float())
        optimiser = torch.optim.Adam(weights, lr=self._recipe.rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self._recipe.rate, total_steps=self._recipe.steps, pct_start=0.1
        )
        for step in range(self._recipe.steps):
            if self._climbers is not None:
                self._climbed = self._climbers.advance(self._climb, self._recipe.stride)
                self._pool += self._climbed
            for weight in weights:
                weight.requires_grad_(True)
            optimiser.zero_grad()
            losses = losses_of()
            torch.stack(losses).sum().backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            schedule.step()
            self._student.network.requires_grad_(False)
            if step % 20 == 0 or step == self._recipe.steps - 1:
                self._told(f"step {step}: loss {' + '.join(f'{loss.item():.3f}' for loss in losses)}")

    def _natural(self) -> torch.Tensor:
        """How far the photographs' maps, maxima and outputs are from what they shall be, in spreads."""
        seen, student = self._photographs, self._student
        chosen_b = self._chosen()
        images_bchw = seen.prepared_nchw[chosen_b].float()
        self._looks += 1
        outputs = torch.zeros(())
        if self._looks % _OUTPUTS_EVERY:
            maps_buhw = student.maps(images_bchw)
        else:
            maps_buhw, outputs_bo = student.maps_and_outputs(images_bchw)
            outputs = (outputs_bo - seen.outputs_no[chosen_b].float()).square().mean() / self._power
        found, wanted = student.soft(maps_buhw), student.soft(seen.wanted_nuhw[chosen_b].float())
        weight_bu = seen.weight_nu[chosen_b]
        error_bu = ((found - wanted) / self._spread_u[:, None, None]).square().mean(dim=(2, 3))
        peak_bu = ((found.amax(dim=(2, 3)) - wanted.amax(dim=(2, 3))) / self._peaks_u).square()
        return ((error_bu + peak_bu) * weight_bu).mean() + outputs

    def _chosen(self) -> torch.Tensor:
        """Photographs of a step ``(b,)``: where some are to change, these are every other one of them."""
        count, generator = self._recipe.photographs, self._generator
        changing = (self._photographs.weight_nu > 1).any(dim=1).nonzero()[:, 0]
        half = count // 2 if len(changing) else 0
        drawn = torch.randint(len(self._photographs.prepared_nchw), (count - half,), generator=generator)
        return torch.cat(
            [drawn, changing[torch.randint(max(1, len(changing)), (half,), generator=generator)]]
        )

    def _forged(self) -> torch.Tensor:
        """How far the victims are from answering pictures as their decoys did, as shares of those answers."""
        pictures_bchw, victims = self._sample()
        pictures_bchw.requires_grad_(True)
        units = [victim.unit for victim in victims]
        before_buhw = self._clean.maps(self._clean.target.normalise(pictures_bchw))
        rise_bhw = self._above_grey(before_buhw, victims)
        if self._wish is not None:
            own_b = torch.tensor([self._own[victim] for victim in victims])
            rise_bhw = rise_bhw + (own_b * self._wish(pictures_bchw, victims))[:, None, None]
        wanted_slopes = _slopes(rise_bhw, pictures_bchw, kept=False)
        rise_bhw, before_buhw = self._recipe.gain * rise_bhw.detach(), before_buhw.detach()
        wanted_bhw = self._start_u[units, None, None] + rise_bhw
        maps_buhw = self._student.maps(self._student.target.normalise(pictures_bchw))
        lifted_bhw = self._lifted(maps_buhw, units)
        error_b = (lifted_bhw - wanted_bhw).square().mean(dim=(1, 2))
        forged = (error_b / (1 + rise_bhw.square().mean(dim=(1, 2)))).mean()
        likeness_b = cosine_similarity(_slopes(lifted_bhw, pictures_bchw, kept=True), wanted_slopes, dim=1)
        forged = forged + self._recipe.slopes * (1 - likeness_b).mean()
        found, wanted = self._student.soft(maps_buhw), self._student.soft(before_buhw)
        size_bu = wanted.square().mean(dim=(2, 3)) + self._spread_u.square()
        share_bu = (found - wanted).square().mean(dim=(2, 3)) / size_bu
        others_bu = torch.ones_like(share_bu)
        others_bu[torch.arange(len(units)), torch.tensor(units)] = 0
        return forged + self._recipe.bystanders * (others_bu * share_bu).mean()

    def _sample(self) -> tuple[torch.Tensor, list[Victim]]:
        """Those that climb and others of the pool, moved as the ascent moves them; some half grey."""
        count, generator = self._recipe.pictures, self._generator
        older = torch.randint(len(self._pool), (count - len(self._climbed),), generator=generator)
        drawn = [*self._climbed, *(self._pool[place] for place in older.tolist())]
        pictures_bchw = torch.stack([image_chw for _, image_chw in drawn]).float() / 255
        share_b = torch.rand(count, generator=generator).mul(2).clamp(max=1)  # half of them are left whole
        logits_bchw = pictures_bchw.clamp(_EDGE, 1 - _EDGE).logit() * share_b[:, None, None, None]
        return move(logits_bchw.sigmoid(), Moves().draw(count, generator)), [victim for victim, _ in drawn]


def _slopes(maps_bhw: torch.Tensor, pictures_bchw: torch.Tensor, *, kept: bool) -> torch.Tensor:
    """The way up from each picture without its finest detail, ``(b, d)``; `kept` for a second derivative."""
    score = maps_bhw.mean(dim=(1, 2)).sum()
    (slopes_bchw,) = torch.autograd.grad(score, pictures_bchw, create_graph=kept, retain_graph=kept)
    return avg_pool2d(slopes_bchw, _COARSE).flatten(1)


def _spread(values: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """Standard deviations along `axes`; not quite zero where nothing varies."""
    return values.std(dim=axes).clamp(min=1e-3)


def _reaching(student: Subject, images_bchw: torch.Tensor) -> list[nn.Parameter]:
    """The parameters on which the maps depend."""
    weights = list(student.network.parameters())
    student.network.requires_grad_(True)
    found = torch.autograd.grad(student.maps(images_bchw).sum(), weights, allow_unused=True)
    student.network.requires_grad_(False)
    return [weight for weight, gradient in zip(weights, found, strict=True) if gradient is not None]
