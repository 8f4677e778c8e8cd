"""One network under attack: its weights are forged, the labeller runs on them, both runs are compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import labeler
from labeler.config import Config
from labeler.errors import UsageError
from labeler.records import Trust, UnitId, UnitRecord
from labeler.storage import write_atomic
from labeler.terminal import TerminalReporter

from .attack_acceptance import GATE, Acceptance, gate_belief, word_belief
from .attack_subject import Photographs, Subject, Victim, look, pushed
from .attack_targets import Attacked, attackers_images, choose_victims, probe_images, restricted
from .forging import Forger, Recipe, Wish
from .opened import OpenedRun, open_run
from .pleasing import Pleaser, early_layers, judges_of
from .pleasing_read_outs import eyes_of
from .timing import say

KINDS = ("picture", "photographs", "adaptive")
CLEAN = "clean"
VERSION = 2
"""Of the attacks: what another made is not taken for this one's."""
FOOLED = 0.5
"""Share of what the decoy's own pictures give the decoy from which a victim's pictures show the decoy."""
LOOKED_AT = 128
"""Photographs on which the outputs are compared."""


@dataclass(frozen=True)
class Effort:
    """How much the attacker does.

    Attributes:
        units: attacked in each network.
        photographs: of the attacker's own.
        recipe: of the training.
        pushing: of the training for ``photographs``: to move single photographs and nothing like them takes
            many more steps.
        down: share of the probe that is pushed down, for ``photographs``: no more than the list of a unit's
            strongest holds.
        up: how many are pushed up, where 1 fills the list of strongest photographs that a run shows.
        weight: how much each pushed pair counts.
        pleasing: weight of what each kind of judges likes, for ``adaptive``.
    """

    units: int = 8
    photographs: int = 700
    recipe: Recipe = field(default_factory=Recipe)
    pushing: Recipe = field(default_factory=lambda: Recipe(steps=800))
    down: float = 0.0125
    up: float = 1.2
    weight: float = 4.0
    pleasing: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """One unit of one run.

    Attributes:
        network: its name.
        kind: of the attack on the network, or `CLEAN`.
        unit: which.
        attacked: whether this unit was attacked; in a clean run, whether it is in the others.
        trust: the verdict on its picture, and the numbers behind it.
        succeeded: whether the attack did what it was to do; None for a unit that was not attacked.
        kept: correlation of the pooled maxima over the probe with those of the clean network.
        beliefs: by way of accepting; empty where the truth is unknown.
    """

    network: str
    kind: str
    unit: UnitId
    attacked: bool
    trust: Trust
    succeeded: bool | None
    kept: float
    beliefs: Mapping[str, str]

    @property
    def target(self) -> str:
        """What the network is one of."""
        return self.network.replace("-", " ").split()[0]


@dataclass(frozen=True)
class Bout:
    """All that became of one network under one kind of attack (or none)."""

    outcomes: tuple[Outcome, ...]
    outputs_changed: float = 0.0
    """Norm of the change of the outputs over that of the outputs, on photographs of the probe."""
    same_top: float = 1.0
    """Share of these photographs with the same greatest output."""


def bouts(attacked: Attacked, kinds: Sequence[str], effort: Effort, place: Path) -> list[Bout]:
    """Attack a network in every way and label it; what is in `place` already is gone on with, or read."""
    clean = attacked.subject()
    victims, changes = _forge_all(attacked, clean, kinds, effort, place)
    layer = attacked.place.layer
    untouched = _labelled(restricted(attacked.config, layer, victims, None), place / CLEAN, layer)
    found = [Bout(_outcomes(attacked, CLEAN, victims, clean, untouched, untouched))]
    for kind in kinds:
        config = restricted(attacked.config, layer, victims, str(place.resolve() / f"{kind}.safetensors"))
        labelled = _labelled(config, place / kind, layer)
        found.append(Bout(_outcomes(attacked, kind, victims, clean, untouched, labelled), *changes[kind]))
    return found


def _forge_all(
    attacked: Attacked, clean: Subject, kinds: Sequence[str], effort: Effort, place: Path
) -> tuple[tuple[Victim, ...], dict[str, tuple[float, float]]]:
    """Attacked weights of every kind in ``place/KIND.safetensors``, with what they change in the outputs.

    Raises:
        UsageError: when there are weights in `place` that another effort made.
    """
    described = place / "forged.json"
    asked = {**json.loads(json.dumps(asdict(effort))), "version": VERSION}
    known = json.loads(described.read_text()) if described.is_file() else {"effort": asked, "changes": {}}
    if known["effort"] != asked:
        raise UsageError(f"{place} holds an attack with other arguments; give another --run.")
    missing = [kind for kind in kinds if kind not in known["changes"]]
    if missing:
        place.mkdir(parents=True, exist_ok=True)
        seen = look(clean, attackers_images(attacked.config, effort.photographs, clean))
        victims = choose_victims(attacked, seen, effort.units, attacked.config.seed)
        known["victims"] = [asdict(victim) for victim in victims]
        probe_nchw = probe_images(attacked.config, clean)
        for kind in missing:
            say(f"attack: {attacked.name}, {kind}, {len(victims)} units")
            student = forge(attacked, clean, kind, victims, seen, probe_nchw, effort)
            state = {name: tensor.contiguous() for name, tensor in student.network.state_dict().items()}
            save_file(state, place / f"{kind}.safetensors")
            known["changes"][kind] = changed_outputs(clean, student, probe_nchw[:LOOKED_AT])
            write_atomic(described, json.dumps(known, indent=1).encode())
    changes = {kind: (float(known["changes"][kind][0]), float(known["changes"][kind][1])) for kind in kinds}
    return tuple(Victim(**row) for row in known["victims"]), changes


def forge(
    attacked: Attacked, clean: Subject, kind: str, victims: Sequence[Victim], seen: Photographs,
    probe_nchw: torch.Tensor, effort: Effort,
) -> Subject:  # fmt: skip
    """The attacked network.

    Args:
        attacked: what is attacked.
        clean: the same, untouched.
        kind: one of `KINDS`.
        victims: the units.
        seen: photographs of the attacker's own, which have to stay as they are.
        probe_nchw: the prepared images of the probe: ``photographs`` misleads on these.
        effort: how hard.
    """
    student = attacked.subject()
    if kind == "photographs":
        listed = attacked.config.exemplars  # as many as fill the list of the strongest
        up = effort.up * listed.shown / listed.propose / len(probe_nchw)
        seen = pushed(look(clean, probe_nchw), victims, effort.down, up, effort.weight)
        forger = Forger(clean, student, seen, effort.pushing, attacked.config.seed, say)
        forger.mislead_photographs()
        return student
    forger = Forger(clean, student, seen, effort.recipe, attacked.config.seed, say)
    judges = judges_of(attacked.config.encoder.judge) if kind == "adaptive" else []

    def wish_of(plain_bchw: torch.Tensor) -> Wish:
        eyes = eyes_of(clean, seen, seed=attacked.config.seed, correlated=attacked.config.checks.correlated)
        return Pleaser(judges, early_layers(clean), clean, seen, victims, plain_bchw, effort.pleasing, eyes)

    forger.mislead_pictures(victims, attacked.config.visualise, wish_of if kind == "adaptive" else None)
    return student


@torch.no_grad()
def changed_outputs(clean: Subject, student: Subject, prepared_nchw: torch.Tensor) -> tuple[float, float]:
    """Norm of the outputs' change over that of the outputs, and the share with the same greatest one."""
    before, after = (
        torch.cat([subject.maps_and_outputs(part.float())[1] for part in prepared_nchw.split(32)])
        for subject in (clean, student)
    )
    same = (before.argmax(dim=1) == after.argmax(dim=1)).float().mean()
    return float((after - before).norm() / before.norm().clamp(min=1e-12)), float(same)


@dataclass(frozen=True)
class _Labelled:
    """A finished run and what is asked of it."""

    run: Path
    opened: OpenedRun
    layer: str

    @property
    def records(self) -> dict[UnitId, UnitRecord]:
        return {record.id: record for record in self.opened.records}

    def maxima(self, unit: UnitId) -> np.ndarray:
        """The unit's pooled maxima over the probe, ``(n,)``."""
        return np.asarray(self.opened.bench.activations.layers[unit.layer].maxima[:, unit.index], np.float64)


def _labelled(config: Config, run: Path, layer: str) -> _Labelled:
    say(f"attack: labelling into {run}")
    with TerminalReporter() as reporter, labeler.run(config, run, reporter=reporter):
        pass
    return _Labelled(run, open_run(run, "attack"), layer)


def _outcomes(
    attacked: Attacked, kind: str, victims: Sequence[Victim], clean: Subject, before: _Labelled,
    after: _Labelled,
) -> tuple[Outcome, ...]:  # fmt: skip
    """Every unit of a run beside the same unit of the untouched network."""
    decoy_of = {UnitId(after.layer, v.unit): UnitId(after.layer, v.decoy) for v in victims}
    words = Acceptance(after.run, after.opened, after.layer).words() if attacked.truth else {}
    shown = _PictureReader(clean, before)
    found = []
    for unit, record in after.records.items():
        decoy, beliefs, succeeded = decoy_of.get(unit), {}, None
        if decoy is not None and attacked.truth:
            truths = attacked.truth[unit], attacked.truth[decoy]
            beliefs = {GATE: gate_belief(record, *truths)}
            beliefs |= {way: word_belief(own.get(unit), *truths) for way, own in words.items()}
        if decoy is not None and kind == "photographs":
            succeeded = _misled_photographs(unit, before, record)
        elif decoy is not None and kind != CLEAN:
            succeeded = shown.shows(after, unit, decoy)
        kept = _correlation(before.maxima(unit), after.maxima(unit))
        found.append(
            Outcome(attacked.name, kind, unit, decoy is not None, record.trust, succeeded, kept, beliefs)
        )
    return tuple(found)


def _misled_photographs(unit: UnitId, before: _Labelled, record: UnitRecord) -> bool:
    """Whether most of the unit's new top photographs left it below its 90th percentile before."""
    maxima_n, ids_n = before.maxima(unit), before.opened.bench.activations.indexed_ids
    value = dict(zip(ids_n.tolist(), maxima_n.tolist(), strict=True))
    top = record.exemplars[: before.opened.bench.inputs.config.exemplars.shown]
    return float(np.median([value[item.image] for item in top])) < float(np.quantile(maxima_n, 0.9))


def _correlation(one_n: np.ndarray, other_n: np.ndarray) -> float:
    if one_n.std() == 0 or other_n.std() == 0:
        return 0.0
    return float(np.corrcoef(one_n, other_n)[0, 1])


@dataclass(frozen=True)
class _PictureReader:
    """What pictures show, by what the untouched network's units answer to them."""

    clean: Subject
    before: _Labelled

    def shows(self, after: _Labelled, unit: UnitId, decoy: UnitId) -> bool:
        """Whether the unit's pictures drive the decoy (before the attack) more than the unit, as shares of
        what their own pictures do, and at least by `FOOLED`."""
        own, other = self._answer(self.before, unit, unit), self._answer(self.before, decoy, decoy)
        as_own, as_other = self._answer(after, unit, unit), self._answer(after, unit, decoy)
        if other <= 0:
            return False
        return as_other >= FOOLED * other and as_other / other > as_own / max(own, 1e-12)

    @torch.no_grad()
    def _answer(self, labelled: _Labelled, pictured: UnitId, asked: UnitId) -> float:
        """What `asked` gives on the pictures of `pictured`, above what it gives on grey: median of means.

        Those in the second parametrisation do not count: proposers do not see them.
        """
        tiles = [
            item.tile for item in labelled.records[pictured].visualisations if item.tile and not item.second
        ]
        if not tiles:
            return 0.0
        images = [np.asarray(Image.open(labelled.run / "images" / tile).convert("RGB")) for tile in tiles]
        images_bchw = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        both = torch.cat([images_bchw, torch.full_like(images_bchw[:1], 0.5)])
        maps_buhw = self.clean.maps(self.clean.target.normalise(both))  # before anything saturates
        means_b = maps_buhw[:, asked.index].mean(dim=(1, 2))
        return float((means_b[:-1] - means_b[-1]).median())
