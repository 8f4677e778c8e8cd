"""*intervention*: does the unit follow the concept when it is put into an image, or taken out of it?

A *source* is a test image that shows the concept. Its masked pixels are pasted, at their place, into a
*background* that lacks the concept, and the same is done with a region of similar area of a wrong concept;
and in the source itself the concept is erased (`composites.inpaint`), and, as the control, a region of
similar area that does not show it. With a(·) the unit's pooled maximum and R its range on `test` (the mean of
its top 1 % of images, less the median)::

    paste = (a(background + concept) - a(background + wrong concept)) / R   where a(background) <= median
    erase = (a(source without control) - a(source without concept)) / R     where a(source) >= 90th percentile

each clipped to [-1, 1]. The effect of a source is the mean of the two, or the one that there is; `value` is
the mean over sources, in [-1, 1]: the share of the unit's range that the concept itself moves. `low` is its
one-sided 95 % lower bound (`_lower_bound`), `n` the number of sources. *Significance*: the signs of the
effects flipped (Fisher 1935, "The Design of Experiments", sec. 21), which is exact for so few; concept and
control are exchangeable when the label says nothing about the unit. *Specificity*: the same concept's value
on the layer's other units. Taking parts in and out follows the single-unit interventions of Bau et al. 2020
("Understanding the role of individual units in a deep neural network", PNAS 117), done to the image here, not
to the unit.

Colours and textures are pasted with their shape, scenes only where they cover part of an image: a concept
that fills most of its image leaves no room for a control (`AREA`), and the check is not applicable to it.

What it cannot see: pasting makes edges and breaks context, so a unit that needs the surroundings of a concept
does not respond; an erased region is unnatural itself, which is what the control is for; what always comes
with the concept (the shape of every red thing) is pasted and erased with it. A concept's region says more
than most controls beside it: over all units of EfficientNet-Lite0 and concepts of rendered scenes, right or
wrong, erasing has a mean effect of +0.05 to +0.07 of the range, pasting of 0.00; *specificity* takes that
into account, *significance* does not. A dozen images are few, so bounds are wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labeler.checks.composites import SIMILAR
from labeler.checks.data import Booleans, Floats, Integers, LayerData, results
from labeler.checks.nulls import Z95, sign_flip_null, specificity
from labeler.records import CheckResult
from labeler.storage import hash_order

Kind = Literal["concept pasted", "wrong pasted", "concept erased", "control erased"]

AREA = 0.5
"""Largest share of its image that a concept may cover to be pasted and erased: a control must fit too."""
MIN_SOURCES = 5
"""Fewer sources: even if all agree, the sign-flip p exceeds 1/32 and nothing can be significant at 5 %."""
POOL = 400
"""Most images among which backgrounds and wrong concepts are looked for."""
FIRES = 0.9
"""Quantile of the unit's activation on `test` above which it fires in a source, so that there is something to
be taken away (band *mid*)."""


@dataclass(frozen=True)
class Trial:
    """One source of a concept and what is done with it; image ids are rows of the probe.

    `background`, `wrong` (a concept) and `wrong_source` are None where no image fits: nothing is pasted then.
    """

    concept: int
    source: int
    background: int | None = None
    wrong: int | None = None
    wrong_source: int | None = None


def plan_trials(
    areas_nc: NDArray[np.float32],
    image_ids_n: Integers,
    groups: Sequence[str],
    categories: Sequence[str],
    concepts: Sequence[int],
    count: int,
    presence_area: float,
    seed: int,
) -> list[Trial]:
    """Sources, backgrounds and wrong concepts for each concept, hash-chosen; at most `count` trials of each.

    A trial depends on the images and the concept alone, not on what else is asked for.

    Args:
        areas_nc: share of each probe image that each concept covers, NaN where unknown. ``(N, c)``.
        image_ids_n: the images to choose from, those of `test`. ``(n,)``.
        groups: near-duplicate group of every probe image; a concept uses one source of each.
        categories: of the concepts. ``(c,)``.
        concepts: those to be tried, ascending.
        count: sources per concept.
        presence_area: least share at which a concept is present.
        seed: of the run.
    """
    ids = image_ids_n[np.isfinite(areas_nc[image_ids_n]).any(axis=1)]
    order = ids[hash_order(ids.tolist(), seed, "intervention")]
    pool = order[:POOL]
    pool_areas_nc = areas_nc[pool]
    trials = []
    for concept in concepts:
        shown_n = (areas_nc[order, concept] >= presence_area) & (areas_nc[order, concept] <= AREA)
        lacking_n = pool_areas_nc[:, concept] < presence_area  # False where unknown
        backgrounds = iter(_one_per_group(pool[lacking_n], groups, count))
        for source in _one_per_group(order[shown_n], groups, count):
            background = next(backgrounds, None)
            trial = Trial(concept, source)
            if background is not None:
                area, beside = areas_nc[source, concept], areas_nc[background]
                least = max(presence_area, area / SIMILAR)
                fits_nc = (pool_areas_nc >= least) & (pool_areas_nc <= area * SIMILAR)
                fits_nc &= lacking_n[:, None] & (beside < presence_area)
                trial = _with_wrong(trial, background, fits_nc, pool, categories, seed)
            trials.append(trial)
    return trials


def _with_wrong(
    trial: Trial,
    background: int,
    fits_nc: Booleans,
    pool: Integers,
    categories: Sequence[str],
    seed: int,
) -> Trial:
    """The trial with a wrong concept, of the same category where one fits, and an image to take it from."""
    fitting = np.flatnonzero(fits_nc.any(axis=0)).tolist()
    same = [concept for concept in fitting if categories[concept] == categories[trial.concept]]
    choices = same or fitting
    if not choices:
        return trial
    purpose = f"wrong for {trial.concept} of {trial.source}"
    wrong = choices[hash_order(choices, seed, purpose)[0]]
    donors = pool[fits_nc[:, wrong]].tolist()
    donor = donors[hash_order(donors, seed, purpose)[0]]
    return Trial(trial.concept, trial.source, background, wrong, donor)


def _one_per_group(ids: Integers, groups: Sequence[str], count: int) -> list[int]:
    first: dict[str, int] = {}
    for image_id in ids.tolist():
        if len(first) == count:
            break
        first.setdefault(groups[image_id], image_id)
    return list(first.values())


Seen = dict[Trial, dict[Kind, NDArray[np.float32]]]


@dataclass
class Interventions:
    """What the altered images did to the live units of one layer.

    `seen` holds, by concept tried, trial and kind, the pooled maxima ``(u,)`` that an altered image gave: at
    most 4 numbers for each unit and source.
    """

    seen: dict[int, Seen] = field(default_factory=dict)

    def add(self, trial: Trial, kind: Kind, maxima_u: NDArray[np.float32]) -> None:
        """Record one altered image."""
        self.seen.setdefault(trial.concept, {}).setdefault(trial, {})[kind] = maxima_u


def effects(data: LayerData, seen: Mapping[Trial, Mapping[Kind, NDArray[np.float32]]]) -> Floats:
    """The effect of each source on each unit, in [-1, 1]; NaN where neither half applies to it. ``(s, u)``.

    Swapping concept and control changes the sign of every effect and nothing else.
    """
    activations_nu = data.activations_nu.astype(np.float64)
    median_u, fires_u = np.quantile(activations_nu, [0.5, FIRES], axis=0)
    top = max(1, round(len(activations_nu) / 100))
    range_u = np.sort(activations_nu, axis=0)[-top:].mean(axis=0) - median_u
    row = {int(image): index for index, image in enumerate(data.image_ids_n)}
    scale_u = np.where(range_u > 0, range_u, np.nan)
    found = np.full((len(seen), len(median_u)), np.nan)
    for index, (trial, images) in enumerate(seen.items()):
        halves = []
        if "concept pasted" in images and trial.background is not None:
            silent_u = activations_nu[row[trial.background]] <= median_u
            moved_u = images["concept pasted"].astype(np.float64) - images["wrong pasted"]
            halves.append(np.where(silent_u, np.clip(moved_u / scale_u, -1, 1), np.nan))
        if "concept erased" in images:
            source_u = activations_nu[row[trial.source]]
            fires = (source_u >= fires_u) & (source_u > median_u)
            moved_u = images["control erased"].astype(np.float64) - images["concept erased"]
            halves.append(np.where(fires, np.clip(moved_u / scale_u, -1, 1), np.nan))
        found[index] = _mean(np.array(halves).reshape(len(halves), len(median_u)))
    return found


def _mean(values_su: Floats) -> Floats:
    """Mean of the finite entries of each column, NaN where there are none."""
    count_u = np.isfinite(values_su).sum(axis=0)
    mean: Floats = np.nansum(values_su, axis=0) / np.where(count_u > 0, count_u, np.nan)
    return mean


def check_intervention(
    data: LayerData,
    interventions: Interventions,
    unit_p: Integers,
    concept_p: Sequence[int | None],
    min_units: int,
) -> list[CheckResult]:
    """*intervention* of (unit, concept) pairs: units as columns of the layer's data, concept None where none
    matches. Formula, range and nulls: see above."""
    measured: dict[int, Floats] = {}
    found = []
    for unit, concept in zip(unit_p.tolist(), concept_p, strict=True):
        if concept is None:
            found.append(CheckResult.not_applicable("no annotated concept is named so", "annotations"))
            continue
        if concept not in interventions.seen:
            why = "no image was altered for this concept"
            found.append(CheckResult.not_applicable(why, "annotations"))
            continue
        if concept not in measured:
            measured[concept] = effects(data, interventions.seen[concept])
        effects_su = measured[concept]
        found.append(_check(data, effects_su, unit, min_units))
    return found


def _check(data: LayerData, effects_su: Floats, unit: int, min_units: int) -> CheckResult:
    if len(effects_su) < MIN_SOURCES:
        why = f"only {len(effects_su)} test images show the concept on at most {AREA:.0%} of their area"
        return CheckResult.not_applicable(f"{why}; {MIN_SOURCES} are needed", "annotations")
    effects_s = effects_su[np.isfinite(effects_su[:, unit]), unit]
    if len(effects_s) < MIN_SOURCES:
        why = f"the unit is silent, or fires, as it should before the change in {len(effects_s)} images"
        return CheckResult.not_applicable(f"{why}; {MIN_SOURCES} are needed", "annotations")
    enough_u = np.isfinite(effects_su).sum(axis=0) >= MIN_SOURCES
    values_u = np.where(enough_u, _mean(effects_su), np.nan)
    others_pu = np.where(data.related_uu[[unit]], np.nan, values_u[None])
    low, error = _lower_bound(effects_s)
    # Under flipped signs a real effect is noise of its own size, which would keep z below the root of n.
    specific = specificity(values_u[[unit]], others_pu, np.array([error]), min_units)
    return results(
        [""], ["annotations"], values_u[[unit]], np.array([low]), np.array([len(effects_s)]),
        [sign_flip_null(effects_s)], specific,
    )[0]  # fmt: skip


def _lower_bound(effects_s: Floats) -> tuple[float, float]:
    """One-sided 95 % lower bound of the mean by Student's t, and the mean's standard error, with one more
    source that has no effect.

    Without it five equal effects would leave no doubt at all. The quantile of t is Abramowitz & Stegun's
    (1964) 26.7.5. Simulated with 5 to 12 normal, heavy-tailed, two-valued or rare effects, the bound holds in
    96 to 100 % of samples.
    """
    widened_s = np.append(effects_s, 0.0)
    free = len(widened_s) - 1
    third, fifth = Z95**3, Z95**5
    quantile = Z95 + (third + Z95) / (4 * free) + (5 * fifth + 16 * third + 3 * Z95) / (96 * free**2)
    error = float(widened_s.std(ddof=1) / np.sqrt(len(widened_s)))
    return float(max(-1.0, widened_s.mean() - quantile * error)), error
