"""Dissection: how well a unit's activation mask covers a concept's annotation mask.

Bau, Zhou, Khosla, Oliva & Torralba (2017), "Network Dissection", sec. 2: mask ``M = up(a) > T_u`` and
``IoU(u,c) = Σ|M∩L_c| / (Σ|M over images annotated with c's category| + Σ|L_c| - Σ|M∩L_c|)``.

In ``eval sanity`` (demo setting) it passes the extra-label test and fails the missing-label test: a label
that has lost half of its masks loses little IoU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from labeler.checks.data import Booleans, Floats, Integers, LayerData, results
from labeler.checks.nulls import Z95, matrix_moments, permutation_null, specificity
from labeler.records import CheckResult, Null

Packed = NDArray[np.uint8]

_MAPS = 256  # upsampled together: 3 MB at 56 × 56 cells


def upsample(maps_pxy: torch.Tensor, grid: int) -> torch.Tensor:
    """Activation maps, bilinear to ``(p, grid, grid)``.

    Cell centres lie half a cell inside the border (`align_corners=False`), as in OpenCV's and Pillow's
    `resize`, which Network Dissection's reference code uses: a map's cell covers the same part of the image
    before and after. Corner alignment would shift masks by up to half a cell of the map.

    The result lies in memory cell by cell (channels_last), in which order one core interpolates 20 times as
    many maps per second.
    """
    maps_1pxy = maps_pxy[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(maps_1pxy, size=(grid, grid), mode="bilinear", align_corners=False)[0]


@dataclass(frozen=True)
class _Mask:
    """The cells of one unit or concept on one image, eight to the byte."""

    image: int
    cells: Packed  # (grid² / 8,)
    area: int


class Dissection:
    """Accumulates the IoU of all units with all concepts over batches of annotated images.

    The state is O(units × concepts), and the packed masks of the units under test and of the concepts, which
    the exact permutation null needs. One image costs one binary matrix product of the units that pass their
    threshold on it (a few in a hundred positions do: T_u is the 99.5th percentile) with the concepts that it
    shows; the other entries of the product are zero and are never formed.

    Args:
        live_units: units of the layer, ascending; those of `LayerData`. ``(u,)``.
        thresholds_u: T_u of each. ``(u,)``.
        categories: category of each concept, by the probe's concept index. ``(c,)``.
        tested: the units whose significance will be asked for.
        min_images: a concept shown by fewer images does not count (DESIGN 5).
    """

    def __init__(
        self,
        live_units: Integers,
        thresholds_u: NDArray[np.float32],
        categories: Sequence[str],
        tested: Sequence[int],
        min_images: int = 9,
    ) -> None:
        self.live_units = live_units
        self.categories = tuple(categories)
        self.min_images = min_images
        self.images = 0
        self._cells = 0
        names = sorted(set(categories))
        self.category_names = tuple(names)
        self._category_c = np.array([names.index(category) for category in categories], dtype=np.int64)
        self._thresholds_u = torch.from_numpy(np.array(thresholds_u, dtype=np.float32))
        column = {int(unit): index for index, unit in enumerate(live_units)}
        self._column = column
        self._unit_masks: dict[int, list[_Mask]] = {column[unit]: [] for unit in tested if unit in column}
        self._concept_masks: list[list[_Mask]] = [[] for _ in categories]
        self._annotated_ik: list[Booleans] = []
        self._intersection_uc = np.zeros((len(live_units), len(categories)))
        self._activated_uk = np.zeros((len(live_units), len(names)))
        self._area_c = np.zeros(len(categories))

    def add(
        self, maps_buhw: torch.Tensor, masks_bcgg: torch.Tensor, annotated: Sequence[frozenset[str]]
    ) -> None:
        """Add a batch of images.

        Args:
            maps_buhw: activation maps of `live_units`, on any device.
            masks_bcgg: concept masks on the annotation grid, bool, on any device.
            annotated: the categories in which each image is annotated; masks of others are ignored.
        """
        grid = masks_bcgg.shape[-1]
        self._cells = grid * grid
        thresholds_u = self._thresholds_u.to(maps_buhw.device, maps_buhw.dtype)
        # An interpolated value never exceeds the map's maximum.
        active_bu = (maps_buhw.amax(dim=(2, 3)) > thresholds_u).cpu()
        # amax of bytes: torch's `any` of booleans takes ten times as long.
        shown_bc = masks_bcgg.view(torch.uint8).flatten(2).amax(dim=2).cpu().numpy()
        unit_masks = _active_masks(maps_buhw, active_bu, thresholds_u, grid)
        for index, (categories, mask_gp) in enumerate(zip(annotated, unit_masks, strict=True)):
            annotated_k = np.array([name in categories for name in self.category_names], dtype=np.bool_)
            concepts = np.flatnonzero(shown_bc[index] & annotated_k[self._category_c])
            masks_cgg = masks_bcgg[index, torch.from_numpy(concepts).to(masks_bcgg.device)]
            labels_cg = masks_cgg.flatten(1).to(mask_gp.device)
            self._add_image(
                mask_gp, np.flatnonzero(active_bu[index].numpy()), labels_cg, concepts, annotated_k
            )

    def _add_image(
        self,
        mask_gp: torch.Tensor,
        units: Integers,
        labels_cg: torch.Tensor,
        concepts: Integers,
        annotated_k: Booleans,
    ) -> None:
        # float32 holds counts exactly up to 2^24 cells
        float_cg = labels_cg.float()
        if len(units):
            # A concept that is everywhere counts the active cells in the same product.
            everywhere_1g = float_cg.new_ones(1, self._cells)
            counts_pc = (torch.cat([float_cg, everywhere_1g]) @ mask_gp).T.cpu().numpy()
            self._intersection_uc[units[:, None], concepts] += counts_pc[:, :-1]
            self._activated_uk[units] += counts_pc[:, -1:] * annotated_k
        kept = [row for row, unit in enumerate(units.tolist()) if unit in self._unit_masks]
        if kept:
            for row, cells in zip(kept, _pack(mask_gp[:, kept].T > 0), strict=True):
                self._unit_masks[int(units[row])].append(_mask(self.images, cells))
        self._area_c[concepts] += float_cg.sum(dim=1).cpu().numpy()
        for concept, cells in zip(concepts, _pack(labels_cg), strict=True):
            self._concept_masks[int(concept)].append(_mask(self.images, cells))
        self._annotated_ik.append(annotated_k)
        self.images += 1

    def iou(self) -> Floats:
        """IoU of every unit with every concept in [0, 1], ``(u, c)``; NaN for concepts in too few images."""
        activated_uc = self._activated_uk[:, self._category_c]
        union_uc = activated_uc + self._area_c - self._intersection_uc
        enough_c = np.array([len(masks) >= self.min_images for masks in self._concept_masks], dtype=np.bool_)
        iou_uc = np.divide(self._intersection_uc, union_uc, out=np.zeros_like(union_uc), where=union_uc > 0)
        return np.where(enough_c[None, :], iou_uc, np.nan)

    def concept_images(self, concept: int) -> int:
        """In how many images the concept is shown."""
        return len(self._concept_masks[concept])

    def significance(self, unit: int, concept: int) -> tuple[Null, float, float, int]:
        """Images permuted: do this unit's masks overlap the concept's more than those of other images would?

        The sizes of masks do not change under permutation, so IoU is above chance when the intersection is;
        its moments are exact (`nulls.matrix_moments`).

        Returns:
            the null; the standard deviation of IoU under permutation; the one-sided 95 % lower bound of IoU
            over the sampling of images (ratio estimator: Cochran 1977, sec. 2.11); the number of images
            annotated with the concept's category.
        """
        inside, unit_masks, concept_masks = self._masks(unit, concept)
        unit_ag, concept_bg = _unpack(unit_masks, self._cells), _unpack(concept_masks, self._cells)
        block_ab = (unit_ag @ concept_bg.T).numpy().astype(np.float64)
        moments = matrix_moments(block_ab, len(inside))
        row_of = {mask.image: row for row, mask in enumerate(unit_masks)}
        same = [(row_of[m.image], column) for column, m in enumerate(concept_masks) if m.image in row_of]
        overlap = np.array([sum(block_ab[row, column] for row, column in same)])
        union = float(unit_ag.sum() + concept_bg.sum() - overlap[0])
        (null,) = permutation_null(overlap, moments)
        if null.p is None:  # no permutation changes anything, as where the unit has no mask at all
            null = Null(z=0.0, p=1.0)
        # d IoU / d intersection = (union + intersection) / union², as the union shrinks by what is shared
        noise = float(moments.sd[0]) * (union + overlap[0]) / union**2 if union > 0 else 0.0
        ratio, influence_i = self.influence(unit, concept)
        return null, noise, max(0.0, ratio - Z95 * standard_error(influence_i, len(inside))), len(inside)

    def influence(self, unit: int, concept: int) -> tuple[float, Floats]:
        """The IoU of a unit under test with a concept, and each image's influence on it, ``(images,)``.

        By the ratio estimator (Cochran 1977, sec. 2.11): IoU is a ratio of two sums over images.
        """
        _, unit_masks, concept_masks = self._masks(unit, concept)
        overlap_i, union_i = np.zeros(self.images), np.zeros(self.images)
        of_unit = {mask.image: mask for mask in unit_masks}
        both = [(mask, of_unit[mask.image]) for mask in concept_masks if mask.image in of_unit]
        if both:
            shared = [np.stack(masks) for masks in zip(*((c.cells, u.cells) for c, u in both), strict=True)]
            counts = np.bitwise_count(shared[0] & shared[1]).sum(axis=1, dtype=np.int64)
            overlap_i[[mask.image for mask, _ in both]] = counts
        for masks in (unit_masks, concept_masks):
            union_i[[mask.image for mask in masks]] += [mask.area for mask in masks]
        union_i -= overlap_i
        total = union_i.sum()
        if not total > 0:
            return 0.0, overlap_i
        ratio = float(overlap_i.sum() / total)
        return ratio, (overlap_i - ratio * union_i) / total

    def _masks(self, unit: int, concept: int) -> tuple[set[int], list[_Mask], list[_Mask]]:
        """Images annotated with the concept's category; there, the masks of the unit and of the concept."""
        category = self._category_c[concept]
        inside = {i for i, annotated_k in enumerate(self._annotated_ik) if annotated_k[category]}
        unit_masks = [mask for mask in self._unit_masks[self._column[unit]] if mask.image in inside]
        return inside, unit_masks, self._concept_masks[concept]


def standard_error(influence_i: Floats, count: int) -> float:
    """Of a ratio over `count` images, from their influences."""
    return float(np.sqrt(count / max(count - 1, 1) * (influence_i**2).sum()))


def _mask(image: int, cells: Packed) -> _Mask:
    return _Mask(image, cells, int(np.bitwise_count(cells).sum()))


def _active_masks(
    maps_buhw: torch.Tensor, active_bu: torch.Tensor, thresholds_u: torch.Tensor, grid: int
) -> Iterator[torch.Tensor]:
    """For each image, the masks of its active units as float32 zeros and ones, ``(grid², p)``.

    Neighbouring images are upsampled together: one call for a few maps costs as much as for fifty.
    """
    images_p, units_p = (index.to(maps_buhw.device) for index in active_bu.nonzero(as_tuple=True))
    ends = [0, *active_bu.sum(dim=1).cumsum(dim=0).tolist()]
    for start, stop in _runs(ends, _MAPS):
        these = slice(ends[start], ends[stop])
        mask_gp = torch.empty(grid * grid, 0, device=maps_buhw.device)
        if ends[start] < ends[stop]:
            up_pgg = upsample(maps_buhw[images_p[these], units_p[these]], grid)
            mask_gp = up_pgg.float().permute(1, 2, 0).flatten(0, 1).gt_(thresholds_u[units_p[these]])
        for image in range(start, stop):
            yield mask_gp[:, ends[image] - ends[start] : ends[image + 1] - ends[start]]


def _runs(ends: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Consecutive images (start, stop) with at most `most` maps together, or one image with more."""
    start = 0
    for stop in range(1, len(ends)):
        if stop == len(ends) - 1 or ends[stop + 1] - ends[start] > most:
            yield start, stop
            start = stop


def _pack(mask_pg: torch.Tensor) -> list[Packed]:
    return list(np.packbits(mask_pg.cpu().numpy(), axis=1))


def _unpack(masks: Sequence[_Mask], cells: int) -> torch.Tensor:
    if not masks:
        return torch.zeros(0, cells)
    return torch.from_numpy(
        np.unpackbits(np.stack([mask.cells for mask in masks]), axis=1, count=cells)
    ).float()


def best(iou_uc: Floats, categories: Sequence[str] | None = None) -> dict[str, Integers]:
    """The concept of highest IoU for each unit, over all concepts (key ``""``) and within each category.

    Ties go to the first concept; -1 where no concept counts. ``(u,)`` each.
    """
    groups = {"": np.arange(iou_uc.shape[1])}
    for name in sorted(set(categories or ())):
        groups[name] = np.array([i for i, category in enumerate(categories or ()) if category == name])
    found = {}
    for name, concepts in groups.items():
        values_uc = np.nan_to_num(iou_uc[:, concepts], nan=-1.0)
        best_u = values_uc.argmax(axis=1) if len(concepts) else np.zeros(len(iou_uc), dtype=np.int64)
        counts = values_uc.max(axis=1, initial=-1.0) >= 0
        found[name] = np.where(counts, concepts[best_u] if len(concepts) else -1, -1).astype(np.int64)
    return found


def check_iou(
    data: LayerData, dissection: Dissection, unit_p: Integers, concept_p: Sequence[int | None], min_units: int
) -> list[CheckResult]:
    """*iou* of (unit, concept) pairs: units as columns of the layer's data, concept None where none matches.

    `value` in [0, 1]; *significance*: images permuted; *specificity*: the same concept's IoU with the layer's
    other units; `n`: images annotated with the concept's category.
    """
    iou_uc = dissection.iou()
    found = []
    for unit, concept in zip(unit_p, concept_p, strict=True):
        if concept is None:
            found.append(CheckResult.not_applicable("no annotated concept is named so", "annotations"))
            continue
        if np.isnan(iou_uc[unit, concept]):
            shown = dissection.concept_images(concept)
            why = f"the concept is in only {shown} dissected images; {dissection.min_images} are needed"
            found.append(CheckResult.not_applicable(why, "annotations"))
            continue
        null, noise, low, count = dissection.significance(int(data.live_units[unit]), concept)
        value_p = iou_uc[[unit], concept]
        others_pu = np.where(data.related_uu[[unit]], np.nan, iou_uc[:, concept][None])
        specific = specificity(value_p, others_pu, np.array([noise]), min_units)
        found += results([""], ["annotations"], value_p, np.array([low]), np.array([count]), [null], specific)
    return found
