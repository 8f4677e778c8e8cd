"""How well an image-text model knows the scenes' concepts: AUROC of true presence, by concept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from labeler.builtin.scenes import CONCEPTS, render_scene

RENDER_SIZE = 224
MOST_WINDOW = 0.6  # a concept wider than this share of the image is cropped to a window that it fills


def auroc(score_n: NDArray[np.float32], present_n: NDArray[np.bool_]) -> float:
    """Area under the ROC curve; ties count half (Mann-Whitney)."""
    order = np.argsort(score_n, kind="stable")
    _, inverse, counts = np.unique(score_n[order], return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = np.empty(len(score_n))
    ranks[order] = (last - (counts - 1) / 2)[inverse]
    positives = int(present_n.sum())
    negatives = len(present_n) - positives
    return float((ranks[present_n].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def region_box(mask_hw: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int, int]:
    """Top, left and side of a square about a concept's pixels, or of a window that it fills best."""
    size = mask_hw.shape[0]
    rows, columns = np.flatnonzero(mask_hw.any(axis=1)), np.flatnonzero(mask_hw.any(axis=0))
    extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    if extent > MOST_WINDOW * size:
        side = int(0.4 * size)
        places = rng.integers(0, size - side + 1, (16, 2))
        filled = [mask_hw[top : top + side, left : left + side].mean() for top, left in places]
        top, left = places[int(np.argmax(filled))]
        return int(top), int(left), side
    side = max(int(extent * 1.1), size // 8)
    top = int(np.clip((rows[0] + rows[-1] - side) // 2, 0, size - side))
    left = int(np.clip((columns[0] + columns[-1] - side) // 2, 0, size - side))
    return top, left, side


def measure(
    model: nn.Module,
    tokenizer: Callable[[Sequence[str]], Tensor],
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    count: int,
) -> dict[str, object]:
    """Quality on `count` scenes of a seed: whole images, and one region crop per concept and scene.

    The score is the cosine of the image's embedding with that of the concept's name. Whole images: all
    scenes, present or not. Regions: crops about the concept's pixels against crops that hold no pixel of it.
    """
    rng = np.random.default_rng([seed, count])
    whole, present, crops, crop_of, crop_free = [], [], [], [], []

    def prepared(image: NDArray[np.uint8]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
        return (
            interpolate(tensor, (image_size, image_size), mode="bicubic", antialias=True)[0]
            .clamp(0, 255)
            .byte()
        )

    for index in range(count):
        scene = render_scene(seed, index, RENDER_SIZE)
        whole.append(prepared(scene.image))
        present.append(np.isin(np.arange(len(CONCEPTS)), scene.concepts))
        for chosen in rng.permutation(len(scene.concepts))[:4]:
            top, left, side = region_box(scene.masks[chosen], rng)
            window = (slice(top, top + side), slice(left, left + side))
            crops.append(prepared(scene.image[window]))
            crop_of.append(int(scene.concepts[chosen]))
            free = np.ones(len(CONCEPTS), dtype=bool)
            free[scene.concepts] = ~scene.masks[(slice(None), *window)].any(axis=(1, 2))
            crop_free.append(free)
    with torch.inference_mode():
        text = model.encode_text(tokenizer([concept.name for concept in CONCEPTS]), normalize=True)
        whole_score = _scores(model, whole, text, mean, std)
        crop_score = _scores(model, crops, text, mean, std)
    whole_auroc, crop_auroc = {}, {}
    present_nc, free_nc, of_n = np.stack(present), np.stack(crop_free), np.asarray(crop_of)
    for c, concept in enumerate(CONCEPTS):
        if 2 < present_nc[:, c].sum() < count:
            whole_auroc[concept.name] = round(auroc(whole_score[:, c], present_nc[:, c]), 4)
        used = (of_n == c) | free_nc[:, c]
        if (of_n == c).sum() > 2 and free_nc[:, c].any():
            crop_auroc[concept.name] = round(auroc(crop_score[used, c], of_n[used] == c), 4)
    return {"seed": seed, "scenes": count, "whole": _summary(whole_auroc), "regions": _summary(crop_auroc)}


def _scores(
    model: nn.Module, images: list[Tensor], text: Tensor, mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    scores = []
    for start in range(0, len(images), 64):
        batch = torch.stack(images[start : start + 64]).float().div_(255)
        batch = (batch - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        scores.append(model.encode_image(batch, normalize=True) @ text.T)
    return torch.cat(scores).numpy()


def _summary(auroc_by_name: dict[str, float]) -> dict[str, object]:
    values = list(auroc_by_name.values())
    return {"mean": round(float(np.mean(values)), 4), "min": min(values), "auroc": auroc_by_name}
