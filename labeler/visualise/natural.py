"""What photographs have in common, as measured by `labeler.builtin.training.natural_statistics`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file

STATISTICS: Final = Path(__file__).with_name("natural.safetensors")
"""Beside it a JSON says where they come from."""
GRID: Final = 128
"""Pixels a side of the crops whose spectrum was measured."""


@dataclass(frozen=True, eq=False)
class Natural:
    """Statistics of the logits of photographs.

    Attributes:
        colour_dc: ``(3, 3)``, decorrelated colours of unit variance to red, green and blue.
        magnitude_chw: ``(3, GRID, GRID // 2 + 1)``, root mean square magnitudes of orthonormal spectra.
    """

    colour_dc: torch.Tensor
    magnitude_chw: torch.Tensor

    def magnitude(self, size: tuple[int, int]) -> torch.Tensor:
        """The magnitudes for pictures of another size, ``(3, h, w // 2 + 1)``.

        What is interpolated is the magnitude times the frequency, which is nearly flat (a natural spectrum
        falls as 1/f: Field 1987), so that frequencies below the lowest one measured have a value too.
        """
        flat_chw = self.magnitude_chw * frequencies((GRID, GRID)).clamp(min=1 / GRID)
        rows_h, columns_w = torch.fft.fftfreq(size[0]), torch.fft.rfftfreq(size[1])
        wrapped = torch.cat([flat_chw, flat_chw[:, :1]], dim=1)  # from frequency 0 up to 1, which is 0 again
        x_w = columns_w * 4 - 1  # 0..1/2 to -1..1, as `grid_sample` counts
        y_h = rows_h.remainder(1.0) * 2 - 1
        y_hw, x_hw = torch.meshgrid(y_h, x_w, indexing="ij")
        grid_hw2 = torch.stack([x_hw, y_hw], dim=-1)
        sampled = torch.nn.functional.grid_sample(wrapped[None], grid_hw2[None], align_corners=True)[0]
        return sampled / frequencies(size).clamp(min=1 / max(size))


def frequencies(size: tuple[int, int]) -> torch.Tensor:
    """Cycles per pixel of every entry of a half spectrum, ``(h, w // 2 + 1)``."""
    rows_h1, columns_1w = torch.fft.fftfreq(size[0])[:, None], torch.fft.rfftfreq(size[1])[None, :]
    return torch.sqrt(rows_h1**2 + columns_1w**2)


@cache
def natural() -> Natural:
    """The statistics that the package ships."""
    stored = load_file(STATISTICS)
    return Natural(stored["colour"].float(), stored["magnitude"].float())
