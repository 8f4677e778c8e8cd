"""The checks of (unit, label): every number that decides, with its two nulls.

`check_labels` makes them for one layer on one split. On `feedback` it is called without pictures and
dissection; on `test` with all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from labeler.checks.auprc import check_auprc
from labeler.checks.calibration import Calibration, expected_precision_cut, shipped
from labeler.checks.consistency import (
    Agreement,
    check_real,
    check_synthetic,
    mean_pictures,
    measure_agreement,
)
from labeler.checks.coverage import coverage, presence_threshold
from labeler.checks.crest import crest_auroc
from labeler.checks.data import LayerData, Pairs, PictureData, Readings, rounded
from labeler.checks.decoys import Cut, choose_decoys, decoy_cut
from labeler.checks.gate import Gate, Judged
from labeler.checks.informativeness import Informativeness, informativeness
from labeler.checks.intervention import Interventions, check_intervention
from labeler.checks.iou import Dissection, check_iou
from labeler.checks.judges import (
    AnnotationJudge,
    EncoderJudge,
    Judge,
    Reading,
    annotation_judge,
    enough_images,
    normal_form,
    read_label,
    read_labels,
    terms_of,
    text_similarity,
)
from labeler.checks.location import check_location
from labeler.checks.nulls import subset_draws
from labeler.checks.paths import PathCodes, PathSignals, known, path_likeness, place_weights
from labeler.checks.prediction import check_prediction
from labeler.checks.read_out import Samples, Standings, read_standings
from labeler.checks.rivals import Kin, Rivals, Words
from labeler.checks.trust import NaturalRange, judge_picture
from labeler.checks.verdict import Decision, decide
from labeler.config import ChecksConfig
from labeler.records import CheckResult, Label

__all__ = [
    "CHECKS", "Agreement", "AnnotationJudge", "Calibration", "Cut", "Decision", "Dissection",
    "EncoderJudge", "Gate", "Informativeness", "Interventions", "Judge", "Judged", "Kin", "LayerData",
    "NaturalRange", "PathCodes", "PathSignals", "PictureData", "Reading", "Rivals", "Samples",
    "Standings", "Words",
    "annotation_judge", "check_labels", "choose_decoys", "coverage", "crest_auroc", "decide", "decoy_cut",
    "enough_images", "expected_precision_cut", "informativeness", "judge_picture", "known",
    "layer_agreements", "mean_pictures", "path_likeness", "place_weights", "presence_threshold", "read_label",
    "read_labels", "read_standings", "shipped", "terms_of", "text_similarity", "unit_agreement",
]  # fmt: skip

CHECKS = (
    "prediction", "rivals", "auprc", "real", "synthetic", "agreement", "iou", "location", "intervention",
)  # fmt: skip
LABELS_AT_ONCE = 256
"""Distinct labels read at once: their scores over the whole probe are in memory together."""
NO_PICTURES = "synthetic pictures take no part on this split"

Checks = dict[str, CheckResult]


def layer_agreements(
    data: LayerData, judges: Sequence[Judge], pictures: PictureData, settings: ChecksConfig
) -> dict[str, Agreement]:
    """*agreement* of every unit with pictures in the layer, by each judge that can see, in order."""
    return {
        judge.name: measure_agreement(data, pictures, judge, settings.min_null_units)
        for judge in judges
        if isinstance(judge, EncoderJudge) and judge.name in pictures.embeddings
    }


def unit_agreement(agreements: Mapping[str, Agreement], unit: int, pictured: bool = True) -> CheckResult:
    """*agreement* of one unit by the first judge that can read pictures of its layer."""
    if not pictured:
        return CheckResult.not_applicable(NO_PICTURES)
    found = [agreed.checks[unit] for agreed in agreements.values() if unit in agreed.checks]
    if not found:
        return CheckResult.not_applicable("the unit has no synthetic picture that a judge has seen")
    return rounded(next((check for check in found if check.status == "ok"), found[0]))


def check_labels(
    data: LayerData,
    pairs: Sequence[tuple[int, Label]],
    judges: Sequence[Judge],
    *,
    pictures: PictureData | None,
    dissection: Dissection | None,
    interventions: Interventions | None = None,
    rivals: Rivals | None = None,
    agreements: Mapping[str, Agreement] | None = None,
    settings: ChecksConfig,
    seed: int,
    min_images: int | None = None,
) -> list[Checks]:
    """All checks of each (unit, label), in the order of `pairs`; every name of `CHECKS` is there.

    A label that many units share is read once. Targets and decoys go through here alike.

    Args:
        data: the layer on one split; every unit of `pairs` must be among its live units.
        pairs: unit index and label.
        judges: in order; the first that knows a label judges it.
        pictures: the run's FVs, or None where they do not take part.
        dissection: the layer's dissection, its concepts those of the `AnnotationJudge`, or None.
        interventions: what altered images did to the layer, or None where none were made.
        rivals: the words that compete with the labels, or None where there are none.
        agreements: those of `layer_agreements`, where they are known already.
        settings: constants of the checks.
        seed: of the run; only *auprc*'s null draws from it.
        min_images: least usable images; `settings.min_test_images` where None (`feedback` has fewer).
    """
    if agreements is None:
        agreements = {} if pictures is None else layer_agreements(data, judges, pictures, settings)
    draw = subset_draws(settings.permutations, max(50, len(data.image_ids_n) // 5), seed)
    least = settings.min_test_images if min_images is None else min_images
    groups: dict[str, list[int]] = {}
    for index, (_, label) in enumerate(pairs):
        groups.setdefault(_reading_key(label), []).append(index)
    found: list[Checks] = [{} for _ in pairs]
    keys = list(groups)
    for start in range(0, len(keys), LABELS_AT_ONCE):
        part = keys[start : start + LABELS_AT_ONCE]
        labels = [pairs[groups[key][0]][1] for key in part]
        where = [(index, column) for column, key in enumerate(part) for index in groups[key]]
        units = np.array([data.position[pairs[index][0]] for index, _ in where], dtype=np.int64)
        batch = Pairs(units, np.array([column for _, column in where], dtype=np.int64))
        facets = [pairs[index][1].facet for index, _ in where]
        checks = _read_checks(data, labels, batch, facets, judges, rivals, settings, least, draw)
        checks["synthetic"] = _synthetic(data, labels, batch, judges, pictures, agreements, settings)
        named = _simple_concepts(labels, judges)
        checks["iou"] = _iou(data, named, batch, dissection, settings)
        owners = [pairs[index] for index, _ in where]
        checks["location"] = _location(data, named, batch, owners, judges, dissection, rivals)
        checks["intervention"] = _intervention(data, named, batch, interventions, settings)
        for row, (index, _) in enumerate(where):
            found[index] = {name: results[row] for name, results in checks.items()}
            found[index]["agreement"] = unit_agreement(agreements, pairs[index][0], pictures is not None)
    return [{name: rounded(checks[name]) for name in CHECKS} for checks in found]


def _reading_key(label: Label) -> str:
    formula = label.formula.model_dump_json() if label.formula is not None else ""
    return "\0".join([label.text, label.kind, formula])


def _read_checks(
    data: LayerData,
    labels: Sequence[Label],
    pairs: Pairs,
    facet_p: Sequence[int],
    judges: Sequence[Judge],
    rivals: Rivals | None,
    settings: ChecksConfig,
    least: int,
    draw: Callable[[int], np.ndarray],
) -> dict[str, list[CheckResult]]:
    """The checks that need a score for every image. Labels that no judge knows are not applicable."""
    read = read_labels(judges, labels, enough_images(data.image_ids_n, least))
    known = [column for column, reading in enumerate(read) if reading is not None]
    scores = [reading.scores_n[data.image_ids_n] for reading in read if reading is not None]
    scores_nl = np.array(scores, dtype=np.float64).reshape(len(known), len(data.image_ids_n)).T
    readings = Readings(scores_nl, tuple(reading.judge for reading in read if reading is not None))
    place = {column: index for index, column in enumerate(known)}
    rows = [row for row, label in enumerate(pairs.label_p) if int(label) in place]
    inside = Pairs(
        pairs.unit_p[rows], np.array([place[int(pairs.label_p[row])] for row in rows], dtype=np.int64)
    )
    units = settings.min_null_units
    made = {
        "prediction": check_prediction(data, readings, inside, least, units),
        "auprc": check_auprc(data, readings, inside, least, units, draw),
        "real": check_real(data, readings, inside, least, units),
    }
    if rivals is not None:
        distinct = [labels[column] for column in known]
        made["rivals"] = rivals.check(readings, distinct, inside, [facet_p[row] for row in rows])
    else:
        made["rivals"] = [CheckResult.not_applicable("there are no words to compare with")] * len(inside)
    unknown = CheckResult.not_applicable("no judge knows this label")
    return {name: _spread(results, rows, len(pairs), unknown) for name, results in made.items()}


Item = TypeVar("Item")


def _spread(items: Sequence[Item], rows: Sequence[int], count: int, default: Item) -> list[Item]:
    spread = [default] * count
    for row, item in zip(rows, items, strict=True):
        spread[row] = item
    return spread


def _synthetic(
    data: LayerData,
    labels: Sequence[Label],
    pairs: Pairs,
    judges: Sequence[Judge],
    pictures: PictureData | None,
    agreements: Mapping[str, Agreement],
    settings: ChecksConfig,
) -> list[CheckResult]:
    if pictures is None:
        return [CheckResult.not_applicable(NO_PICTURES)] * len(pairs)
    seeing = [
        (judge, agreements[judge.name])
        for judge in judges
        if isinstance(judge, EncoderJudge) and judge.name in agreements
    ]
    return check_synthetic(data, labels, pairs, pictures, seeing, settings.min_null_units)


def _iou(
    data: LayerData,
    concepts: Sequence[int | None] | None,
    pairs: Pairs,
    dissection: Dissection | None,
    settings: ChecksConfig,
) -> list[CheckResult]:
    if dissection is None or concepts is None:
        return [CheckResult.not_applicable("no annotated images were dissected")] * len(pairs)
    wanted = [concepts[label] for label in pairs.label_p]
    return check_iou(data, dissection, pairs.unit_p, wanted, settings.min_null_units)


def _location(
    data: LayerData,
    concepts: Sequence[int | None] | None,
    pairs: Pairs,
    owners: Sequence[tuple[int, Label]],
    judges: Sequence[Judge],
    dissection: Dissection | None,
    rivals: Rivals | None,
) -> list[CheckResult]:
    """`owners` are the unit index and the label of each pair."""
    judge = annotation_judge(judges)
    if dissection is None or concepts is None or judge is None:
        return [CheckResult.not_applicable("no annotated images were dissected")] * len(pairs)
    names = [concept.name for concept in judge.concepts]
    place = {normal_form(name): index for index, name in enumerate(names)}
    words = [rivals.open_to(*owner) if rivals is not None else set[str]() for owner in owners]
    exempt = [{place[form] for word in own if (form := normal_form(word)) in place} for own in words]
    wanted = [concepts[label] for label in pairs.label_p]
    return check_location(data, dissection, pairs.unit_p, wanted, exempt, names)


def _intervention(
    data: LayerData,
    concepts: Sequence[int | None] | None,
    pairs: Pairs,
    interventions: Interventions | None,
    settings: ChecksConfig,
) -> list[CheckResult]:
    if interventions is None or concepts is None:
        return [CheckResult.not_applicable("no altered images were made")] * len(pairs)
    wanted = [concepts[label] for label in pairs.label_p]
    return check_intervention(data, interventions, pairs.unit_p, wanted, settings.min_null_units)


def _simple_concepts(labels: Sequence[Label], judges: Sequence[Judge]) -> list[int | None] | None:
    """The concept that each label names; None where nothing is annotated.

    Compound labels have none: their masks are not kept or pasted.
    """
    judge = annotation_judge(judges)
    if judge is None:
        return None
    matches = [None if label.formula else judge.match(label.text, label.kind) for label in labels]
    return [None if match is None else match[0] for match in matches]
