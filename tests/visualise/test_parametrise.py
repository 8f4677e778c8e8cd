import torch

from labeler.visualise.parametrise import frequency_scale, pictures, start_spectra


def _start(size, seeds):
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pictures(start_spectra(size, generators), frequency_scale(size), size[1])


def test_pictures_start_near_grey_within_zero_and_one():
    images_bchw = _start((20, 31), [0, 1])
    assert images_bchw.shape == (2, 3, 20, 31)
    assert images_bchw.min() > 0
    assert images_bchw.max() < 1
    assert (images_bchw - 0.5).abs().mean() < 0.05


def test_a_picture_depends_on_its_own_seed_alone():
    together, alone = _start((16, 16), [3, 4]), _start((16, 16), [4])
    torch.testing.assert_close(together[1], alone[0], rtol=0, atol=1e-7)
    assert not torch.allclose(together[0], together[1])


def test_low_frequencies_weigh_more():
    scale_hw = frequency_scale((16, 16))[:, :, 0]
    assert scale_hw[0, 0] == 16  # the constant counts like the lowest frequency
    assert scale_hw[0, 1] == 16
    assert scale_hw[0, 8] == 2
    assert (scale_hw[0, 1:].diff() < 0).all()


def test_colours_are_correlated_as_in_photographs():
    """An equal change of the first decorrelated component moves all three colours the same way."""
    spectra = torch.zeros(1, 3, 8, 5, 2)
    spectra[0, 0, 0, 0, 0] = 1.0
    image_chw = pictures(spectra, frequency_scale((8, 8)), 8)[0]
    assert (image_chw > 0.5).all()
