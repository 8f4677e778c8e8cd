"""The planted networks do what their truth says, on scenes that nothing was trained or measured on."""

from __future__ import annotations

import functools
from collections import Counter
from statistics import NormalDist

import numpy as np
import pytest
import torch
from PIL import Image

from labeler.builtin import planted
from labeler.builtin.planted import (
    DECOY_CEILING,
    FITTED,
    FLOOR,
    HELD_OUT,
    HELD_OUT_CONCEPTS,
    LAYER,
    LOOKED_AT,
    PLANTED,
    PlantedUnit,
    truth,
)
from labeler.builtin.planted.network import UNITS
from labeler.builtin.scenes import CONCEPTS, render_scene
from labeler.builtin.training.planted import EXAM, FAMILIES
from labeler.builtin.training.planted_scenes import Scenes, normalised, render
from labeler.builtin.training.planted_trunk import PRESENT
from labeler.builtin.training.planted_truth import Wanted, holds
from labeler.builtin.training.scene_quality import auroc
from labeler.config import TargetConfig
from labeler.targets import load_target

SEED, SCENES = 57, 400  # seeds 0..99 are never trained on, and the exam is seed 91
FEWEST = 8  # scenes in which a truth must hold, and fail, to be measured here
TAUGHT = ("single", "duplicate", "or", "and", "not", "context")
PLACE = {concept.name: c for c, concept in enumerate(CONCEPTS)}


@functools.cache
def fresh() -> Scenes:
    return render(SEED, SCENES)


@functools.cache
def pooled(name: str) -> np.ndarray:
    """The units' spatial maxima on the fresh scenes, (n, UNITS)."""
    network = planted.load(name)
    with torch.inference_mode():
        parts = [network(normalised(part)).amax(dim=(2, 3)) for part in torch.split(fresh().images, 50)]
    return torch.cat(parts).numpy()


def measured(name: str, unit: PlantedUnit) -> float | None:
    """AUROC on the fresh scenes; None where they show the truth too seldom."""
    wanted = Wanted(unit.kind, tuple(PLACE[term] for term in unit.terms))
    true_n = holds(wanted, fresh().areas >= PRESENT)
    if not FEWEST <= true_n.sum() <= SCENES - FEWEST:
        return None
    return auroc(pooled(name)[:, unit.index], true_n)


def of_kind(name: str, *kinds: str) -> list[PlantedUnit]:
    return [unit for unit in truth(name) if unit.kind in kinds]


def test_the_scenes_here_are_none_of_those_that_were_trained_or_measured_on() -> None:
    assert SEED < 100 <= min(family.seed for family in FAMILIES)
    assert EXAM[0] not in (SEED, *(family.seed for family in FAMILIES))


@pytest.mark.parametrize("name", PLANTED)
def test_every_unit_has_one_truth_and_every_kind_some_units(name: str) -> None:
    units = truth(name)
    assert [unit.index for unit in units] == list(range(UNITS))
    counts = Counter(unit.kind for unit in units)
    assert counts["single"] >= 24
    assert all(counts[kind] >= 1 for kind in ("duplicate", "or", "and", "not", "decoy", "dead"))
    assert counts["unclear"] <= 9 * UNITS // 20
    known = {concept.name for concept in CONCEPTS}
    for unit in units:
        assert set(unit.terms) <= known
        assert (unit.auroc is None) == (unit.kind == "dead")
        if unit.kind in TAUGHT:
            assert len(set(unit.terms)) == (2 if unit.kind in ("or", "and", "context") else 1)
            assert unit.auroc is not None
            assert unit.auroc >= FLOOR
        if unit.kind == "decoy":
            assert unit.terms == ()
            assert unit.auroc is not None
            assert 0.5 <= unit.auroc <= DECOY_CEILING


@pytest.mark.parametrize("name", PLANTED)
def test_duplicates_are_second_units_of_a_concept(name: str) -> None:
    singles = {unit.terms for unit in of_kind(name, "single", "unclear")}
    assert {unit.terms for unit in of_kind(name, "duplicate")} <= singles


def test_held_out_concepts_are_in_no_network_that_is_fitted_on() -> None:
    assert set(PLACE) >= HELD_OUT_CONCEPTS
    terms = {name: {term for unit in truth(name) for term in unit.terms} for name in PLANTED}
    assert all(not terms[name] & HELD_OUT_CONCEPTS for name in FITTED)
    assert all(len(terms[name] & HELD_OUT_CONCEPTS) >= 5 for name in (*LOOKED_AT, *HELD_OUT))
    assert not set(FITTED) & set(LOOKED_AT) | set(HELD_OUT) & {*FITTED, *LOOKED_AT}


def test_no_two_networks_have_the_same_truth() -> None:
    assert len({tuple((unit.kind, unit.terms) for unit in truth(name)) for name in PLANTED}) == len(PLANTED)


@pytest.mark.parametrize("name", PLANTED)
def test_units_do_what_their_truth_says_on_fresh_scenes(name: str) -> None:
    for kind in TAUGHT:
        found = [value for unit in of_kind(name, kind) if (value := measured(name, unit)) is not None]
        assert not of_kind(name, kind) or found
        # Eight scenes of 400 measure an AUROC to 0.07: so far under the floor a few units may seem to be.
        assert not found or np.median(found) >= (0.9 if len(found) >= 5 else FLOOR - 0.07), kind


@pytest.mark.parametrize("name", PLANTED)
def test_the_written_auroc_is_what_is_measured(name: str) -> None:
    """On average: one unit's AUROC on so few scenes may be off by 0.05, that of 70 units by 0.01."""
    pairs = [(measured(name, unit), unit.auroc) for unit in of_kind(name, *TAUGHT)]
    off = [found - written for found, written in pairs if found is not None and written is not None]
    assert len(off) >= 40
    assert abs(np.mean(off)) < 0.015


@pytest.mark.parametrize("name", PLANTED)
def test_dead_units_are_constant_and_no_others(name: str) -> None:
    spans = np.ptp(pooled(name), axis=0)
    dead = [unit.index for unit in of_kind(name, "dead")]
    assert (spans[dead] == 0).all()
    assert (np.delete(spans, dead) > 1e-3).all()


@pytest.mark.parametrize("name", PLANTED)
def test_no_concept_goes_with_a_decoy(name: str) -> None:
    """Each AUROC stays within `DECOY_CEILING`, but for what chance adds to any of so many at so few scenes.

    An AUROC of m scenes with and k without a concept has a standard error of √((m + k + 1) / 12mk) where
    nothing goes with anything (Mann & Whitney 1947), less with ties; the tolerance is the quantile at which
    none of all units and concepts of the network exceeds it by chance in 99 of 100 probes (Bonferroni).
    """
    present_nc = fresh().areas >= PRESENT
    concepts = [c for c in range(len(CONCEPTS)) if FEWEST <= present_nc[:, c].sum() <= SCENES - FEWEST]
    decoys = of_kind(name, "decoy")
    deviations = NormalDist().inv_cdf(1 - 0.01 / (2 * max(1, len(decoys)) * len(concepts)))
    for unit in decoys:
        for c in concepts:
            shown = int(present_nc[:, c].sum())
            error = np.sqrt((SCENES + 1) / (12 * shown * (SCENES - shown)))
            away = abs(auroc(pooled(name)[:, unit.index], present_nc[:, c]) - 0.5)
            assert away <= DECOY_CEILING - 0.5 + deviations * error, (unit.index, CONCEPTS[c].name)


@pytest.mark.parametrize("name", PLANTED)
def test_decoys_fire_now_and_then(name: str) -> None:
    """A decoy that is silent everywhere would be a dead unit, and one that never rests no decoy at all."""
    for unit in of_kind(name, "decoy"):
        assert (pooled(name)[:, unit.index] > 0).mean() > 0.05
        assert len(np.unique(pooled(name)[:, unit.index])) > SCENES // 10


@pytest.mark.parametrize("name", ["planted-1", "planted-8"])
def test_a_planted_network_is_a_target(name: str) -> None:
    target = load_target(TargetConfig(model=f"builtin:{name}", layers=[LAYER]), seed=0, device="cpu")
    assert target.layers == (LAYER,)
    assert target.unit_count(LAYER) == UNITS
    assert target.input_size == (planted.INPUT, planted.INPUT)
    images = [Image.fromarray(render_scene(SEED, index, 224).image) for index in range(16)]
    with torch.inference_mode():
        maps = target.maps(torch.stack([target.prepare(image) for image in images]), [LAYER])[LAYER]
    assert maps.shape == (16, UNITS, planted.INPUT // 8, planted.INPUT // 8)
    assert (maps >= 0).all()
    seen, own = maps.amax(dim=(2, 3)).numpy(), pooled(name)[:16]
    live = np.ptp(own, axis=0) > 0.2
    together = [np.corrcoef(seen[:, u], own[:, u])[0, 1] for u in np.flatnonzero(live)]
    assert np.median(together) > 0.99  # the target's own preprocessing is that of the training


def test_random_weights_plant_nothing() -> None:
    config = TargetConfig(model="builtin:planted-1", layers=[LAYER], weights="random")
    images = normalised(fresh().images[:4])
    networks = [load_target(config, seed=seed, device="cpu") for seed in (0, 0, 1)]
    with torch.inference_mode():
        first, again, other = (network.maps(images, [LAYER])[LAYER] for network in networks)
        trained = planted.load("planted-1")(images)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.allclose(first, trained, atol=1e-2)


def test_another_name_is_an_error_that_lists_the_names() -> None:
    with pytest.raises(KeyError, match="planted-8"):
        truth("planted-99")
    with pytest.raises(KeyError, match="planted-99"):
        planted.load("planted-99")
