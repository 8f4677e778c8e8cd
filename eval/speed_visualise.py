"""How fast pictures are made: many units in a block, against one unit at a time with a full pass.

One at a time in two ways: with the network as `timm.create_model` gives it, as renderers take it, and with
what costs nothing to do better: parameters that need no gradient, the memory format that is fastest.
"""

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

from .comparison import EFFICIENTNET, Plan, Row, bare_network, network_as_loaded, random_target, ratio_row

DRAWN = ("blocks.1", "blocks.3", "blocks.5", "blocks.6")
"""Early to late: 6, 16, 42 and all 49 of the convolutions before the head."""
SIDE = 128
"""Pixels a side, the default of visualise.size."""
NAMES = {"loop": "", "as_loaded": "_as_loaded"}
NOTES = {"loop": "", "as_loaded": ", network as loaded"}
PRECISIONS = {"": "float32", "_bfloat16": "bfloat16"}


def visualisation(plan: Plan) -> list[Row]:
    """Pictures a second, ours over the loop's, at equal steps, size, precision and parametrisation."""
    target = random_target(plan, EFFICIENTNET, DRAWN)
    loops = {"loop": bare_network(plan, EFFICIENTNET), "as_loaded": network_as_loaded(plan, EFFICIENTNET)}
    rows: list[Row] = []
    for suffix, precision in PRECISIONS.items():
        found = [_of_layer(plan, target, loops, layer, suffix, precision) for layer in DRAWN]
        for place, name in enumerate(NAMES.values()):
            mean = float(np.mean([pair[place].ratio for pair in found]))
            rows += [pair[place] for pair in found]
            rows.append(Row(f"visualise{name}{suffix}", mean, None, None, None, "mean of the four layers"))
    return rows


def _of_layer(
    plan: Plan, target: Target, loops: dict[str, nn.Module], layer: str, suffix: str, precision: str
) -> list[Row]:
    ours, theirs = plan.sizes.pictures
    # Fewer than 64 steps: no picture can stop early on a plateau.
    settings = VisualiseConfig(size=SIDE, steps=plan.sizes.steps, batch_size=ours, precision=precision)
    requests = [Request(layer, unit, 0) for unit in range(ours)]
    sides: dict[str, Callable[[], object]] = {"ours": lambda: visualise(target, requests, settings)}
    for name, network in loops.items():
        sides[name] = partial(
            one_by_one, network, target.normalise, layer, range(theirs),
            steps=settings.steps, precision=precision,
        )  # fmt: skip
    times = plan.watch.interleave(sides, warm=False).per({"ours": ours, **dict.fromkeys(loops, theirs)})
    work = f"a picture of {SIDE} px, {settings.steps} steps, {precision}; one at a time, full pass"
    return [
        ratio_row(f"visualise{name}{suffix}_{layer}", times, loop, f"{work}{NOTES[loop]}")
        for loop, name in NAMES.items()
    ]


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

    As lucent's `render_vis` does it. Parametrisation and moves are the package's own, so that both sides make
    pictures of the same kind.
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
