import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.propose.softwpmi import concept_probabilities, log_likelihood, soft_wpmi


def published(probabilities_nl, ids_uk, reference_rk=None, penalty=1.0):
    """One unit after another in double precision, written from the formula of the paper's appendix."""

    def likelihood(ids):
        p_in = 0.998 - torch.arange(len(ids), dtype=torch.float64) / len(ids) * (0.998 - 0.97)
        inner = 1 + p_in[:, None] * (probabilities_nl[ids].double() - 1)
        return torch.log(inner + 1e-7).sum(dim=0)

    units = torch.stack([likelihood(ids[ids >= 0]) for ids in ids_uk])
    reference = units if reference_rk is None else torch.stack([likelihood(ids) for ids in reference_rk])
    return units - penalty * torch.log(torch.exp(reference).mean(dim=0))


def draw(seed, images, concepts, units, exemplars, sharpness=10.0):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(images + concepts, 16, generator=generator)
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    probabilities = concept_probabilities(vectors[:images], vectors[images:], sharpness)
    ids = torch.stack([torch.randperm(images, generator=generator)[:exemplars] for _ in range(units)])
    return probabilities, ids


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 60),
    st.integers(1, 9),
    st.integers(1, 40),
    st.sampled_from([1.0, 10, 99]),
)
def test_equals_the_loop_over_units(seed, concepts, units, exemplars, sharpness):
    probabilities, ids = draw(seed, 40, concepts, units, exemplars, sharpness)
    torch.testing.assert_close(
        soft_wpmi(probabilities, ids).double(), published(probabilities, ids), rtol=1e-4, atol=1e-3
    )
    lengths = torch.arange(units) % exemplars + 1
    ragged = torch.where(torch.arange(exemplars) < lengths[:, None], ids, -1)
    torch.testing.assert_close(
        log_likelihood(probabilities, ragged).double(), published(probabilities, ragged, penalty=0.0),
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip


def test_equals_the_loop_across_tiles():
    probabilities, ids = draw(1, 300, 5000, 70, 100)
    found = log_likelihood(probabilities, ids).double()
    assert ((found - published(probabilities, ids, penalty=0.0)) / found).abs().max() < 1e-4


def test_with_a_fixed_reference_a_score_does_not_depend_on_the_other_units():
    probabilities, ids = draw(2, 60, 30, 12, 20)
    together, alone = soft_wpmi(probabilities, ids[4:], ids[:4]), soft_wpmi(probabilities, ids[7:8], ids[:4])
    torch.testing.assert_close(together[3:4], alone)
    torch.testing.assert_close(
        alone.double(), published(probabilities, ids[7:8], ids[:4]), rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("count", [1, 13])
def test_exemplars_that_no_concept_fits_stay_finite(count):
    probabilities = torch.zeros(count, 3)
    probabilities[:, 0] = 1.0
    found = log_likelihood(probabilities, torch.arange(count)[None])
    assert torch.isfinite(found).all()
    assert found.argmax() == 0
