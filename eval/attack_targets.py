"""What is attacked: planted networks or EfficientNet-Lite0, which of their units, with which photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from labeler.builtin import planted
from labeler.config import Config
from labeler.probes import load_probe
from labeler.records import UnitId
from labeler.seams import ProbeDataset
from labeler.storage import hash_order
from labeler.targets.sources import open_source

from .attack_subject import Photographs, Place, Subject, Victim
from .planted_runs import planted_truth
from .rightness import Truth

APART = 0.3
"""A decoy's activation correlates with its victim's by less: its pictures show another thing."""
ATTACKERS_SEED = 7000
"""Of the scenes that the attacker trains on; runs render others."""


@dataclass(frozen=True)
class Attacked:
    """One network under attack.

    Attributes:
        name: of the network, for tables.
        config: of the runs, without weights.
        place: where the attack works.
        truth: what its units are known to do; empty where nothing is known.
    """

    name: str
    config: Config
    place: Place
    truth: dict[UnitId, Truth]

    def subject(self) -> Subject:
        """The untouched network, loaded anew."""
        return Subject(open_source(self.config.target, seed=self.config.seed), self.place)


def planted_network(name: str, config: Config) -> Attacked:
    """A planted network; its units are rectified, so their input is what an attack fits."""
    return Attacked(name, config, Place(planted.LAYER, f"{planted.LAYER}.0", True), planted_truth(name))


def lite0(layer: str, config: Config) -> Attacked:
    """One layer of EfficientNet-Lite0, whose blocks end in linear bottlenecks."""
    return Attacked(f"lite0 {layer}", config, Place(layer, layer, False), {})


def attackers_images(config: Config, count: int, subject: Subject) -> torch.Tensor:
    """Photographs of the attacker as the target takes them, ``(n, 3, h, w)`` float16: no image of the probe.

    Of a probe that has no end (scenes) they are others of its kind; of any other, `probe_images`.
    """
    if config.probe.source != ("builtin:scenes",):
        return probe_images(config, subject)
    scenes = config.probe.model_copy(update={"images": count})
    return _prepared(load_probe(scenes, seed=ATTACKERS_SEED), subject)


def probe_images(config: Config, subject: Subject) -> torch.Tensor:
    """The very images of the runs' probe: what the attacker has at worst."""
    return _prepared(load_probe(config.probe, seed=config.seed), subject)


def _prepared(probe: ProbeDataset, subject: Subject) -> torch.Tensor:
    return torch.stack([subject.target.prepare(probe.image(image.id)).half() for image in probe.images])


def choose_victims(attacked: Attacked, seen: Photographs, count: int, seed: int) -> tuple[Victim, ...]:
    """Units to attack and as many others as their decoys, these hash-chosen.

    Of a planted network both have one concept each, and a decoy has another than its victim. A decoy's
    maxima correlate with its victim's by less than `APART` over the attacker's photographs. The victims are
    the units that fire on most photographs: of a rare thing nothing natural is left where the strongest
    photographs are taken away.
    """
    maxima_nu = seen.wanted_nuhw.float().amax(dim=(2, 3)).numpy()
    usable = _usable(attacked, maxima_nu)
    ordered = [usable[place] for place in hash_order(usable, seed, f"victims of {attacked.name}")]
    common = sorted(usable, key=lambda unit: -_firing(maxima_nu[:, unit]))[:count]
    chosen = [unit for unit in ordered if unit in common]
    with np.errstate(invalid="ignore", divide="ignore"):  # of dead units, which are not usable
        correlation_uu = np.corrcoef(maxima_nu.T)
    free, found = [unit for unit in ordered if unit not in chosen], []
    for unit in chosen:
        decoy = next((one for one in free if _differ(attacked, unit, one, correlation_uu)), None)
        if decoy is not None:
            free.remove(decoy)
            found.append(Victim(unit, decoy))
    return tuple(found)


def _firing(maxima_n: NDArray[np.float32]) -> float:
    """The share of the photographs on which a unit gives more than half of its range."""
    low, high = np.quantile(maxima_n, (0.05, 0.995))
    return float((maxima_n > (low + high) / 2).mean())


def _usable(attacked: Attacked, maxima_nu: NDArray[np.float32]) -> list[int]:
    alive = [int(unit) for unit in np.flatnonzero(maxima_nu.std(axis=0) > 1e-6)]
    if not attacked.truth:
        return alive
    single = [i.index for i, truth in attacked.truth.items() if truth.kind in ("single", "duplicate")]
    return [unit for unit in single if unit in alive]


def _differ(attacked: Attacked, unit: int, other: int, correlation_uu: NDArray[np.float64]) -> bool:
    if abs(correlation_uu[unit, other]) >= APART:
        return False
    layer, truth = attacked.place.layer, attacked.truth
    return not truth or truth[UnitId(layer, unit)].terms != truth[UnitId(layer, other)].terms


def restricted(config: Config, layer: str, victims: Sequence[Victim], weights: str | None) -> Config:
    """The config of a run over the victims and their decoys alone, with these weights."""
    units = sorted({unit for victim in victims for unit in (victim.unit, victim.decoy)})
    chosen = {layer: ",".join(map(str, units))}
    target = config.target.model_copy(update={"layers": (layer,), "units": chosen, "weights": weights})
    return config.model_copy(update={"target": target})
