"""SoftWPMI of CLIP-Dissect (Oikarinen & Weng 2023, sec. 3.2, app. A) for many units and concepts at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

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
_WORDS, _UNITS = 1024, 500
"""Words and units at a time on a CPU: the probabilities of 2,000 images for so many words, 8 MB, stay
near the processor while all units read them in turn."""
_TILE_GPU = 1 << 26  # entries at a time on a GPU


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
    count, words = len(ids_uk), probabilities_nl.shape[1]
    total_ul = probabilities_nl.new_empty(count, words)
    on_cpu = probabilities_nl.device.type == "cpu"
    width = _WORDS if on_cpu else max(1, words)
    height = _UNITS if on_cpu else max(1, _TILE_GPU // max(1, words))
    lengths_u = (ids_uk >= 0).sum(dim=1)
    alike = [
        (units, length)
        for length in sorted(set(lengths_u.tolist()))
        for units in (lengths_u == length).nonzero()[:, 0].split(height)
    ]

    def fill(start: int) -> None:
        some_nl = probabilities_nl[:, start : start + width].contiguous()
        for units, length in alike:
            total_ul[units, start : start + width] = _sum_of_logs(some_nl, ids_uk[units, :length])

    with _one_thread_each(on_cpu) as pool:
        for _ in pool.map(fill, range(0, words, width)):
            pass
    return total_ul


@contextmanager
def _one_thread_each(on_cpu: bool) -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch has, each computing alone: a block is too small to be shared among them."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads if on_cpu else 1) as pool:
        torch.set_num_threads(1)
        try:
            yield pool
        finally:
            torch.set_num_threads(threads)


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


def _sum_of_logs(probabilities_nl: torch.Tensor, ids_uk: torch.Tensor) -> torch.Tensor:
    """log p(d | e) ``(u, l)`` of units that all have k exemplars."""
    units, length = ids_uk.shape
    p_in_k = FIRST - torch.arange(length, dtype=torch.float64) / max(length, 1) * (FIRST - LAST)
    least_k = 1 - p_in_k + MINIMUM  # p_in · r, the factor where P is 0
    weights = (p_in_k / least_k).tolist()  # 1 / r
    ids_ku = ids_uk.T.contiguous()
    total_ul = probabilities_nl.new_full((units, probabilities_nl.shape[1]), float(least_k.log().sum()))
    product_ul, one_ul = torch.empty_like(total_ul), torch.empty_like(total_ul)
    for start in range(0, length, _FACTORS):
        product_ul.fill_(1.0)
        for rank in range(start, min(start + _FACTORS, length)):
            torch.index_select(probabilities_nl, 0, ids_ku[rank], out=one_ul)
            product_ul.addcmul_(product_ul, one_ul, value=weights[rank])
        total_ul.add_(product_ul.log_())
    return total_ul
