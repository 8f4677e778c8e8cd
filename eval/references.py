"""The other sides of the comparisons: plain loops, each obviously right, none slower than it needs to be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

Forward = Callable[[Tensor], Tensor]


def bare_efficientnet(network: nn.Module) -> Forward:
    """The forward pass of a timm EfficientNet as far as its last block."""
    stages = nn.Sequential(network.conv_stem, network.bn1, network.blocks)
    return torch.inference_mode()(stages.forward)


def bare_vit(network: nn.Module) -> Forward:
    """The forward pass of a timm ViT as far as its last block."""

    @torch.inference_mode()
    def forward(images_bchw: Tensor) -> Tensor:
        tokens_bnd = network.norm_pre(
            network.patch_drop(network._pos_embed(network.patch_embed(images_bchw)))
        )
        return network.blocks(tokens_bnd)

    return forward


def upsample(maps_nhw: Tensor, grid: int) -> Tensor:
    """Bilinear, half a cell inside the border as in Network Dissection's reference code.

    Images as channels of one channels_last image: the layout in which torch interpolates fastest.
    """
    maps_1nhw = maps_nhw[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(maps_1nhw, (grid, grid), mode="bilinear", align_corners=False)[0].contiguous()


def dissection_loop(
    maps_nuhw: Tensor, masks_ncgg: Tensor, known_nc: NDArray[np.bool_], thresholds_u: Tensor
) -> NDArray[np.float64]:
    """IoU ``(u, c)`` by a loop over units and concepts; every unit is upsampled once, for all images.

    `known_nc`: whether the image is annotated with the concept's category; masks are empty where it is not.
    """
    masks_cngg = masks_ncgg.transpose(0, 1).contiguous().numpy()
    area_c = masks_cngg.sum(axis=(1, 2, 3))
    iou_uc = np.zeros((maps_nuhw.shape[1], len(masks_cngg)))
    for unit in range(maps_nuhw.shape[1]):
        fires_ngg = (upsample(maps_nuhw[:, unit], masks_ncgg.shape[-1]) > thresholds_u[unit]).numpy()
        activated_n = fires_ngg.sum(axis=(1, 2))
        for concept, mask_ngg in enumerate(masks_cngg):
            shared = np.count_nonzero(fires_ngg & mask_ngg)
            union = activated_n[known_nc[:, concept]].sum() + area_c[concept] - shared
            iou_uc[unit, concept] = shared / union if union else 0.0
    return iou_uc


def dissection_sparse(
    maps_nuhw: Tensor, masks_ncgg: Tensor, known_nc: NDArray[np.bool_], thresholds_u: Tensor
) -> NDArray[np.float64]:
    """The same by a loop over units that counts the concepts under its few active cells."""
    grid = masks_ncgg.shape[-1]
    cells_xc = masks_ncgg.permute(0, 2, 3, 1).flatten(0, 2).contiguous().numpy()  # (n · g · g, c)
    area_c = np.count_nonzero(cells_xc, axis=0)
    iou_uc = np.zeros((maps_nuhw.shape[1], cells_xc.shape[1]))
    for unit in range(maps_nuhw.shape[1]):
        map_nhw, threshold = maps_nuhw[:, unit], thresholds_u[unit]
        images = (map_nhw.amax(dim=(1, 2)) > threshold).nonzero()[:, 0]  # no other image can be active
        if not len(images):
            continue
        fires_ag = (upsample(map_nhw[images], grid) > threshold).flatten(1)
        rows, cells = fires_ag.nonzero(as_tuple=True)
        shared_c = cells_xc[(images[rows] * grid * grid + cells).numpy()].sum(axis=0, dtype=np.int64)
        activated_c = fires_ag.sum(dim=1).numpy() @ known_nc[images.numpy()]
        union_c = activated_c + area_c - shared_c
        iou_uc[unit] = np.divide(shared_c, union_c, out=np.zeros(len(union_c)), where=union_c > 0)
    return iou_uc


def soft_wpmi_loop(probabilities_nl: Tensor, ids_uk: Tensor) -> tuple[Tensor, Tensor]:
    """SoftWPMI as published, unit by unit, in place where that helps: scores and log p(d | e), ``(u, l)``."""
    exemplars = ids_uk.shape[1]
    ranks_k1 = torch.arange(exemplars, device=probabilities_nl.device)[:, None]
    p_in_k1 = 0.998 - ranks_k1 / exemplars * (0.998 - 0.97)
    constant_k1 = 1 - p_in_k1 + 1e-7
    likelihood_ul = torch.empty(len(ids_uk), probabilities_nl.shape[1], device=probabilities_nl.device)
    for unit, ids_k in enumerate(ids_uk):
        likelihood_ul[unit] = probabilities_nl[ids_k].mul_(p_in_k1).add_(constant_k1).log_().sum(dim=0)
    log_mean_l = torch.logsumexp(likelihood_ul, dim=0) - np.log(len(ids_uk))
    return likelihood_ul - log_mean_l, likelihood_ul


def auroc_loop(activations_nu: NDArray[np.float32], presence_nc: NDArray[np.float32]) -> NDArray[np.float64]:
    """AUROC ``(u, c)`` by scikit-learn, pair by pair."""
    from sklearn.metrics import roc_auc_score

    return np.array(
        [[roc_auc_score(present_n, unit_n) for present_n in presence_nc.T] for unit_n in activations_nu.T]
    )
