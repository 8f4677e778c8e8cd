import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from labeler.checks import PathCodes, path_likeness, place_weights

UNITS, WIDTHS = 32, (20, 30)


def world(seed=0, forged=(), second_forged=(), topped=(), units=UNITS, offset=3.0, noise=0.4):
    """Unit u's exemplars lie around a code of its own, and so do its pictures; a forged unit's lie around
    that of the unit after it, and so do the images from the middle of a topped unit's range. Pictures are
    moved by an offset that photographs do not have."""
    generator = np.random.default_rng(seed)
    width = sum(WIDTHS)
    kind_ud = generator.standard_normal((units, width))
    away_d = offset * generator.standard_normal(width)

    def around(unit):
        return kind_ud[unit] + noise * generator.standard_normal(width)

    photographs = [(around(unit), unit) for unit in range(units) for _ in range(4)]
    middle = [(around((unit + (unit in topped)) % units), unit) for unit in range(units) for _ in range(4)]
    pictures = [
        (around((unit + (unit in wrong)) % units) + away_d, unit, second)
        for second, wrong in ((False, forged), (True, second_forged))
        for unit in range(units)
        for _ in range(1 if second else 2)
    ]
    return PathCodes(
        WIDTHS,
        np.array([code for code, _, _ in pictures], np.float32),
        np.array([unit for _, unit, _ in pictures]),
        np.array([-1 if second else 0 for _, _, second in pictures]),
        np.array([second for _, _, second in pictures]),
        np.array([code for code, _ in photographs], np.float32),
        np.array([unit for _, unit in photographs]),
        np.array([code for code, _ in middle], np.float32),
        np.array([unit for _, unit in middle]),
        np.eye(units, dtype=bool),
    )


def test_pictures_are_like_their_own_exemplars_whatever_all_pictures_have_in_common():
    found = path_likeness(world())
    assert found.why == ""
    assert found.percentile_u.min() > 0.9
    assert found.second_percentile_u.min() > 0.9
    assert np.median(found.similarity_u) == pytest.approx(1.0, abs=0.3)
    assert found.stability_u.min() > 0.9


def test_a_forged_picture_is_told_from_the_photographs_and_from_the_other_parametrisation():
    forged = (3, 11, 20)
    found = path_likeness(world(forged=forged))
    honest = [unit for unit in range(UNITS) if unit not in forged]
    assert found.percentile_u[list(forged)].max() < found.percentile_u[honest].min()
    assert found.similarity_u[list(forged)].max() < found.similarity_u[honest].min()
    assert found.second_percentile_u[list(forged)].min() > 0.9
    assert found.stability_u[list(forged)].max() < found.stability_u[honest].min()


def test_photographs_that_only_the_top_of_the_range_shows_are_found():
    topped = (3, 11)
    found = path_likeness(world(topped=topped))
    rest = [unit for unit in range(UNITS) if unit not in topped]
    assert found.range_percentile_u[list(topped)].max() < found.range_percentile_u[rest].min()
    assert found.percentile_u.min() > 0.9


def test_where_no_picture_finds_its_exemplars_nothing_is_said():
    found = path_likeness(world(forged=tuple(range(UNITS))))
    assert "no more like their own exemplars" in found.why
    assert "percentile" in found.why
    assert found.of(0).why == found.why


def test_with_few_units_nothing_is_said():
    found = path_likeness(world(units=6))
    assert "12 are needed" in found.why
    assert found.of(0).percentile is None


def test_a_unit_without_pictures_has_no_signals():
    codes = world()
    kept_f = codes.owner_f != 5
    found = path_likeness(
        PathCodes(
            WIDTHS, codes.pictures_fd[kept_f], codes.owner_f[kept_f], codes.facet_f[kept_f],
            codes.second_f[kept_f], codes.photographs_kd, codes.owner_k, codes.middle_md, codes.owner_m,
            codes.related_uu,
        )
    )  # fmt: skip
    assert found.of(5).percentile is None
    assert found.of(5).stability is None
    assert found.of(4).percentile is not None


def test_related_units_are_not_compared():
    codes = world(forged=(3,))
    related = codes.related_uu.copy()
    related[3, 4] = related[4, 3] = True  # the unit whose thing unit 3 shows is the same unit
    alone = path_likeness(codes).percentile_u[3]
    joined = path_likeness(
        PathCodes(
            WIDTHS, codes.pictures_fd, codes.owner_f, codes.facet_f, codes.second_f, codes.photographs_kd,
            codes.owner_k, codes.middle_md, codes.owner_m, related,
        )
    ).percentile_u[3]  # fmt: skip
    assert joined >= alone


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(16)))
def test_the_order_of_units_does_not_matter(order):
    codes = world(units=16, forged=(2, 7))
    place = np.argsort(order)  # unit u becomes unit place[u]
    moved = PathCodes(
        WIDTHS, codes.pictures_fd, place[codes.owner_f], codes.facet_f, codes.second_f, codes.photographs_kd,
        place[codes.owner_k], codes.middle_md, place[codes.owner_m], codes.related_uu,
    )  # fmt: skip
    np.testing.assert_allclose(
        path_likeness(moved).percentile_u[place], path_likeness(codes).percentile_u, atol=1e-6
    )


@given(arrays(np.float32, (5, 7), elements=st.floats(-1e3, 1e3, width=32)))
def test_weights_lie_where_the_unit_fires_most(map_hw):
    weights_hw = place_weights(map_hw)
    assert weights_hw.sum() == pytest.approx(1.0, abs=1e-4)
    assert (weights_hw >= 0).all()
    if np.ptp(map_hw) > 0:
        assert weights_hw.flat[map_hw.argmax()] == weights_hw.max()
        assert weights_hw.flat[map_hw.argmin()] == 0
