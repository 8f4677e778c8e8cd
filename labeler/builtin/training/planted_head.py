"""Trains what follows the trunk of a planted network: its units, each to its truth, and decoys to none."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import dropout2d

from labeler.builtin.planted.network import HIDDEN, WIDTH, PlantedNetwork, with_context
from labeler.builtin.training.planted_measure import LEAST, decoy_auroc
from labeler.builtin.training.planted_scenes import Scenes, normalised
from labeler.builtin.training.planted_trunk import PRESENT, dense_loss, positive_weight
from labeler.builtin.training.planted_truth import Wanted, holds

logger = logging.getLogger("planted")

DECOY_HIDDEN = 64
"""Hidden channels of the decoys, apart from the others': what a decoy reads was never trained on concepts."""
_BATCH, _DECOY_BATCH = 64, 400
_TRIED = 3  # decoys trained for each that is kept: those that concepts tell least about
_PAIRS = 400  # pairs of concepts in each step of the decoys
_DROPPED = 0.1
_SLACK = 0.5  # log odds: units rest at 0 where their truth is less than 38 % likely
_SOFTNESS = 4.0  # log odds over which they saturate: tanh(1) = 0.76 at 3.5, and no two activations tie


def train_head(
    trunk: nn.Module, wanted: Sequence[Wanted], scenes: Scenes, seed: int, epochs: int, decoy_steps: int
) -> PlantedNetwork:
    """A network with these units over a trained trunk, which stays as it is."""
    torch.manual_seed(seed)
    network = PlantedNetwork(trunk).eval()
    features = trunk_features(trunk, scenes)
    decoys = [u for u, unit in enumerate(wanted) if unit.kind == "decoy"]
    taught = [u for u, unit in enumerate(wanted) if unit.kind not in ("decoy", "dead")]
    inner, outer = _teach([wanted[u] for u in taught], features, scenes, seed, epochs)
    decoy_inner, decoy_outer = _mislead(len(decoys), features, scenes, seed, decoy_steps)
    known = HIDDEN - DECOY_HIDDEN
    with torch.no_grad():
        hidden, units = _first(network.hidden), _first(network.units)
        hidden.weight.zero_()
        hidden.weight[:known] = inner.weight
        hidden.weight[known:, :WIDTH] = decoy_inner.weight
        _bias(hidden).copy_(torch.cat([_bias(inner), _bias(decoy_inner)]))
        units.weight.zero_()
        _bias(units).fill_(-1.0)  # rectified to 0 everywhere: dead
        units.weight[taught, :known] = outer.weight / _SOFTNESS
        _bias(units)[taught] = (_bias(outer) + _SLACK) / _SOFTNESS
        units.weight[decoys, known:], _bias(units)[decoys] = decoy_outer.weight, _bias(decoy_outer)
    return network


@torch.inference_mode()
def trunk_features(trunk: nn.Module, scenes: Scenes) -> Tensor:
    """The trunk's map of every scene, (n, WIDTH, CELLS, CELLS) float16."""
    return torch.cat(
        [trunk(normalised(part)).half() for part in torch.split(scenes.images, 100)]
    ).contiguous()


def _first(layers: nn.Sequential) -> nn.Conv2d:
    first = layers[0]
    assert isinstance(first, nn.Conv2d)
    return first


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _teach(
    wanted: Sequence[Wanted], features: Tensor, scenes: Scenes, seed: int, epochs: int
) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Two 1 × 1 convolutions, trained so that each unit fires where, and when, its truth holds."""
    inner, outer = (
        nn.Conv2d(3 * WIDTH, HIDDEN - DECOY_HIDDEN, 1),
        nn.Conv2d(HIDDEN - DECOY_HIDDEN, len(wanted), 1),
    )
    nn.init.constant_(_bias(outer), -3.0)
    head = nn.Sequential(inner, nn.ReLU(), outer)
    present_nc = scenes.areas >= PRESENT
    true_nu = torch.from_numpy(np.stack([holds(unit, present_nc) for unit in wanted], axis=1))
    sure_nu = torch.from_numpy(np.stack([_sure(unit, scenes.areas) for unit in wanted], axis=1))
    weight_u = positive_weight(true_nu.float().mean(dim=0))
    steps = epochs * (len(features) // _BATCH)
    optimiser = torch.optim.AdamW(head.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 4e-3, steps, pct_start=0.1, cycle_momentum=False
    )
    rng = np.random.default_rng([seed, 2])
    total = 0.0
    for step in range(1, steps + 1):
        index = torch.from_numpy(rng.integers(0, len(features), _BATCH))
        logits = head(with_context(dropout2d(features[index].float(), _DROPPED)))
        cells = scenes.cells[index].float().div_(255)
        target = torch.stack([_where(unit, cells, true_nu[index, u]) for u, unit in enumerate(wanted)], dim=1)
        loss = dense_loss(logits, target, weight_u) + _pooled(
            logits, true_nu[index], sure_nu[index], weight_u
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        total += float(loss.detach())
        if step % 200 == 0:
            logger.info("units, step %d of %d: loss %.4f", step, steps, total / 200)
            total = 0.0
    return inner, outer


def _sure(unit: Wanted, areas_nc: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Scenes where every term is either present or wholly absent."""
    shown_nt = areas_nc[:, list(unit.terms)]
    sure: NDArray[np.bool_] = ((shown_nt >= PRESENT) | (shown_nt == 0)).all(axis=1)
    return sure


def _where(unit: Wanted, cells_bchw: Tensor, true_b: Tensor) -> Tensor:
    """The cells where the unit should fire, as shares of them, (b, h, w)."""
    if unit.kind == "not":
        where_bhw = torch.ones_like(cells_bchw[:, 0])
    elif unit.kind == "context":
        where_bhw = cells_bchw[:, unit.terms[0]]
    else:
        where_bhw = cells_bchw[:, list(unit.terms)].amax(dim=1)
    return where_bhw * true_b.view(-1, 1, 1)


def _pooled(logits_buhw: Tensor, true_bu: Tensor, sure_bu: Tensor, weight_u: Tensor) -> Tensor:
    loss = nn.functional.binary_cross_entropy_with_logits(
        logits_buhw.amax(dim=(2, 3)), true_bu.float(), pos_weight=weight_u, reduction="none"
    )
    return (loss * sure_bu).sum() / sure_bu.sum()


def _mislead(
    count: int, features: Tensor, scenes: Scenes, seed: int, steps: int
) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Random units changed until no concept, and no pair, goes with them.

    What is left for them to answer to is what the annotations do not name: light, grain, place, phase. They
    see their own place only.
    """
    inner, outer = nn.Conv2d(WIDTH, DECOY_HIDDEN, 1), nn.Conv2d(DECOY_HIDDEN, _TRIED * count, 1)
    head = nn.Sequential(inner, nn.ReLU(), outer)
    optimiser = torch.optim.AdamW(head.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 5e-3, steps, pct_start=0.1, cycle_momentum=False
    )
    present_nc = torch.from_numpy(scenes.areas >= PRESENT)
    rng = np.random.default_rng([seed, 3])
    for step in range(1, steps + 1):
        index = torch.from_numpy(rng.choice(len(features), _DECOY_BATCH, replace=False))
        pooled_bu = head(features[index].float()).amax(dim=(2, 3))
        loss = _association(pooled_bu, _with_pairs(present_nc[index], rng))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            logger.info("decoys, step %d of %d: association %.4f", step, steps, float(loss.detach()))
    with torch.inference_mode():
        pooled_nu = torch.cat([head(part.float()).amax(dim=(2, 3)) for part in torch.split(features, 200)])
    told_u = [decoy_auroc(column, present_nc.numpy(), LEAST) for column in pooled_nu.T.numpy()]
    kept = np.argsort(told_u)[:count]
    middle_u, spread_u = pooled_nu[:, kept].quantile(0.3, dim=0), pooled_nu[:, kept].std(dim=0)
    chosen = nn.Conv2d(DECOY_HIDDEN, count, 1)
    with torch.no_grad():  # at rest in three scenes of ten, and not so strong that the units saturate
        chosen.weight.copy_(outer.weight[kept] / spread_u.view(-1, 1, 1, 1) / 2)
        _bias(chosen).copy_((_bias(outer)[kept] - middle_u) / spread_u / 2)
    return inner, chosen


def _with_pairs(present_bc: Tensor, rng: np.random.Generator) -> Tensor:
    """Presence of every concept, and AND and OR of random pairs, (b, concepts + 2 · pairs) float32."""
    first, second = torch.from_numpy(rng.integers(0, present_bc.shape[1], (2, _PAIRS)))
    a_bp, b_bp = present_bc[:, first], present_bc[:, second]
    return torch.cat([present_bc, a_bp & b_bp, a_bp | b_bp], dim=1).float()


def _association(pooled_bu: Tensor, present_bp: Tensor) -> Tensor:
    """Squared correlations of the units, and of their squashed values, with presence: the worst count most.

    The squashed value stands for the rank, which AUROC looks at.
    """
    score_bu = (pooled_bu - pooled_bu.mean(dim=0)) / (pooled_bu.std(dim=0) + 1e-6)
    squashed_bu = torch.tanh(score_bu)
    squashed_bu = (squashed_bu - squashed_bu.mean(dim=0)) / (squashed_bu.std(dim=0) + 1e-6)
    shown_bp = (present_bp - present_bp.mean(dim=0)) / (present_bp.std(dim=0) + 1e-3)
    squared = torch.stack([(score.T @ shown_bp / len(score)) ** 2 for score in (score_bu, squashed_bu)])
    # The largest of a thousand correlations of a batch is mostly chance; their high power mean is not.
    return (squared**2).mean(dim=(0, 2)).sqrt().mean() * 20
