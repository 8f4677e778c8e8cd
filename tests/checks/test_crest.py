"""Photographs that lead a unit's list without being of its kind."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.checks import crest_auroc
from labeler.checks.crest import CREST_COST, CREST_LOW, crest_cost

IMAGES, DIM = 600, 12


def probe(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings, and units that answer to one direction each, not without noise."""
    random = np.random.default_rng(seed)
    embeddings_nd = random.standard_normal((IMAGES, DIM)).astype(np.float32)
    maxima_nu = embeddings_nd[:, :8] + 0.5 * random.standard_normal((IMAGES, 8))
    return embeddings_nd, maxima_nu.astype(np.float32)


def pushed(maxima_nu: np.ndarray, unit: int, other: int, count: int = 36) -> np.ndarray:
    """The strongest photographs of `other` lead the list of `unit`, and its own strongest are gone."""
    found = maxima_nu.copy()
    own = np.argsort(-maxima_nu[:, unit])[:count]
    led = np.argsort(-maxima_nu[:, other])[:count]
    found[own, unit] = np.median(maxima_nu[:, unit])
    found[led, unit] = maxima_nu[:, unit].max() + np.arange(count)
    return found


def test_an_honest_crest_is_at_least_what_comes_next() -> None:
    embeddings_nd, maxima_nu = probe()
    assert crest_auroc(maxima_nu, [embeddings_nd]).min() > CREST_LOW


def test_a_crest_of_another_kind_is_told() -> None:
    embeddings_nd, maxima_nu = probe()
    found_u = crest_auroc(pushed(maxima_nu, 2, 5), [embeddings_nd])
    honest_u = crest_auroc(maxima_nu, [embeddings_nd])
    assert found_u[2] < 0.3
    assert np.delete(found_u, 2) == pytest.approx(np.delete(honest_u, 2))


def test_several_encoders_are_heard_and_one_that_sees_nothing_does_not_hide_it() -> None:
    embeddings_nd, maxima_nu = probe()
    noise_nd = np.random.default_rng(9).standard_normal((IMAGES, DIM)).astype(np.float32)
    assert crest_auroc(pushed(maxima_nu, 2, 5), [embeddings_nd, noise_nd])[2] < 0.35


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 50), st.floats(-9, 9))
def test_only_the_order_of_activations_counts_and_no_axis_of_the_embeddings(
    seed: int, scale: float, offset: float
) -> None:
    embeddings_nd, maxima_nu = probe(seed)
    turned, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((DIM, DIM)))
    one = crest_auroc(maxima_nu, [embeddings_nd])
    other = crest_auroc(np.exp(maxima_nu / 4), [(scale * embeddings_nd @ turned + offset).astype(np.float32)])
    assert other == pytest.approx(one, abs=0.02)
    assert ((one >= 0) & (one <= 1)).all()


def test_little_to_look_at_says_nothing() -> None:
    embeddings_nd, maxima_nu = probe()
    assert np.isnan(crest_auroc(maxima_nu[:80], [embeddings_nd[:80]])).all()
    assert np.isnan(crest_auroc(maxima_nu, [])).all()
    flat = maxima_nu.copy()
    flat[:, 3] = 1.0
    found_u = crest_auroc(flat, [embeddings_nd])
    assert np.isnan(found_u[3])
    assert np.isfinite(np.delete(found_u, 3)).all()


def test_what_a_crest_costs() -> None:
    assert crest_cost(None) == crest_cost(0.5) == crest_cost(CREST_LOW) == 0
    assert crest_cost(CREST_LOW - 0.1) == pytest.approx(0.1 * CREST_COST)
