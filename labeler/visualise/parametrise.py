"""What is optimised in place of a picture: its pixels, its Fourier spectrum, or the phase of that alone.

Each is a function from parameters to pictures that is undone by `parameters`, so that a picture can start
from another. Picture i of a batch depends on parameters i alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import torch

from labeler.visualise.natural import Natural, frequencies, natural

Parameters = torch.Tensor  # (b, ...)

_START_DEVIATION = 0.01  # lucid's `fft_image`: almost grey, so that the unit and not the noise decides
_SPECTRUM_SCALE = 0.25  # lucid's `fft_image`: keeps Adam 0.05 in the sigmoid's useful range
_EDGE = 1 / 512  # a pixel of 0 or 1 has no logit; half a step of 8 bits


class Parametrisation(Protocol):
    """Parameters to pictures of one size in [0, 1], ``(b, 3, h, w)``, and back.

    `rate` is by how much larger than the config's the learning rate has to be.
    """

    rate: float

    def start(self, generators: Sequence[torch.Generator]) -> Parameters:
        """Parameters of pictures to begin with, one from each CPU generator, on the CPU."""
        ...

    def pictures(self, parameters: Parameters) -> torch.Tensor:
        """The pictures ``(b, 3, h, w)``, differentiable in the parameters."""
        ...

    def parameters(self, pictures_bchw: torch.Tensor) -> Parameters:
        """The parameters of given pictures, as nearly as they can be had."""
        ...


class Pixels:
    """The logit of every pixel: nothing is assumed of the picture. High frequencies take over easily."""

    rate = 1.0

    def __init__(self, size: tuple[int, int], device: torch.device) -> None:
        self._size = size

    def start(self, generators: Sequence[torch.Generator]) -> Parameters:
        """Almost grey noise, ``(b, 3, h, w)``."""
        return torch.stack([torch.randn(3, *self._size, generator=g) * _START_DEVIATION for g in generators])

    def pictures(self, parameters: Parameters) -> torch.Tensor:
        """The sigmoid."""
        return parameters.sigmoid()

    def parameters(self, pictures_bchw: torch.Tensor) -> Parameters:
        """The logit."""
        return pictures_bchw.clamp(_EDGE, 1 - _EDGE).logit()


class Fourier:
    """A spectrum of decorrelated colours, scaled by 1/f (Olah et al. 2017; lucid's `fft_image`).

    A step of Adam moves every frequency by as much, so that pictures have the spectrum of photographs as long
    as the unit has no reason against it.
    """

    rate = 1.0

    def __init__(self, size: tuple[int, int], device: torch.device) -> None:
        self._size = size
        frequency_hw = frequencies(size).clamp(min=1 / max(size))  # the constant counts like the lowest
        self._scale_hw1 = (_SPECTRUM_SCALE / frequency_hw)[:, :, None].to(device)
        colour_dc = natural().colour_dc
        self._colour_dc = (colour_dc / colour_dc.norm(dim=0).max()).to(device)  # lucid's normalisation

    def start(self, generators: Sequence[torch.Generator]) -> Parameters:
        """Almost grey noise: real and imaginary parts, ``(b, 3, h, w // 2 + 1, 2)``."""
        shape = (3, self._size[0], self._size[1] // 2 + 1, 2)
        return torch.stack([torch.randn(shape, generator=g) * _START_DEVIATION for g in generators])

    def pictures(self, parameters: Parameters) -> torch.Tensor:
        """Inverse transform, colour correlation, sigmoid."""
        spectra_bchw = torch.view_as_complex(parameters * self._scale_hw1)
        decorrelated_bchw = torch.fft.irfft2(spectra_bchw, s=self._size, norm="ortho")
        return mix(self._colour_dc, decorrelated_bchw).sigmoid()

    def parameters(self, pictures_bchw: torch.Tensor) -> Parameters:
        """The reverse."""
        logits_bchw = pictures_bchw.clamp(_EDGE, 1 - _EDGE).logit()
        spectra_bchw = torch.fft.rfft2(mix(self._colour_dc.inverse(), logits_bchw), norm="ortho")
        return torch.view_as_real(spectra_bchw) / self._scale_hw1


class Maco:
    """The phase alone, under the magnitudes of photographs (Fel et al. 2023, sec. 3).

    No frequency can take over, so that no other regularisation is needed, and no picture can be duller or
    louder than a photograph. The magnitudes are those of logits, in which the pictures are made.
    """

    rate = 4.0

    def __init__(
        self, size: tuple[int, int], device: torch.device, statistics: Natural | None = None
    ) -> None:
        statistics = statistics or natural()
        self._size = size
        self._magnitude_chw = statistics.magnitude(size).to(device)
        self._colour_dc = statistics.colour_dc.to(device)

    def start(self, generators: Sequence[torch.Generator]) -> Parameters:
        """Phases ``(b, 3, h, w // 2 + 1)``, uniform."""
        shape = (3, self._size[0], self._size[1] // 2 + 1)
        return torch.stack([(2 * torch.rand(shape, generator=g) - 1) * math.pi for g in generators])

    def pictures(self, parameters: Parameters) -> torch.Tensor:
        """Inverse transform, colour correlation, sigmoid."""
        spectra_bchw = torch.polar(self._magnitude_chw.expand_as(parameters), parameters)
        decorrelated_bchw = torch.fft.irfft2(spectra_bchw, s=self._size, norm="ortho")
        return mix(self._colour_dc, decorrelated_bchw).sigmoid()

    def parameters(self, pictures_bchw: torch.Tensor) -> Parameters:
        """The phases of given pictures; their magnitudes are lost."""
        logits_bchw = pictures_bchw.clamp(_EDGE, 1 - _EDGE).logit()
        spectra_bchw: torch.Tensor = torch.fft.rfft2(mix(self._colour_dc.inverse(), logits_bchw))
        return spectra_bchw.angle()


PARAMETRISATIONS: Final[dict[str, Callable[[tuple[int, int], torch.device], Parametrisation]]] = {
    "pixel": Pixels,
    "fourier": Fourier,
    "maco": Maco,
}
"""By the name that the config gives them."""


def mix(matrix_dc: torch.Tensor, images_bchw: torch.Tensor) -> torch.Tensor:
    """A linear map of the channels of every pixel, ``(b, d, h, w)``."""
    return torch.matmul(matrix_dc, images_bchw.flatten(2)).view(images_bchw.shape)
