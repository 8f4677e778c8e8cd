"""SoftWPMI of CLIP-Dissect (Oikarinen & Weng 2023, sec. 3.2, app. A) for many units and concepts at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

SHARPNESS = 10.0
"""P = softmax over concepts of 10 · cosine: the `a` of CLIP-Dissect's code."""
FIRST, LAST = 0.998, 0.97
"""p_in of the strongest and (just past) the weakest exemplar, linear in rank: CLIP-Dissect's code."""
MINIMUM = 1e-7
"""Added inside the logarithm: CLIP-Dissect's code."""
PENALTY = 1.0
"""lambda, the weight of the concept's log-probability over the reference set: CLIP-Dissect's code."""

_FACTORS = 12
"""Factors per logarithm. Each is at most 1 + 1 / 0.002 = 501, and 501 ** 12 is far inside float32."""
_TILE = 1 << 18  # entries of the running product: 1 MB, so that it stays in the processor's cache
_TILE_GPU = 1 << 26


def concept_probabilities(
    images_nd: torch.Tensor, texts_ld: torch.Tensor, sharpness: float = SHARPNESS
) -> torch.Tensor:
    """P(concept | image), ``(n, l)``: softmax over concepts of `sharpness` times the cosine."""
    return torch.softmax(sharpness * (images_nd @ texts_ld.T), dim=1)


def log_likelihood(probabilities_nl: torch.Tensor, topk_ids_uk: torch.Tensor) -> torch.Tensor:
    """log p(d | e) = Σ log(1 + p_in (P − 1) + 1e-7) of all units and concepts, ``(u, l)``.

    p_in falls linearly from 0.998 over each unit's own number of exemplars.

    Args:
        probabilities_nl: P of all images, float32, on the device to compute on.
        topk_ids_uk: rows of `probabilities_nl`, strongest first; -1 pads the end of a shorter list.

    Each factor is p_in·r (1 + P / r) with r = (1 - p_in + 1e-7) / p_in, which depends on the rank alone. So
    units of equally many exemplars go rank by rank through one fused multiply-add, twelve factors before each
    logarithm: the same sum with a twelfth of the logarithms and without the ``(u, k, l)`` tensor.
    """
    ids_uk = topk_ids_uk.to(probabilities_nl.device)
    total_ul = probabilities_nl.new_empty(len(ids_uk), probabilities_nl.shape[1])
    on_cpu = probabilities_nl.device.type == "cpu"
    multiply, tile = (
        (_by_rows(probabilities_nl), _TILE) if on_cpu else (_gathered(probabilities_nl), _TILE_GPU)
    )
    height = max(1, tile // max(1, probabilities_nl.shape[1]))
    lengths_u = (ids_uk >= 0).sum(dim=1)
    blocks = [
        (units, length)
        for length in sorted(set(lengths_u.tolist()))
        for units in (lengths_u == length).nonzero()[:, 0].split(height)
    ]

    def fill(block: tuple[torch.Tensor, int]) -> None:
        units, length = block
        total_ul[units] = _sum_of_logs(
            total_ul.new_empty(len(units), total_ul.shape[1]), ids_uk[units, :length], multiply
        )

    # One row of words is too short for torch to share among its threads, so they take blocks of units.
    with ThreadPoolExecutor(torch.get_num_threads() if on_cpu else 1) as pool:
        for _ in pool.map(fill, blocks):
            pass
    return total_ul


def log_mean(log_likelihood_rl: torch.Tensor) -> torch.Tensor:
    """log p(d): the logarithm of the mean likelihood over the reference set of units, ``(l,)``."""
    return torch.logsumexp(log_likelihood_rl, dim=0) - math.log(len(log_likelihood_rl))


def soft_wpmi(
    probabilities_nl: torch.Tensor,
    topk_ids_uk: torch.Tensor,
    reference_ids_rk: torch.Tensor | None = None,
    penalty: float = PENALTY,
) -> torch.Tensor:
    """SoftWPMI ``(u, l)``: log p(d | e) − λ log p(d), the latter over a fixed reference set of units.

    With a fixed set a unit's score does not depend on which other units were asked for; None takes the units
    themselves, as published. The lists of both must be of one length to be compared.
    """
    likelihood_ul = log_likelihood(probabilities_nl, topk_ids_uk)
    reference_rl = (
        likelihood_ul if reference_ids_rk is None else log_likelihood(probabilities_nl, reference_ids_rk)
    )
    return likelihood_ul - penalty * log_mean(reference_rl)


def _sum_of_logs(product_ul: torch.Tensor, ids_uk: torch.Tensor, multiply: _Multiply) -> torch.Tensor:
    """log p(d | e) ``(u, l)`` of units that all have k exemplars; `product_ul` is room to work in."""
    length = ids_uk.shape[1]
    p_in_k = FIRST - torch.arange(length, dtype=torch.float64) / max(length, 1) * (FIRST - LAST)
    least_k = 1 - p_in_k + MINIMUM  # p_in · r, the factor where P is 0
    weights = (p_in_k / least_k).tolist()  # 1 / r
    ids_ku = ids_uk.T.contiguous()
    total_ul = torch.full_like(product_ul, float(least_k.log().sum()))
    rows = product_ul.unbind()
    for start in range(0, length, _FACTORS):
        product_ul.fill_(1.0)
        for rank in range(start, min(start + _FACTORS, length)):
            multiply(product_ul, ids_ku[rank], weights[rank])
        torch._foreach_log_(rows)
        total_ul.add_(product_ul)
    return total_ul


_Multiply = Callable[[torch.Tensor, torch.Tensor, float], object]
"""product_ul *= 1 + weight · P of the image that `ids_u` names for each unit."""


def _by_rows(probabilities_nl: torch.Tensor) -> _Multiply:
    """Reads the rows of P where they lie: on a CPU, gathering them first takes twice as long."""
    images = probabilities_nl.unbind()

    def multiply(product_ul: torch.Tensor, ids_u: torch.Tensor, weight: float) -> None:
        rows = product_ul.unbind()
        torch._foreach_addcmul_(rows, rows, [images[image] for image in ids_u.tolist()], value=weight)

    return multiply


def _gathered(probabilities_nl: torch.Tensor) -> _Multiply:
    """One kernel for all units."""

    def multiply(product_ul: torch.Tensor, ids_u: torch.Tensor, weight: float) -> None:
        product_ul.addcmul_(product_ul, probabilities_nl[ids_u], value=weight)

    return multiply
