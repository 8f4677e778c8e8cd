"""How well an image-text model knows the scenes' concepts: AUROC of true presence, by concept."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from skimage.measure import label
from torch import Tensor
from torch.nn.functional import interpolate

from labeler.builtin.scenes import CONCEPTS, render_scene
from labeler.builtin.weights import SCENES_CLIP_NAMES, scenes_clip_files

RENDER_SIZE = 224
MARGIN = 1.25  # of a region's extent: some surroundings, without which a door is any rectangle
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
    """Top, left and side of a square about the largest connected piece of a concept, with a margin.

    A piece wider than `MOST_WINDOW` of the image gives the window, of sixteen, that it fills best.
    """
    size = mask_hw.shape[0]
    pieces = label(mask_hw, connectivity=2)  # type: ignore[no-untyped-call]
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    rows, columns = np.flatnonzero(largest.any(axis=1)), np.flatnonzero(largest.any(axis=0))
    extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    if extent > MOST_WINDOW * size:
        side = int(0.4 * size)
        places = rng.integers(0, size - side + 1, (16, 2))
        filled = [largest[top : top + side, left : left + side].mean() for top, left in places]
        top, left = places[int(np.argmax(filled))]
        return int(top), int(left), side
    side = max(int(extent * MARGIN), size // 8)
    top = int(np.clip((rows[0] + rows[-1] - side) // 2, 0, size - side))
    left = int(np.clip((columns[0] + columns[-1] - side) // 2, 0, size - side))
    return top, left, side


@dataclass(frozen=True)
class Exam:
    """Unseen scenes and region crops of them, resized for a model, with the truth.

    Attributes:
        seed: the series of scenes.
        whole: (n, 3, h, w) uint8.
        present: (n, concepts) bool, concepts annotated in the scene.
        crops: (m, 3, h, w) uint8.
        crop_of: (m,) int64, the concept that a crop was made for.
        crop_free: (m, concepts) bool, the crop holds no pixel of the concept.
    """

    seed: int
    whole: Tensor
    present: NDArray[np.bool_]
    crops: Tensor
    crop_of: NDArray[np.int64]
    crop_free: NDArray[np.bool_]


def draw_exam(seed: int, count: int, image_size: int, crops_each: int = 4) -> Exam:
    """The first `count` scenes of a seed, and crops about `crops_each` random concepts of each."""
    rng = np.random.default_rng([seed, count])
    whole, present, crops, crop_of, crop_free = [], [], [], [], []
    for index in range(count):
        scene = render_scene(seed, index, RENDER_SIZE)
        whole.append(_resized(scene.image, image_size))
        present.append(np.isin(np.arange(len(CONCEPTS)), scene.concepts))
        for chosen in rng.permutation(len(scene.concepts))[:crops_each]:
            top, left, side = region_box(scene.masks[chosen], rng)
            window = (slice(top, top + side), slice(left, left + side))
            crops.append(_resized(scene.image[window], image_size))
            crop_of.append(int(scene.concepts[chosen]))
            free = np.ones(len(CONCEPTS), dtype=bool)
            free[scene.concepts] = ~scene.masks[(slice(None), *window)].any(axis=(1, 2))
            crop_free.append(free)
    return Exam(
        seed,
        torch.stack(whole),
        np.stack(present),
        torch.stack(crops),
        np.asarray(crop_of, dtype=np.int64),
        np.stack(crop_free),
    )


def _resized(image: NDArray[np.uint8], side: int) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    return interpolate(tensor, (side, side), mode="bicubic", antialias=True)[0]


def measure(
    model: Any,
    tokenizer: Callable[[Sequence[str]], Tensor],
    mean: Sequence[float],
    std: Sequence[float],
    exam: Exam,
) -> dict[str, Any]:
    """AUROC of presence by concept, its mean and minimum, on whole scenes and on regions.

    The score is the cosine of the image's embedding with that of the concept's name. Whole images: all
    scenes, present or not. Regions: crops about the concept's pixels against crops that hold no pixel of it.
    """
    with torch.inference_mode():
        text = model.encode_text(tokenizer([concept.name for concept in CONCEPTS]), normalize=True)
        whole_score = _scores(model, exam.whole, text, mean, std)
        crop_score = _scores(model, exam.crops, text, mean, std)
    whole, regions = {}, {}
    for c, concept in enumerate(CONCEPTS):
        present_n = exam.present[:, c]
        if present_n.sum() > 2 and not present_n.all():
            whole[concept.name] = round(auroc(whole_score[:, c], present_n), 4)
        own_m = exam.crop_of == c
        used_m = own_m | exam.crop_free[:, c]
        if own_m.sum() > 2 and exam.crop_free[:, c].any():
            regions[concept.name] = round(auroc(crop_score[used_m, c], own_m[used_m]), 4)
    return {
        "seed": exam.seed,
        "scenes": len(exam.whole),
        "crops": len(exam.crops),
        "whole": _summary(whole),
        "regions": _summary(regions),
    }


def _scores(
    model: Any, images: Tensor, text: Tensor, mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """Cosines (n, concepts)."""
    scores = []
    for batch in torch.split(images, 64):
        scaled = (batch.float() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        scores.append(model.encode_image(scaled, normalize=True) @ text.T)
    return np.asarray(torch.cat(scores).numpy(), dtype=np.float32)


def _summary(auroc_by_name: dict[str, float]) -> dict[str, object]:
    values = list(auroc_by_name.values())
    return {"mean": round(float(np.mean(values)), 4), "min": min(values), "auroc": auroc_by_name}


def main() -> None:
    """Measures a shipped model again and writes the result into its quality file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", choices=SCENES_CLIP_NAMES, required=True)
    parser.add_argument("--scenes", type=int, default=1000)
    given = parser.parse_args()
    config, weights = scenes_clip_files(given.name)
    open_clip.add_model_config(config)
    model = open_clip.create_model(given.name, pretrained=str(weights)).eval()
    exam = draw_exam(seed=0, count=given.scenes, image_size=model.visual.image_size[0])
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    quality = measure(model, open_clip.get_tokenizer(given.name), mean, std, exam)
    path = config.with_name(f"{given.name}.quality.json")
    record = json.loads(path.read_text(encoding="utf-8")) | quality
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print({part: {key: quality[part][key] for key in ("mean", "min")} for part in ("whole", "regions")})


if __name__ == "__main__":
    main()
