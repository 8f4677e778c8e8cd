"""What is optimised in place of pixels: a colour-decorrelated Fourier spectrum (Olah et al. 2017, lucid)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

# Square root of the covariance of ImageNet's pixel colours, and how lucid scales it
# (lucid/optvis/param/color.py, `color_correlation_svd_sqrt`, divided by its largest column norm).
_COLOUR = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_COLOUR_SCALE = 1 / float(_COLOUR.norm(dim=0).max())
_START_DEVIATION = 0.01  # lucid's `fft_image`: almost grey, so that the unit and not the noise decides
_SPECTRUM_SCALE = 0.25  # lucid's `fft_image`: keeps Adam 0.05 in the sigmoid's useful range


def start_spectra(size: tuple[int, int], generators: Sequence[torch.Generator]) -> torch.Tensor:
    """Initial spectra, one from each generator.

    Args:
        size: (h, w) of the pictures in pixels.
        generators: CPU generators; a picture's start depends on its own alone.

    Returns:
        Real and imaginary parts, ``(b, 3, h, w // 2 + 1, 2)``, normal with deviation 0.01.
    """
    shape = (3, size[0], size[1] // 2 + 1, 2)
    return torch.stack([torch.randn(shape, generator=g) * _START_DEVIATION for g in generators])


def frequency_scale(size: tuple[int, int]) -> torch.Tensor:
    """Weights 1 / max(f, 1 / max(h, w)) of every frequency: the amplitude spectrum of natural images.

    Args:
        size: (h, w) of the pictures in pixels.

    Returns:
        ``(h, w // 2 + 1, 1)``, to multiply spectra with.
    """
    rows_h1 = torch.fft.fftfreq(size[0])[:, None]
    columns_1w = torch.fft.rfftfreq(size[1])[None, :]
    frequencies_hw = torch.sqrt(rows_h1**2 + columns_1w**2)
    return (1 / frequencies_hw.clamp(min=1 / max(size)))[:, :, None]


def pictures(spectra_bchw2: torch.Tensor, scale_hw1: torch.Tensor, width: int) -> torch.Tensor:
    """Spectra to pictures: inverse transform, colour correlation, sigmoid.

    Args:
        spectra_bchw2: as `start_spectra` returns them.
        scale_hw1: as `frequency_scale` returns it, on the same device.
        width: of the pictures in pixels, which a half spectrum does not tell.

    Returns:
        Pictures in (0, 1), ``(b, 3, h, width)``.
    """
    size = (scale_hw1.shape[0], width)
    complex_bchw = torch.view_as_complex((spectra_bchw2 * scale_hw1).contiguous())
    decorrelated_bchw = torch.fft.irfft2(complex_bchw, s=size, norm="ortho") * _SPECTRUM_SCALE
    colour = (_COLOUR * _COLOUR_SCALE).to(decorrelated_bchw)
    return torch.einsum("dc,bchw->bdhw", colour, decorrelated_bchw).sigmoid()
