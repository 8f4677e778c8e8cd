"""SoftWPMI of CLIP-Dissect (Oikarinen & Weng 2023, sec. 3.2, app. A) for many units and concepts at once."""

from __future__ import annotations

import math

import torch

SHARPNESS = 10.0
"""P = softmax over concepts of 10 · cosine: the `a` of CLIP-Dissect's code."""
FIRST, LAST = 0.998, 0.97
"""p_in of the strongest and (just past) the weakest exemplar, linear in rank: CLIP-Dissect's code."""
MINIMUM = 1e-7
"""Added inside the logarithm: CLIP-Dissect's code."""
PENALTY = 1.0
"""lambda, the weight of the concept's log-probability over the reference set: CLIP-Dissect's code."""

_FACTORS = (
    12  # factors per logarithm: each is at least 1 - FIRST = 0.002, and 0.002 ** 12 is a normal float32
)
_TILE = 1 << 17  # entries of the running product: 0.5 MB, so that it stays in the processor's cache
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

    Twelve factors are multiplied before each logarithm is taken, tile by tile: the same sum with a twelfth
    of the logarithms and without the ``(u, k, l)`` tensor.
    """
    device = probabilities_nl.device
    count, concepts = topk_ids_uk.shape[0], probabilities_nl.shape[1]
    ids_ku, ratio_ku, constant_u = _factors(topk_ids_uk.to(device), len(probabilities_nl))
    total_ul = torch.empty(count, concepts, device=device)
    tile = _TILE if device.type == "cpu" else _TILE_GPU
    width = min(concepts, 2048 if device.type == "cpu" else concepts)
    height = max(1, tile // max(1, width))
    for left in range(0, concepts, width):
        block_nl = probabilities_nl[:, left : left + width]
        # The extra row is what padding points at: 1 + 0, a factor without effect.
        block_nl = torch.cat([block_nl, block_nl.new_ones(1, block_nl.shape[1])])
        for top in range(0, count, height):
            total_ul[top : top + height, left : left + width] = _sum_of_logs(
                block_nl, ids_ku[:, top : top + height], ratio_ku[:, top : top + height]
            )
    return total_ul.add_(constant_u[:, None])


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


def _factors(ids_uk: torch.Tensor, padding: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Each factor is p_in (P + ratio): row ids and ratios ``(k, u)``, and the sum of log p_in ``(u,)``."""
    valid_uk = ids_uk >= 0
    rank_k = torch.arange(ids_uk.shape[1], device=ids_uk.device, dtype=torch.float64)
    share_uk = rank_k / valid_uk.sum(dim=1, keepdim=True).clamp(min=1)
    p_in_uk = torch.where(valid_uk, FIRST - share_uk * (FIRST - LAST), 1.0)
    ratio_uk = torch.where(valid_uk, (1 - p_in_uk + MINIMUM) / p_in_uk, 0.0)
    ids_uk = torch.where(valid_uk, ids_uk, padding)
    return ids_uk.T.contiguous(), ratio_uk.T.float().contiguous(), p_in_uk.log().sum(dim=1).float()


def _sum_of_logs(block_nl: torch.Tensor, ids_ku: torch.Tensor, ratio_ku: torch.Tensor) -> torch.Tensor:
    total_ul = block_nl.new_zeros(ids_ku.shape[1], block_nl.shape[1])
    product_ul, factor_ul = torch.empty_like(total_ul), torch.empty_like(total_ul)
    for start in range(0, len(ids_ku), _FACTORS):
        product_ul.fill_(1.0)
        for rank in range(start, min(start + _FACTORS, len(ids_ku))):
            torch.index_select(block_nl, 0, ids_ku[rank], out=factor_ul)
            product_ul.mul_(factor_ul.add_(ratio_ku[rank][:, None]))
        total_ul.add_(product_ul.log_())
    return total_ul
