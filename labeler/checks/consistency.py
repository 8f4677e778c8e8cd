"""Synthetic against real: *real*, *synthetic* and *agreement*.

*real* asks whether the label describes the unit's held-out top exemplars, *synthetic* whether it describes
the unit's synthetic pictures, *agreement* whether those pictures and exemplars are of one kind, with no label
at all. FVs are out of domain for every image-text model, so they are centred by their own mean, never by that
of the photographs; and a judge that cannot match FVs to photographs in this layer does not speak of them.

In ``eval sanity`` (demo setting) *real* passes the missing-label test and fails the extra-label test: it
looks at top images alone, which a label that is too broad describes as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labeler.checks.data import Booleans, Floats, Integers, LayerData, Pairs, PictureData, Readings, results
from labeler.checks.judges import EncoderJudge, centred
from labeler.checks.nulls import Z95, Moments, permutation_null, product_moments, sign_flip_p, specificity
from labeler.checks.prediction import others_of, unusable
from labeler.records import CheckResult, Label, UnitId

MIN_EXEMPLARS = 5
"""Fewer held-out top exemplars: their mean says little."""
MIN_PICTURED_UNITS = 12
"""Fewer units with pictures: whether the judge can read FVs is not measurable."""
READS_PICTURES_P = 0.01
"""Level at which a judge must find units' own exemplars from their FVs before it may judge FVs."""


def check_real(
    data: LayerData, readings: Readings, pairs: Pairs, min_images: int, min_units: int
) -> list[CheckResult]:
    """Mean score of the unit's held-out top exemplars less that of all images, in standard deviations.

    `low` is a one-sided 95 % bound with the larger of the standard error from the exemplars' own spread and
    that of equal variances (Hedges & Olkin 1985, p. 86): exemplars that all have a concept spread by nothing.
    `n` is the number of exemplars.
    """
    reasons = unusable(readings.scores_nl, min_images)
    exemplars = _exemplar_moments(data, readings.scores_nl)
    found: list[CheckResult] = []
    for _, part in pairs.chunks(len(data.image_ids_n)):
        where = part.unit_p, part.label_p
        count_p, value_p = exemplars.count_ul[where], exemplars.value_ul[where]
        chosen_np = data.exemplars_nu[:, part.unit_p]
        usable_np = np.isfinite(readings.scores_nl[:, part.label_p])
        score_np = np.nan_to_num(exemplars.score_nl[:, part.label_p])
        shares_np = (chosen_np & usable_np) / np.maximum(count_p, 1)
        moments = product_moments(shares_np, score_np, usable_np)
        others_pu = others_of(exemplars.value_ul, data.related_uu, part)
        error_p = np.maximum(
            exemplars.sd_ul[where] / np.sqrt(np.maximum(count_p, 1)),
            np.sqrt(1 / np.maximum(count_p, 1) + value_p**2 / (2 * usable_np.sum(axis=0).clip(1))),
        )
        found += results(
            [
                reasons[label] or _few_exemplars(int(count))
                for label, count in zip(part.label_p, count_p, strict=True)
            ],
            [readings.judges[label] for label in part.label_p],
            value_p,
            value_p - Z95 * error_p,
            count_p,
            permutation_null(value_p, moments),
            specificity(value_p, others_pu, moments.sd, min_units),
        )
    return found


@dataclass(frozen=True)
class _Exemplars:
    """Every unit's exemplars under every label; `value_ul` is NaN with fewer than `MIN_EXEMPLARS`."""

    score_nl: Floats  # standardised by the weighted mean and deviation of all images
    count_ul: Integers
    value_ul: Floats
    sd_ul: Floats


def _exemplar_moments(data: LayerData, scores_nl: Floats) -> _Exemplars:
    usable_nl = np.isfinite(scores_nl)
    weights_nl = usable_nl * data.weights_n[:, None]
    total_l = np.maximum(weights_nl.sum(axis=0), 1e-300)
    filled_nl = np.where(usable_nl, scores_nl, 0.0)
    filled_nl = np.where(usable_nl, filled_nl - (weights_nl * filled_nl).sum(axis=0) / total_l, 0.0)
    sd_l = np.sqrt((weights_nl * filled_nl**2).sum(axis=0) / total_l)
    filled_nl /= np.where(sd_l > 1e-9, sd_l, np.inf)
    chosen_un = data.exemplars_nu.T.astype(np.float64)
    count_ul = chosen_un @ usable_nl
    mean_ul = chosen_un @ filled_nl / np.maximum(count_ul, 1)
    variance_ul = chosen_un @ filled_nl**2 / np.maximum(count_ul, 1) - mean_ul**2
    variance_ul *= count_ul / np.maximum(count_ul - 1, 1)
    value_ul = np.where(count_ul >= MIN_EXEMPLARS, mean_ul, np.nan)
    sd_ul = np.sqrt(np.maximum(variance_ul, 0.0))
    return _Exemplars(np.where(usable_nl, filled_nl, np.nan), count_ul.astype(np.int64), value_ul, sd_ul)


def _few_exemplars(count: int) -> str:
    if count >= MIN_EXEMPLARS:
        return ""
    return f"only {count} held-out top exemplars can be read; {MIN_EXEMPLARS} are needed"


@dataclass(frozen=True)
class Agreement:
    """*agreement* of one layer with one judge.

    `checks` has every unit with pictures. `why` is empty when the judge finds units' own exemplars from their
    FVs better than chance in this layer; else it says in numbers that it does not, and `checks` say the same.
    """

    judge: str
    why: str
    checks: Mapping[int, CheckResult]

    @property
    def usual(self) -> float | None:
        """The median percentile of the layer's units; None where it does not apply."""
        known = [
            check.value for check in self.checks.values() if check.status == "ok" and check.value is not None
        ]
        return float(np.median(known)) if known else None


def measure_agreement(
    data: LayerData, pictures: PictureData, judge: EncoderJudge, min_units: int
) -> Agreement:
    """FVs against the unit's own held-out exemplars, as a percentile among the exemplars of other units.

    The statistic is the mean cosine of the unit's FVs with its exemplars, each kind centred separately.
    `value` in [0, 1] is the share of other units of the layer (those correlated with it left out) whose
    exemplars are less like the FVs. *significance* is against random sets of images of the same size,
    *specificity* against the exemplars of the other units. `n` is the number of exemplars.
    """
    own = {owner.index for owner in pictures.owners if owner.side == data.layer}
    units = [unit for unit in data.position if unit in own]
    columns = np.array([data.position[unit] for unit in units], dtype=np.int64)
    likeness = _likeness(data, judge, mean_pictures(data.layer, units, pictures, judge.name), columns)
    percentile_p, others_p = percentiles(likeness.own_p, likeness.others_pu)
    why_p = [
        _few_exemplars(int(count))
        or ("" if np.isfinite(value) else f"the judge {judge.name} has no embedding of its pictures")
        or _few_units(int(others), min_units)
        for count, value, others in zip(likeness.count_p, likeness.own_p, others_p, strict=True)
    ]
    why = _cannot_read(judge.name, np.array([v for v, w in zip(percentile_p, why_p, strict=True) if not w]))
    found = results(
        [reason or why for reason in why_p],
        [judge.name] * len(units),
        percentile_p,
        None,
        likeness.count_p,
        permutation_null(likeness.own_p, likeness.moments),
        specificity(likeness.own_p, likeness.others_pu, likeness.moments.sd, min_units),
    )
    return Agreement(judge.name, why, dict(zip(units, found, strict=True)))


@dataclass(frozen=True)
class _Likeness:
    """Mean cosine of units' pictures with their own exemplars and with those of other units."""

    own_p: Floats
    others_pu: Floats
    count_p: Integers
    moments: Moments  # of `own_p`, were the exemplars random images


def _likeness(data: LayerData, judge: EncoderJudge, pictured_pd: Floats, columns: Integers) -> _Likeness:
    photographs_nd = judge.photographs_nd[data.image_ids_n].astype(np.float64)
    readable_n = np.logical_and.reduce(np.isfinite(photographs_nd), axis=1)
    cosine_np = np.where(readable_n[:, None], photographs_nd, 0.0) @ pictured_pd.T
    chosen_nu = np.logical_and(data.exemplars_nu, readable_n[:, None])
    count_u = chosen_nu.sum(axis=0)
    values_pu = np.where(count_u >= MIN_EXEMPLARS, cosine_np.T @ chosen_nu / np.maximum(count_u, 1), np.nan)
    shares_np = chosen_nu[:, columns] / np.maximum(count_u[columns], 1)
    usable_np = np.broadcast_to(readable_n[:, None], cosine_np.shape)
    return _Likeness(
        own_p=values_pu[np.arange(len(columns)), columns],
        others_pu=np.where(data.related_uu[columns], np.nan, values_pu),
        count_p=count_u[columns],
        moments=product_moments(shares_np, cosine_np, usable_np),
    )


def mean_pictures(layer: str, units: Sequence[int], pictures: PictureData, judge: str) -> Floats:
    """Mean of each unit's centred FV embeddings; NaN where none could be embedded. ``(p, d)``."""
    pictures_fd = centred(pictures.embeddings[judge]).astype(np.float64)
    readable_f = np.isfinite(pictures_fd).all(axis=1)
    means = []
    for unit in units:
        own_f = (
            np.array([o.side == layer and o.index == unit for o in pictures.owners], dtype=np.bool_)
            & readable_f
        )
        means.append(
            pictures_fd[own_f].mean(axis=0) if own_f.any() else np.full(pictures_fd.shape[1], np.nan)
        )
    return np.array(means).reshape(len(units), pictures_fd.shape[1])


def percentiles(own_p: Floats, others_pu: Floats) -> tuple[Floats, Integers]:
    """Share of the others below each value, ties counting half, and how many others there are."""
    count_p = np.isfinite(others_pu).sum(axis=1)
    below_p = (others_pu < own_p[:, None]).sum(axis=1) + 0.5 * (others_pu == own_p[:, None]).sum(axis=1)
    return below_p / np.maximum(count_p, 1), count_p


def _few_units(count: int, min_units: int) -> str:
    return (
        "" if count >= min_units else f"only {count} other live units to compare with; {min_units} are needed"
    )


def _cannot_read(judge: str, percentiles: Floats) -> str:
    """Why a judge may not speak of this layer's pictures; empty when it beats chance (percentile 0.5)."""
    if len(percentiles) < MIN_PICTURED_UNITS:
        return (
            f"whether {judge} can read synthetic pictures was measurable on {len(percentiles)} units only; "
            f"{MIN_PICTURED_UNITS} are needed"
        )
    p = sign_flip_p(percentiles - 0.5)
    if p <= READS_PICTURES_P:
        return ""
    return (
        f"{judge} does not find units' exemplars from their synthetic pictures better than chance here: "
        f"mean percentile {percentiles.mean():.2f} over {len(percentiles)} units (chance 0.50, p = {p:.2g})"
    )


def check_synthetic(
    data: LayerData,
    labels: Sequence[Label],
    pairs: Pairs,
    pictures: PictureData,
    judges: Sequence[tuple[EncoderJudge, Agreement]],
    min_units: int,
) -> list[CheckResult]:
    """Mean standardised similarity of the label to the unit's own FVs, over all FVs of the run.

    Judged by the first image-text model that knows the label and can read pictures of this layer.
    *significance*: pictures permuted among units; *specificity*: the other units' FVs. `n` is the number of
    own pictures.
    """
    background = _background(data, pictures)
    found: list[CheckResult | None] = [None] * len(pairs)
    for judge, agreed in judges:
        if agreed.why:
            continue
        pictures_fd = centred(pictures.embeddings[judge.name])
        for label, scores_f in enumerate(judge.scores(labels, pictures_fd)):
            where = [i for i in np.flatnonzero(pairs.label_p == label) if found[i] is None]
            if scores_f is None or not where:
                continue
            checked = _label_synthetic(background, scores_f, judge.name, pairs.unit_p[where], min_units)
            for index, result in zip(where, checked, strict=True):
                found[index] = result
    unread = "; ".join(agreed.why for _, agreed in judges if agreed.why)
    missing = CheckResult.not_applicable(unread or "no judge that can see pictures knows this label")
    return [result if result is not None else missing for result in found]


@dataclass(frozen=True)
class _Background:
    """Whose picture is whose. Owners 0..u-1 are the layer's live units; the rest belong to other layers."""

    owner_f: Integers
    owners: int
    related_uu: Booleans


def _background(data: LayerData, pictures: PictureData) -> _Background:
    place = {UnitId.of_side(data.layer, unit): column for unit, column in data.position.items()}
    for owner in pictures.owners:
        place.setdefault(owner, len(place))
    owner_f = np.array([place[owner] for owner in pictures.owners], dtype=np.int64)
    return _Background(owner_f, len(place), data.related_uu)


def _label_synthetic(
    background: _Background, scores_f: np.ndarray, judge: str, unit_p: Integers, min_units: int
) -> list[CheckResult]:
    readable_f = np.isfinite(scores_f)
    score_f = np.where(readable_f, scores_f, 0.0).astype(np.float64)
    count_o = np.bincount(background.owner_f[readable_f], minlength=background.owners)
    sum_o = np.bincount(background.owner_f, weights=score_f, minlength=background.owners)
    value_o = np.where(count_o > 0, sum_o / np.maximum(count_o, 1), np.nan)
    own_fp = (background.owner_f[:, None] == unit_p) & readable_f[:, None]
    shares_fp = own_fp / np.maximum(count_o[unit_p], 1)
    shape = shares_fp.shape
    moments = product_moments(
        shares_fp, np.broadcast_to(score_f[:, None], shape), np.broadcast_to(readable_f[:, None], shape)
    )
    others_po = np.repeat(value_o[None], len(unit_p), axis=0)
    others_po[:, : len(background.related_uu)][background.related_uu[unit_p]] = np.nan
    return results(
        ["" if count else "the unit has no synthetic picture" for count in count_o[unit_p]],
        [judge] * len(unit_p),
        value_o[unit_p],
        None,
        count_o[unit_p],
        permutation_null(value_o[unit_p], moments),
        specificity(value_o[unit_p], others_po, moments.sd, min_units),
    )
