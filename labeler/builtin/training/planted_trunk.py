"""Trains the trunk of a family of planted networks: every place of its map tells what is painted there."""

from __future__ import annotations

import logging
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from labeler.builtin.planted.network import TRUNKS, WIDTH
from labeler.builtin.scenes import CONCEPTS
from labeler.builtin.training.muon import Muon
from labeler.builtin.training.planted_scenes import Scenes, normalised
from labeler.builtin.training.scene_quality import auroc

logger = logging.getLogger("planted")

PRESENT = 0.01
"""Share of the image from which a concept is present: the default of ``checks.presence_area``."""
FULL = 1 / 6
"""Share of a cell from which a concept counts as there: thin lines and small figures never fill a cell."""
_BATCH = 48
_NOT_LEARNT_YET = -4.0  # the first bias: concepts are rare


def train_trunk(architecture: str, scenes: Scenes, seed: int, steps: int) -> nn.Module:
    """A trunk whose cells predict every concept, by a sigmoid loss on each cell and on the maximum of all."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 1])
    concepts = nn.Conv2d(WIDTH, len(CONCEPTS), 1)
    concepts.bias = nn.Parameter(torch.full((len(CONCEPTS),), _NOT_LEARNT_YET))
    network = nn.Sequential(TRUNKS[architecture](), concepts)
    network.to(memory_format=torch.channels_last).train()
    kernels = [p for p in network[0].parameters() if p.ndim == 4 and p.shape[1] > 1]
    chosen = {id(p) for p in kernels}
    others = [p for p in network.parameters() if id(p) not in chosen]
    optimisers: list[torch.optim.Optimizer] = [
        Muon(kernels, lr=0.03, weight_decay=0.03),
        torch.optim.AdamW(others, lr=3e-3, weight_decay=0.03),
    ]
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(o, o.defaults["lr"], steps, pct_start=0.08, cycle_momentum=False)
        for o in optimisers
    ]
    weight_c = positive_weight(torch.from_numpy(scenes.areas >= PRESENT).float().mean(dim=0))
    start, total = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        images, cells, areas = draw(scenes, rng)
        logits = network(images)
        loss = dense_loss(logits, cells, weight_c) + pooled_loss(logits, areas, weight_c)
        network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            optimiser.step()
            schedule.step()
        total += float(loss.detach())
        if step % 200 == 0:
            logger.info(
                "%s step %d  %.0f s  loss %.4f", architecture, step, time.monotonic() - start, total / 200
            )
            total = 0.0
    return network.eval()


def positive_weight(frequency_c: Tensor) -> Tensor:
    """Weight of a positive: the square root of the odds against it, at least 1."""
    return ((1 - frequency_c) / frequency_c.clamp(min=0.01)).clamp(min=1).sqrt()


def draw(scenes: Scenes, rng: np.random.Generator, batch: int = _BATCH) -> tuple[Tensor, Tensor, Tensor]:
    """Random scenes, mirrored half the time: images, cell shares in [0, 1], areas (b, concepts)."""
    index = torch.from_numpy(rng.integers(0, len(scenes.images), batch))
    images, cells = normalised(scenes.images[index]), scenes.cells[index].float().div_(255)
    if rng.random() < 0.5:
        images, cells = images.flip(3).contiguous(memory_format=torch.channels_last), cells.flip(3)
    return images, cells, torch.from_numpy(scenes.areas[index.numpy()])


def dense_loss(logits_bchw: Tensor, cells_bchw: Tensor, weight_c: Tensor) -> Tensor:
    """Sigmoid loss of every cell."""
    target = (cells_bchw / FULL).clamp(max=1)
    return binary_cross_entropy_with_logits(logits_bchw, target, pos_weight=weight_c.view(-1, 1, 1))


def pooled_loss(logits_bchw: Tensor, areas_bc: Tensor, weight_c: Tensor) -> Tensor:
    """Sigmoid loss of the maximum over the cells; areas between none and `PRESENT` count as neither."""
    present = (areas_bc >= PRESENT).float()
    sure = (areas_bc >= PRESENT) | (areas_bc == 0)
    loss = binary_cross_entropy_with_logits(
        logits_bchw.amax(dim=(2, 3)), present, pos_weight=weight_c, reduction="none"
    )
    return (loss * sure).sum() / sure.sum()


@torch.inference_mode()
def concept_auroc(network: nn.Module, scenes: Scenes) -> NDArray[np.float64]:
    """AUROC of each concept's pooled logit against its presence, (concepts,)."""
    pooled = torch.cat(
        [network(normalised(part)).amax(dim=(2, 3)) for part in torch.split(scenes.images, 200)]
    )
    present = scenes.areas >= PRESENT
    return np.array([auroc(pooled[:, c].numpy(), present[:, c]) for c in range(present.shape[1])])
