"""What each method says of each unit, in one form, so that one judge can score all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from labeler.baselines import clip_dissect, explain, network_dissection
from labeler.pipeline.bench import Bench, by_layer
from labeler.pipeline.dissection import dissected_images
from labeler.pipeline.evidence import embeddings_of
from labeler.pipeline.proposers import REFERENCE_UNITS
from labeler.pipeline.words import vocabulary
from labeler.records import Label, UnitId
from labeler.storage import hash_order

from .dissection import Column, dissect
from .opened import OpenedRun

METHODS = ("ours", "candidates", "network_dissection", "softwpmi", "invert")
"""``ours``: the accepted labels. ``candidates``: the label with the greatest gate score, accepted or not:
what the proposers and the score give where nothing abstains."""
READ_ANNOTATIONS = frozenset({"network_dissection", "invert"})

Literal = tuple[str, bool]  # a term, and whether it is negated


@dataclass(frozen=True)
class Claim:
    """One method's label of one unit: literals joined by `op` (``""``, ``and``, ``or``).

    `confidence` orders the claims of one method: the gate's score, IoU, SoftWPMI or AUROC.
    """

    text: str
    confidence: float
    op: str
    literals: tuple[Literal, ...]
    kind: str = "other"

    @classmethod
    def of_labels(cls, labels: Sequence[Label]) -> Claim:
        """Labels of one unit, best first, as one claim: those of several facets are joined by OR."""
        first = labels[0]
        confidence, kind = first.score or 0.0, first.kind
        simple = [label.text for label in labels if label.formula is None]
        if first.formula is None:
            text, op = " or ".join(simple), "or" if len(simple) > 1 else ""
            return cls(text, confidence, op, tuple((term, False) for term in simple), kind)
        terms, op = first.formula.terms, first.formula.op
        if op == "not":  # not any of the terms
            return cls(first.text, confidence, "and", tuple((term, True) for term in terms), kind)
        return cls(first.text, confidence, op, tuple((term, False) for term in terms), kind)


Claims = dict[UnitId, Claim]


def collect(opened: OpenedRun, methods: Sequence[str]) -> dict[str, Claims]:
    """The claims of `methods` about the live units of a run; what a method does not label is absent."""
    makers = {
        "ours": lambda: {unit: Claim.of_labels(labels) for unit, labels in opened.accepted.items()},
        "candidates": lambda: _candidates(opened),
        "network_dissection": lambda: _network_dissection(opened.bench, opened.units),
        "softwpmi": lambda: _softwpmi(opened.bench, opened.units),
        "invert": lambda: _invert(opened),
    }
    return {method: makers[method]() for method in methods}


def _candidates(opened: OpenedRun) -> Claims:
    found = {}
    for record in opened.records:
        best = max((*record.labels, *record.candidates), key=lambda label: label.score or 0.0, default=None)
        if best is not None:
            found[record.id] = Claim.of_labels([best])
    return found


def _network_dissection(bench: Bench, units: Sequence[UnitId]) -> Claims:
    """The concept of highest IoU on the annotated `propose` images; units without overlap have none."""
    concepts, found = bench.inputs.probe.concepts, {}
    images = dissected_images(bench, "propose")
    if not images:
        return {}
    layers = by_layer(units)
    columns = [Column(concept) for concept in range(len(concepts))]
    for layer, dissection in dissect(bench, images, columns, list(layers)).items():
        best = network_dissection(dissection)[""]
        place = {int(unit): column for column, unit in enumerate(dissection.live_units)}
        for unit in layers[layer]:
            concept, iou = int(best.concepts_u[place[unit.index]]), float(best.iou_u[place[unit.index]])
            if concept >= 0 and iou > 0:
                name, category = concepts[concept].name, concepts[concept].category
                found[unit] = Claim(name, iou, "", ((name, False),), category)
    return found


def _softwpmi(bench: Bench, units: Sequence[UnitId]) -> Claims:
    """The best word of the run's vocabulary for the top `propose` images that the run's proposers start from.

    The reference set is that of the `vocabulary` proposer: hash-chosen live units, here of the unit's layer.
    """
    words = vocabulary(bench)
    encoder = bench.inputs.encoder
    images_nd = np.nan_to_num(embeddings_of(bench.activations, encoder.name))
    texts_ld = torch.from_numpy(encoder.embed_texts(list(words)))
    found = {}
    for layer, own in by_layer(units).items():
        live = bench.live_units(layer).tolist()
        order = hash_order(live, bench.inputs.config.seed, f"reference units of {layer}")
        reference = [UnitId.of_side(layer, live[place]) for place in order[:REFERENCE_UNITS]]
        best_u1, scores_u1 = clip_dissect(
            torch.from_numpy(images_nd), texts_ld, _exemplars(bench, own),
            reference_ids_rk=_exemplars(bench, reference),
        )  # fmt: skip
        for unit, word, score in zip(own, best_u1[:, 0].tolist(), scores_u1[:, 0].tolist(), strict=True):
            text = list(words)[word]
            found[unit] = Claim(text, score, "", ((text, False),), words[text])
    return found


def _exemplars(bench: Bench, units: Sequence[UnitId]) -> torch.Tensor:
    """Ids ``(u, k)`` of the units' strongest `propose` images; -1 where there are fewer."""
    count = bench.inputs.config.exemplars.considered
    ids_uk = np.full((len(units), count), -1, dtype=np.int64)
    for row, unit in enumerate(units):
        ids, _ = bench.evidence.top_images(bench.activations, unit, "propose", count)
        ids_uk[row, : len(ids)] = ids
    return torch.from_numpy(ids_uk)


def _invert(opened: OpenedRun) -> Claims:
    """The formula of at most two annotated concepts with the highest AUROC on `propose`."""
    bench, found = opened.bench, {}
    names = [concept.name for concept in bench.inputs.probe.concepts]
    if not names:
        return {}
    for layer, own in by_layer(opened.units).items():
        data = opened.layer_data(layer, "propose")
        columns = [data.position[unit.index] for unit in own]
        best = explain(
            torch.from_numpy(data.activations_nu[:, columns]),
            torch.from_numpy(presence(bench, data.image_ids_n)),
            min_images=bench.inputs.config.checks.min_concept_images,
        )
        rows = zip(
            own, best.texts(names), best.auroc.tolist(), best.op.tolist(), best.first.tolist(),
            best.first_negated.tolist(), best.second.tolist(), best.second_negated.tolist(), strict=True,
        )  # fmt: skip
        for unit, text, auroc, op, first, first_not, second, second_not in rows:
            if first >= 0:
                one = ((names[first], first_not),)
                literals = (*one, (names[second], second_not)) if second >= 0 else one
                found[unit] = Claim(text, auroc, op, literals)
    return found


def presence(bench: Bench, image_ids_n: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 where a concept covers at least `checks.presence_area` of the image, else 0; NaN: not annotated.

    ``(n, c)``.
    """
    areas_nc = np.asarray(bench.activations.areas[image_ids_n])
    least = bench.inputs.config.checks.presence_area
    return np.where(np.isnan(areas_nc), np.nan, areas_nc >= least)
