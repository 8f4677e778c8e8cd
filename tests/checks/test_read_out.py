"""What photographs taught of units: pictures along other directions, and tops of another kind, stand low."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.checks import PathCodes, PathSignals, Samples, Standings, read_standings
from labeler.checks.read_out import fit_read_out, standings

UNITS, WIDTHS, KINDS = 24, (30, 20), 12
IMAGES, PLACES = 200, 10


class World:
    """Units each answer to a concept of their own; photographs show a few of these, one at a place.

    Features have two modules of `WIDTHS`, concepts `UNITS` directions in them, which photographs vary along;
    ``away_d`` is a direction along which photographs never vary, and which the pictures of all have.
    """

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.concept_ud = self.random.standard_normal((UNITS, sum(WIDTHS))).astype(np.float32)
        self.away_d = 5 * self.random.standard_normal(sum(WIDTHS))

    def code(self, concept: int, noise: float = 0.3) -> np.ndarray:
        return self.concept_ud[concept] + noise * self.random.standard_normal(sum(WIDTHS))

    def samples(self, topped: dict[int, int] | None = None) -> Samples:
        """`topped`: units whose strongest photographs show another unit's concept."""
        shown_n = self.random.integers(0, UNITS, IMAGES * PLACES)
        features = np.stack([self.code(concept) for concept in shown_n]).astype(np.float32)
        activations = (shown_n[:, None] == np.arange(UNITS)).astype(np.float32)
        image_n = np.repeat(np.arange(IMAGES), PLACES)
        top_ir = np.zeros((IMAGES, UNITS), bool)
        for unit, other in (topped or {}).items():
            found = np.flatnonzero(shown_n == other)[:8]
            activations[found, unit] = 3.0
            top_ir[image_n[found], unit] = True
        columns = np.arange(sum(WIDTHS))
        return Samples(features, columns, WIDTHS, activations, image_n, top_ir)

    def codes(self, forged: dict[int, int] | None = None, topped: dict[int, int] | None = None) -> PathCodes:
        """`forged`: units whose pictures show another unit's concept."""
        forged, topped = forged or {}, topped or {}
        pictures = [
            (self.code(forged.get(unit, unit)) + self.away_d, unit, second)
            for unit in range(UNITS)
            for second in (False, False, True)
        ]
        photographs = [(self.code(topped.get(unit, unit)), unit) for unit in range(UNITS) for _ in range(5)]
        owner_k = np.array([unit for _, unit in photographs])
        photographs_kd = np.stack([code for code, _ in photographs]).astype(np.float32)
        return PathCodes(
            WIDTHS,
            np.stack([code for code, _, _ in pictures]).astype(np.float32),
            np.array([unit for _, unit, _ in pictures]),
            np.zeros(len(pictures), int),
            np.array([second for _, _, second in pictures]),
            photographs_kd, owner_k, photographs_kd, owner_k,
            np.eye(UNITS, dtype=bool),
        )  # fmt: skip


def test_honest_units_stand_above_all_others() -> None:
    world = World()
    found = read_standings(world.codes(), world.samples())
    for standing_r in (found.pictures_r, found.second_r, found.exemplars_r):
        assert standing_r.min() > 2


def test_forged_pictures_stand_low_and_their_units_exemplars_do_not() -> None:
    world, forged = World(), {3: 4, 11: 12, 20: 2}
    found = read_standings(world.codes(forged=forged), world.samples())
    honest = [unit for unit in range(UNITS) if unit not in forged]
    for standing_r in (found.pictures_r, found.second_r):
        assert standing_r[list(forged)].max() < 2 < standing_r[honest].min()
    assert found.exemplars_r.min() > 2
    assert set(np.argsort(found.weakest_r)[:3]) == set(forged)


def test_strongest_photographs_of_another_kind_stand_low_though_they_drive_the_unit() -> None:
    world, topped = World(), {3: 4, 11: 12}
    samples = world.samples(topped)
    found = read_standings(world.codes(topped=topped), samples)
    honest = [unit for unit in range(UNITS) if unit not in topped]
    assert found.exemplars_r[list(topped)].max() < 1 < found.exemplars_r[honest].min()
    taught = replace(samples, top_ir=np.zeros_like(samples.top_ir))  # the strongest are believed
    believed = read_standings(world.codes(topped=topped), taught)
    assert (believed.exemplars_r[list(topped)] > found.exemplars_r[list(topped)]).all()


def test_a_circuit_that_photographs_do_not_use_is_not_read() -> None:
    """Pictures that drive a unit along a direction in which photographs do not vary: not by its read-out."""
    world = World()
    codes, samples = world.codes(), world.samples()
    quiet = np.zeros(sum(WIDTHS), np.float32)
    quiet[-1] = 1.0
    flat = samples.features_nd.copy()
    flat[:, -1] = 0.001 * world.random.standard_normal(len(flat))
    read_out = fit_read_out(replace(samples, features_nd=flat))
    assert read_out is not None
    shown = codes.photographs_kd.copy()
    shown[:, -1] = 0
    change = read_out.components(shown + quiet) - read_out.components(shown)
    assert np.abs(change @ read_out.weights_cr).max() < 0.5


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-5, 5))
def test_the_scale_and_offset_of_activations_and_features_change_nothing(
    seed: int, scale: float, offset: float
) -> None:
    world = World(seed)
    codes, samples = world.codes(), world.samples()
    moved = replace(samples, activations_nr=(scale * samples.activations_nr + offset).astype(np.float32))
    one, other = read_standings(codes, samples), read_standings(codes, moved)
    assert other.pictures_r == pytest.approx(one.pictures_r, rel=1e-2, abs=1e-2)


def test_too_few_places_or_units_say_nothing() -> None:
    world = World()
    codes, samples = world.codes(), world.samples()
    few = slice(0, 4 * sum(WIDTHS) - 1)
    short = replace(
        samples, features_nd=samples.features_nd[few], activations_nr=samples.activations_nr[few],
        image_n=samples.image_n[few],
    )  # fmt: skip
    assert np.isnan(read_standings(codes, short).pictures_r).all()
    read_out = fit_read_out(samples)
    assert read_out is not None
    ten = codes.owner_k < 10
    assert np.isnan(
        standings(read_out, codes.photographs_kd[ten], codes.owner_k[ten], codes.related_uu)
    ).all()


def test_related_units_are_not_compared_with() -> None:
    """A twin that answers the same would hide that both are honest."""
    world = World()
    world.concept_ud[1] = world.concept_ud[0]
    related = np.eye(UNITS, dtype=bool)
    related[0, 1] = related[1, 0] = True
    codes, samples = world.codes(), world.samples()
    apart = read_standings(replace(codes, related_uu=related), samples)
    together = read_standings(codes, samples)
    assert apart.pictures_r[0] > together.pictures_r[0]


def test_signals_have_the_lower_of_pictures_and_photographs_and_what_a_quarter_reach() -> None:
    found = Standings(
        np.array([8.0, 6.0, 2.0, np.nan]), np.array([4.0, np.nan, 4.0, 5.0]), np.array([6.0, 2.0, 9.0, 9.0])
    )
    assert found.weakest_r == pytest.approx([6.0, 3.0, 3.0, np.nan], nan_ok=True)
    first, last = (found.added(PathSignals(percentile=0.9), row) for row in (0, 3))
    assert (first.percentile, first.standing, first.second_standing, first.exemplars_standing) == (
        0.9,
        8,
        4,
        6,
    )
    assert first.weakest_standing == 6
    assert first.usual_standing == last.usual_standing == pytest.approx(4.5)
    assert (last.standing, last.second_standing, last.weakest_standing) == (None, 5, None)
