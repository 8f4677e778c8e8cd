"""How fast pictures are made: many units in a block, against one unit at a time with a full pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from labeler.config import VisualiseConfig
from labeler.seams import Target
from labeler.visualise import Moves, Request, visualise
from labeler.visualise.parametrise import Fourier
from labeler.visualise.transforms import move

from .comparison import EFFICIENTNET, Plan, Row, bare_network, random_target, ratio_row

DRAWN = ("blocks.1", "blocks.3", "blocks.5", "blocks.6")
"""Early to late: 6, 16, 42 and all 49 of the convolutions before the head."""
SIDE = 128
"""Pixels a side, the default of visualise.size."""
PRECISIONS = {"": "float32", "_bfloat16": "bfloat16"}


def visualisation(plan: Plan) -> list[Row]:
    """Pictures a second, ours over the loop's, at equal steps, size, precision and parametrisation."""
    target, network = random_target(plan, EFFICIENTNET, DRAWN), bare_network(plan, EFFICIENTNET)
    rows: list[Row] = []
    for suffix, precision in PRECISIONS.items():
        found = [_of_layer(plan, target, network, layer, suffix, precision) for layer in DRAWN]
        mean = float(np.mean([row.ratio for row in found]))
        rows += [*found, Row(f"visualise{suffix}", mean, None, None, None, "mean of the four layers")]
    return rows


def _of_layer(plan: Plan, target: Target, network: nn.Module, layer: str, suffix: str, precision: str) -> Row:
    ours, theirs = plan.sizes.pictures
    # Fewer than 64 steps: no picture can stop early on a plateau.
    settings = VisualiseConfig(size=SIDE, steps=plan.sizes.steps, batch_size=ours, precision=precision)
    requests = [Request(layer, unit, 0) for unit in range(ours)]
    loop = partial(one_by_one, network, target.normalise, layer, steps=settings.steps, precision=precision)
    sides: dict[str, Callable[[], object]] = {
        "ours": lambda: visualise(target, requests, settings),
        "loop": lambda: loop(range(theirs)),
    }
    times = plan.watch.interleave(sides, warm=False).per({"ours": ours, "loop": theirs})
    work = f"a picture of {SIDE} px, {settings.steps} steps, {precision}; one at a time, full pass"
    return ratio_row(f"visualise{suffix}_{layer}", times, "loop", work)


def one_by_one(
    network: nn.Module,
    normalise: Callable[[Tensor], Tensor],
    layer: str,
    units: Sequence[int],
    *,
    steps: int,
    precision: str = "float32",
) -> list[Tensor]:
    """One picture per unit, one after another; each step is a forward pass of the whole network.

    As lucent does it, with what costs nothing to do better: parameters need no gradient, and the convolutions
    have the memory format that is fastest. Parametrisation and moves are the package's own, so that both
    sides make pictures of the same kind.
    """
    device = next(network.parameters()).device
    layout = next(p for p in network.parameters() if p.dim() == 4)
    last = layout.is_contiguous(memory_format=torch.channels_last)
    fourier, half = Fourier((SIDE, SIDE), device), precision == "bfloat16"
    kept: list[Tensor] = []
    handle = network.get_submodule(layer).register_forward_hook(lambda _m, _i, output: kept.append(output))
    made = []
    try:
        for unit in units:
            generator = torch.Generator().manual_seed(unit)
            spectrum = fourier.start([generator]).to(device).requires_grad_()
            moves_s23 = Moves().draw(steps, generator).to(device)
            optimiser = torch.optim.Adam([spectrum], lr=VisualiseConfig().learning_rate, eps=1e-12)
            for step in range(steps):
                seen_1chw = normalise(move(fourier.pictures(spectrum), moves_s23[step : step + 1]))
                if last:
                    seen_1chw = seen_1chw.contiguous(memory_format=torch.channels_last)
                with torch.autocast(device.type, torch.bfloat16, enabled=half):
                    network(seen_1chw)
                loss = -kept.pop()[0, unit].float().mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            made.append(fourier.pictures(spectrum.detach())[0])
    finally:
        handle.remove()
    return made
