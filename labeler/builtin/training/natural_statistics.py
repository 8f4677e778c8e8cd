"""Measures what photographs have in common: their colours and the magnitudes of their spectrum.

Everything is measured in the space in which synthetic pictures are made: the logit of the pixels, since a
picture is the sigmoid of what is optimised. By default on the colour photographs of scenes that scikit-image
and scikit-learn ship, which are few; a folder of photographs may be given in their place.

    python -m labeler.builtin.training.natural_statistics [--photographs DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from labeler.visualise.natural import GRID, STATISTICS, Natural, frequencies
from labeler.visualise.parametrise import Maco

PHOTOGRAPHS = {
    "skimage.data": ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"),
    "sklearn.datasets.images": ("china.jpg", "flower.jpg"),
}
SHORTER_SIDE = 256
"""A photograph is seen at the scale of the usual preprocessing of ImageNet."""
CROPS = 400
"""Of each photograph; each counts with its mirror image."""
LEAST = 0.02
"""Pixels are kept so far from 0 and 1, where the logit has no bounds."""
SMOOTHING = 3
"""Frequencies, a side, over which the logarithm of the magnitudes is averaged: crops overlap, photographs are
few, and what is left of single ones is no property of photographs."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the statistics beside a JSON that says where they come from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photographs", type=Path, metavar="DIR", help="in place of those of the libraries")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=STATISTICS, help="the .safetensors; the JSON lies beside")
    options = parser.parse_args(arguments)
    paths = _given(options.photographs) if options.photographs else _shipped()
    photographs = [_logits(path) for path in paths.values()]
    colour_dc = _colour(photographs)
    magnitude_chw = _magnitude(photographs, colour_dc, torch.Generator().manual_seed(options.seed))
    contrast = _contrast(paths.values(), Natural(colour_dc, magnitude_chw), options.seed)
    save_file({"colour": colour_dc, "magnitude": (contrast * magnitude_chw).half()}, options.out)
    provenance = {
        "made_by": "labeler.builtin.training.natural_statistics",
        "photographs": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()},
        "versions": {name: version(name) for name in ("scikit-image", "scikit-learn", "torch")},
        "seed": options.seed,
        "crops": CROPS,
        "grid": GRID,
        "colour": colour_dc.tolist(),
        "contrast": contrast,
        "falloff": _falloff(magnitude_chw),
    }
    options.out.with_suffix(".json").write_text(json.dumps(provenance, indent=1) + "\n")


def _contrast(paths: Iterable[Path], measured: Natural, seed: int) -> float:
    """The factor at which pictures of random phases have the contrast of photographs.

    With the phases, what is left of the logits' distribution is a normal one, whose tails are not those of a
    photograph: at the same variance of logits, pixels differ more.
    """
    generator = torch.Generator().manual_seed(seed)
    crops = [_crop(_logits(path).sigmoid(), generator) for path in paths for _ in range(CROPS)]
    wanted = float(torch.stack(crops).var(dim=(2, 3)).mean())
    maco = Maco((GRID, GRID), torch.device("cpu"), measured)
    phases = maco.start([torch.Generator().manual_seed(seed + picture) for picture in range(64)])
    logits = maco.pictures(phases).logit()
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        contrast = float((middle * logits).sigmoid().var(dim=(2, 3)).mean())
        low, high = (middle, high) if contrast < wanted else (low, middle)
    return middle


def _shipped() -> dict[str, Path]:
    from importlib.resources import files

    return {
        f"{package}/{name}": Path(str(files(package) / name))
        for package, names in PHOTOGRAPHS.items()
        for name in names
    }


def _given(folder: Path) -> dict[str, Path]:
    kinds = {".jpg", ".jpeg", ".png", ".webp"}
    return {path.name: path for path in sorted(folder.iterdir()) if path.suffix.lower() in kinds}


def _logits(path: Path) -> Tensor:
    """The photograph in logits ``(3, h, w)``, its shorter side `SHORTER_SIDE` pixels."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    factor = SHORTER_SIDE / min(image.size)
    size = (round(image.width * factor), round(image.height * factor))
    pixels_hwc = np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.float32) / 255
    return torch.from_numpy(pixels_hwc).permute(2, 0, 1).clamp(LEAST, 1 - LEAST).logit()


def _colour(photographs: Sequence[Tensor]) -> Tensor:
    """A square root ``(3, 3)`` of the covariance of colours within a photograph, every one of equal weight.

    Its columns are the principal axes, the greatest first, each as long as its standard deviation.
    """
    covariance_cc = torch.stack([torch.cov(photograph.flatten(1)) for photograph in photographs]).mean(dim=0)
    variances, axes_ca = torch.linalg.eigh(covariance_cc)
    axes_ca = axes_ca * torch.sign(axes_ca.sum(dim=0))  # an axis has no sign of its own: lighter is positive
    colour_dc: Tensor = (axes_ca * variances.sqrt()).flip(1).contiguous()
    return colour_dc


def _magnitude(photographs: Sequence[Tensor], colour_dc: Tensor, generator: torch.Generator) -> Tensor:
    """Root mean square magnitude ``(3, GRID, GRID // 2 + 1)`` of crops in decorrelated colours, smoothed."""
    power_chw = torch.zeros(3, GRID, GRID // 2 + 1, dtype=torch.float64)
    for photograph in photographs:
        decorrelated = torch.linalg.solve(colour_dc, photograph.flatten(1)).view_as(photograph)
        crops_kchw = torch.stack([_crop(decorrelated, generator) for _ in range(CROPS)])
        for mirrored_kchw in (crops_kchw, crops_kchw.flip(3)):
            spectrum_kchw = torch.fft.rfft2(mirrored_kchw, norm="ortho")
            power_chw += spectrum_kchw.abs().double().square().mean(dim=0) / (2 * len(photographs))
    return _smooth(power_chw.sqrt().float())


def _crop(photograph_chw: Tensor, generator: torch.Generator) -> Tensor:
    """A square part of 128 pixels a side, anywhere."""
    top, left = (
        int(torch.randint(side - GRID + 1, (1,), generator=generator)) for side in photograph_chw.shape[1:]
    )
    return photograph_chw[:, top : top + GRID, left : left + GRID]


def _smooth(magnitude_chw: Tensor) -> Tensor:
    """Means of logarithms over neighbouring frequencies of what is left after 1/f; the constant stays."""
    reach = SMOOTHING // 2
    frequency_hw = frequencies((GRID, GRID)).clamp(min=1 / GRID)
    flat_chw = (magnitude_chw * frequency_hw).log()
    wide_chw = torch.nn.functional.pad(flat_chw, (0, 0, reach, reach), mode="circular")
    wide_chw = torch.nn.functional.pad(wide_chw, (reach, reach, 0, 0), mode="reflect")  # |F(-f)| is |F(f)|
    means_chw = torch.nn.functional.avg_pool2d(wide_chw, SMOOTHING, stride=1)
    means_chw[:, 0, 0] = flat_chw[:, 0, 0]
    smooth_chw: Tensor = means_chw.exp() / frequency_hw
    return smooth_chw


def _falloff(magnitude_chw: Tensor) -> list[float]:
    """The exponent a of f^-a that fits the magnitudes of each decorrelated colour best; about 1 in nature."""
    frequency_hw = frequencies((GRID, GRID))
    used_hw = (frequency_hw > 2 / GRID) & (frequency_hw < 0.4)
    log_f = frequency_hw[used_hw].log()
    return [
        -float(torch.cov(torch.stack([log_f, channel_hw[used_hw].log()]))[0, 1] / log_f.var())
        for channel_hw in magnitude_chw
    ]


if __name__ == "__main__":
    main()
