import math

import pytest
import torch

from labeler.visualise.natural import frequencies, natural
from labeler.visualise.parametrise import PARAMETRISATIONS, Maco

CPU = torch.device("cpu")
NAMES = list(PARAMETRISATIONS)


def _generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _made(name, size, *seeds):
    parametrisation = PARAMETRISATIONS[name](size, CPU)
    return parametrisation.pictures(parametrisation.start(_generators(*seeds)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(20, 31), (16, 16)])
def test_pictures_have_the_size_and_lie_in_zero_to_one(name, size):
    pictures_bchw = _made(name, size, 0, 1)
    assert pictures_bchw.shape == (2, 3, *size)
    assert pictures_bchw.min() > 0
    assert pictures_bchw.max() < 1


@pytest.mark.parametrize("name", ["pixel", "fourier"])
def test_what_has_a_free_magnitude_starts_near_grey(name):
    assert (_made(name, (32, 32), 0) - 0.5).abs().mean() < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_depends_on_its_own_seed_alone(name):
    together, alone = _made(name, (16, 16), 3, 4), _made(name, (16, 16), 4)
    assert torch.equal(together[1], alone[0])
    assert not torch.allclose(together[0], together[1])


@pytest.mark.parametrize("name", ["pixel", "fourier"])
@pytest.mark.parametrize("size", [(20, 31), (32, 32)])
def test_the_parameters_of_a_picture_give_it_back(name, size):
    parametrisation = PARAMETRISATIONS[name](size, CPU)
    given = 0.1 + 0.8 * torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(parametrisation.pictures(parametrisation.parameters(given)), given)


def test_the_phase_of_a_picture_keeps_where_things_are():
    """A bright square stays where it was, whatever becomes of its spectrum."""
    square = torch.full((1, 3, 64, 64), 0.3)
    square[:, :, 8:20, 40:52] = 0.9
    again = Maco((64, 64), CPU).pictures(Maco((64, 64), CPU).parameters(square)).mean(dim=1)[0]
    assert again[8:20, 40:52].mean() > again.mean() + 2 * again.std() / math.sqrt(2)


def test_white_pictures_have_no_infinite_parameters():
    for name in NAMES:
        parametrisation = PARAMETRISATIONS[name]((8, 8), CPU)
        assert torch.isfinite(parametrisation.parameters(torch.ones(1, 3, 8, 8))).all()


def test_maco_keeps_the_magnitudes_of_photographs_whatever_the_phases():
    maco, statistics = Maco((32, 48), CPU), natural()
    phases = maco.start(_generators(0, 1)) * 7
    logits = maco.pictures(phases).logit().flatten(2)
    decorrelated = torch.linalg.solve(statistics.colour_dc, logits).view(2, 3, 32, 48)
    found = torch.fft.rfft2(decorrelated, norm="ortho").abs()[
        :, :, 1:16, 1:24
    ]  # real where it mirrors itself
    expected = statistics.magnitude((32, 48))[:, 1:16, 1:24].expand_as(found)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3)


def test_natural_magnitudes_fall_about_as_one_over_frequency():
    for size in [(64, 64), (128, 128), (224, 160)]:
        magnitude, frequency = natural().magnitude(size)[0], frequencies(size)
        low, high = ((frequency > f) & (frequency < 1.3 * f) for f in (0.03, 0.24))
        slope = (magnitude[low].mean() / magnitude[high].mean()).log() / math.log(8)
        assert 1.0 < slope < 1.8


def test_natural_magnitudes_do_not_depend_on_the_pictures_size():
    small, large = natural().magnitude((64, 64)), natural().magnitude((128, 128))
    torch.testing.assert_close(small[:, 4:12, 4:12], large[:, 8:24:2, 8:24:2])


def test_colours_are_correlated_as_in_photographs():
    """The first decorrelated colour moves all three the same way, and is the strongest."""
    colour_dc = natural().colour_dc
    assert (colour_dc[:, 0] > 0).all()
    assert colour_dc.norm(dim=0)[0] > 2 * colour_dc.norm(dim=0)[1:].max()
