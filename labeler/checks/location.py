"""*location*: does any other annotated concept lie where the unit fires better than the label's own?

``value = (IoU(label) - IoU(best rival)) / max of the two``, the rivals being all other annotated concepts in
enough images, in [-1, 1]; positive where the label's concept covers the unit's mask best. What is always in
the same images (house and roof, cup and handle) differs in place alone, which neither *prediction* nor
*rivals* looks at, and IoU itself does not compare: a small part that a unit finds exactly may have a lower
IoU than a large whole has by chance. *significance* tests the lead by the influence functions of both ratios
(Cochran 1977, "Sampling Techniques", sec. 2.11), so that shared images cancel. As in *rivals*, a label
competes for what the better facets of its unit leave unexplained: their concepts are no rivals.

In ``eval sanity`` (demo setting) it passes the extra-label test and fails the missing-label test, as *iou*
does: what is left of a label that lost half of its masks still lies where the unit fires.

What it cannot see: concepts that nobody annotated, words for the same pixels, and compound labels, which have
no mask of their own. A unit whose map is coarser than the concept leads by little.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from labeler.checks.data import Integers, LayerData
from labeler.checks.iou import Dissection, standard_error
from labeler.checks.nulls import Z95, normal_tail
from labeler.records import CheckResult, Null

MIN_RIVALS = 16
"""Fewer concepts to compare with: being the best of a handful says little (as in *rivals*)."""
_ROUNDING = 1e-12  # a smaller standard error: two concepts of the very same masks


def check_location(
    data: LayerData,
    dissection: Dissection,
    unit_p: Integers,
    concept_p: Sequence[int | None],
    exempt_p: Sequence[Collection[int]],
    names: Sequence[str],
) -> list[CheckResult]:
    """The lead in IoU of (unit, concept) pairs.

    Args:
        data: the layer; `unit_p` are its columns.
        dissection: of the same layer.
        unit_p: ``(p,)``.
        concept_p: the concept that each label names, None where none matches. ``(p,)``.
        exempt_p: concepts that are no rivals of each label. ``(p,)``.
        names: of the concepts.

    `n` is the number of dissected images.
    """
    iou_uc = dissection.iou()
    found = []
    for unit, concept, exempt in zip(unit_p, concept_p, exempt_p, strict=True):
        if concept is None or np.isnan(iou_uc[unit, concept]):
            why = (
                "no annotated concept is named so" if concept is None else "its concept is in too few images"
            )
            found.append(CheckResult.not_applicable(why, "annotations"))
            continue
        open_c = ~np.isnan(iou_uc[unit])
        open_c[[concept, *exempt]] = False
        if open_c.sum() < MIN_RIVALS:
            why = f"only {int(open_c.sum())} other concepts to compare with; {MIN_RIVALS} are needed"
            found.append(CheckResult.not_applicable(why, "annotations"))
            continue
        rival = int(np.where(open_c, iou_uc[unit], -1.0).argmax())
        found.append(_lead(dissection, int(data.live_units[unit]), concept, rival, names[rival]))
    return found


def _lead(dissection: Dissection, unit: int, concept: int, rival: int, name: str) -> CheckResult:
    own, own_influence_i = dissection.influence(unit, concept)
    other, influence_i = dissection.influence(unit, rival)
    larger = max(own, other)
    if not larger > 0:
        return CheckResult.not_applicable("the unit's mask meets no concept", "annotations")
    error = standard_error(own_influence_i - influence_i, dissection.images)
    z = (own - other) / error if error > _ROUNDING else None
    return CheckResult(
        status="ok",
        why=f"the concept that lies there best is {name}, IoU {other:.2f}",
        value=(own - other) / larger,
        low=(own - other - Z95 * error) / larger,
        n=dissection.images,
        judge="annotations",
        significance=Null(z=z, p=1.0 if z is None else normal_tail(z)),
    )
