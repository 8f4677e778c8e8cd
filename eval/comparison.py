"""What the comparisons of speed share: how much work, how it is timed, and a row of the table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from labeler.config import TargetConfig
from labeler.seams import Target
from labeler.targets import load_target

from .timing import Stopwatch, Times

EFFICIENTNET, VIT = "timm:tf_efficientnet_lite0", "timm:vit_small_patch16_224"


@dataclass(frozen=True)
class Sizes:
    """How much work each comparison does."""

    images: int
    vit_images: int
    dissected: int
    wpmi: tuple[int, int, int]  # units, concepts, images
    auroc: tuple[int, int, int]  # units, concepts, images
    pictures: tuple[int, int]  # of ours, which fill a block, and of the loop
    steps: int


SIZES = {
    "small": Sizes(32, 16, 32, (60, 4000, 500), (16, 20, 400), (4, 1), 4),
    "full": Sizes(96, 32, 128, (1000, 20000, 2000), (32, 40, 1000), (16, 4), 48),
}


@dataclass(frozen=True)
class Row:
    """One ratio: how often our side fits into the reference, and what was done."""

    figure: str
    ratio: float
    interval: tuple[float, float] | None
    ours: float | None  # seconds
    reference: float | None
    work: str


@dataclass(frozen=True)
class Plan:
    """What a comparison needs to know."""

    sizes: Sizes
    watch: Stopwatch
    coco: Path | None


def ratio_row(figure: str, times: Times, reference: str, work: str) -> Row:
    ratio, ends = times.ratio(reference, "ours")
    return Row(figure, ratio, ends, times.of("ours"), times.of(reference), work)


def random_target(plan: Plan, model: str, layers: tuple[str, ...]) -> Target:
    config = TargetConfig(model=model, layers=layers, weights="random")
    return load_target(config, seed=0, device=str(plan.watch.device))


def bare_network(plan: Plan, model: str) -> torch.nn.Module:
    """The same architecture, in the memory format that is fastest for it, without our hooks."""
    layout = torch.channels_last if model == EFFICIENTNET else torch.contiguous_format
    return network_as_loaded(plan, model).requires_grad_(False).to(memory_format=layout)


def network_as_loaded(plan: Plan, model: str) -> torch.nn.Module:
    """The same architecture as `timm` gives it, in evaluation mode."""
    import timm

    torch.manual_seed(0)
    network: torch.nn.Module = timm.create_model(model.removeprefix("timm:"), pretrained=False).eval()
    return network.to(plan.watch.device)
