"""The end of a run: the best label of every facet is opened on `test`, beside its decoys, and decided."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from labeler.activations import image_maps
from labeler.catalogue import CatalogueStore
from labeler.checks import (
    Agreement,
    Cut,
    Dissection,
    Judged,
    LayerData,
    PictureData,
    check_labels,
    choose_decoys,
    decide,
    decoy_cut,
    judge_label,
    judge_picture,
    layer_agreements,
    terms_of,
    unit_agreement,
)
from labeler.pipeline.bench import Bench, by_layer
from labeler.pipeline.pictures import Pictures
from labeler.probes import PartialAnnotation, annotation_on_grid
from labeler.records import Label, RoundRecord, Trust, UnitId, UnitRecord
from labeler.refine import best_per_facet
from labeler.seams import Annotation, Progress
from labeler.storage import fingerprint, hash_order

Rounds = Mapping[UnitId, Sequence[RoundRecord]]


@dataclass(frozen=True)
class _Layer:
    """One layer with its labels opened on `test`."""

    data: LayerData
    agreements: Mapping[str, Agreement]
    targets: Mapping[UnitId, list[Judged]]
    decoys: list[Judged]


def put_verdicts(
    bench: Bench, pictures: Pictures, rounds: Rounds, store: CatalogueStore, progress: Progress
) -> None:
    """Decide every unit of the run and store its record; units that are stored already are decided alike."""
    finals = {unit: _finals(records) for unit, records in rounds.items()}
    _count_opening(finals, store)
    shown = PictureData(pictures.units, pictures.embeddings)
    dissections = dissect(bench, progress)
    layers = {
        layer: _open_test(bench, layer, {unit: finals[unit] for unit in units}, shown, dissections.get(layer))
        for layer, units in by_layer(list(finals)).items()
    }
    targets = [item for layer in layers.values() for found in layer.targets.values() for item in found]
    decoys = [item for layer in layers.values() for item in layer.decoys]
    cut = decoy_cut(
        [item.cut_score for item in targets],
        [item.cut_score for item in decoys],
        bench.inputs.config.gate.precision,
    )
    verdicts = []
    for unit in bench.inputs.units:
        record = _decide(bench, pictures, unit, layers.get(unit.side), rounds.get(unit, ()), cut)
        verdicts.append(record)
        store.put_unit(record)
    _put_label_embeddings(bench, verdicts, store)
    store.put_meta("gate", json.dumps(_control(cut, layers, verdicts, store), sort_keys=True))


def dissect(bench: Bench, progress: Progress) -> dict[str, Dissection]:
    """The dissection of every layer over annotated `test` images, hash-chosen where there are many."""
    settings, inputs, areas = bench.inputs.config.checks, bench.inputs, bench.activations.areas
    test = [i for i in bench.activations.readable_ids.tolist() if bench.evidence.splits[i] == "test"]
    annotated = [i for i in test if np.isfinite(areas[i]).any()]
    order = hash_order(annotated, inputs.config.seed, "dissection")
    chosen = sorted(annotated[position] for position in order[: settings.iou_images])
    if not chosen:
        return {}
    units = {layer: bench.live_units(layer) for layer in inputs.target.layers}
    categories = [concept.category for concept in inputs.probe.concepts]
    found = {
        layer: Dissection(
            live,
            bench.activations.layers[layer].threshold[live],
            categories,
            [unit.index for unit in inputs.units if unit.side == layer],
            settings.min_concept_images,
        )
        for layer, live in units.items()
    }
    done = 0
    for ids, images, maps in image_maps(
        inputs.target, inputs.probe, chosen, inputs.target.layers,
        batch_size=inputs.config.activations.batch_size, workers=inputs.config.executor.workers,
    ):  # fmt: skip
        masks_bcgg = np.zeros((len(ids), len(categories), settings.iou_grid, settings.iou_grid), dtype=bool)
        known = []
        for row, (image_id, image) in enumerate(zip(ids.tolist(), images, strict=True)):
            annotation = inputs.probe.annotation(image_id, image)
            known.append(_known_categories(annotation, categories))
            if annotation is not None:
                box = inputs.target.view_box(*image.size)
                masks_bcgg[row, annotation.concepts] = annotation_on_grid(annotation, box, settings.iou_grid)
        for layer, dissection in found.items():
            live = torch.from_numpy(units[layer]).to(maps[layer].device)
            dissection.add(maps[layer][:, live], torch.from_numpy(masks_bcgg), known)
        done += len(ids)
        progress(done, len(chosen))
    return found


def _known_categories(annotation: Annotation | None, categories: Sequence[str]) -> frozenset[str]:
    """The categories in which an image says something about every concept, so that absence is absence."""
    if annotation is None:
        return frozenset()
    unknown = annotation.unknown.tolist() if isinstance(annotation, PartialAnnotation) else []
    return annotation.categories - {categories[concept] for concept in unknown}


def _finals(records: Sequence[RoundRecord]) -> list[Label]:
    """The best label of each facet; a text that leads several facets counts for the one it fits best."""
    best = sorted(best_per_facet(records).values(), key=lambda label: (-(label.score or 0.0), label.facet))
    taken: dict[str, Label] = {}
    for label in best:
        taken.setdefault(label.text.casefold(), label)
    return list(taken.values())


def _count_opening(finals: Mapping[UnitId, Sequence[Label]], store: CatalogueStore) -> None:
    """Every different set of labels that is shown to the test split is one opening; a resumed run is none."""
    key = fingerprint({str(unit): [label.text for label in labels] for unit, labels in finals.items()})
    opened = json.loads(store.meta("test_openings") or "[]")
    if key not in opened:
        store.put_meta("test_openings", json.dumps([*opened, key]))


def _open_test(
    bench: Bench,
    layer: str,
    finals: Mapping[UnitId, list[Label]],
    pictures: PictureData,
    dissection: Dissection | None,
) -> _Layer:
    config = bench.inputs.config
    data = bench.layer_data(layer, "test")
    decoys = _decoys(bench, data, finals)

    def judged(pairs: list[tuple[int, Label]], tests: Mapping[int, int]) -> list[Judged]:
        checks = check_labels(
            data, pairs, bench.judges, pictures=pictures, dissection=dissection, settings=config.checks,
            seed=config.seed,
        )  # fmt: skip
        return [
            judge_label(
                label.model_copy(
                    update={"checks": found, "split": "test", "match": _match(bench, data, label)}
                ),
                config.gate,
                tests[unit],
            )
            for (unit, label), found in zip(pairs, checks, strict=True)
        ]

    tests = {unit.index: len(labels) for unit, labels in finals.items()}
    found = iter(judged([(unit.index, label) for unit, labels in finals.items() for label in labels], tests))
    return _Layer(
        data,
        layer_agreements(data, bench.judges, pictures, config.checks),
        {unit: [next(found) for _ in labels] for unit, labels in finals.items()},
        judged([(unit, label) for unit, labels in decoys.items() for label in labels], tests),
    )


def _decoys(
    bench: Bench, data: LayerData, finals: Mapping[UnitId, list[Label]]
) -> dict[int, tuple[Label, ...]]:
    by_index = {unit.index: labels for unit, labels in finals.items()}
    least = bench.inputs.config.checks.match_similarity
    texts = sorted({term for labels in by_index.values() for label in labels for term in terms_of(label)})
    vectors = dict(zip(texts, bench.inputs.encoder.embed_texts(texts), strict=True)) if texts else {}
    related = {
        unit: {
            int(other)
            for other, near in zip(data.live_units, data.related_uu[data.position[unit]], strict=True)
            if near and int(other) != unit
        }
        for unit in by_index
    }
    return choose_decoys(
        by_index,
        lambda one, other: float(vectors[one] @ vectors[other]) >= least,
        bench.inputs.config.gate.decoys,
        bench.inputs.config.seed,
        related=related,
    )


def _match(bench: Bench, data: LayerData, label: Label) -> str:
    reading = bench.reading(label, data, bench.inputs.config.checks.min_test_images)
    return reading.match if reading is not None else ""


def _decide(
    bench: Bench,
    pictures: Pictures,
    unit: UnitId,
    layer: _Layer | None,
    records: Sequence[RoundRecord],
    cut: Cut,
) -> UnitRecord:
    found = bench.evidence.units[unit]
    made = pictures.visualisations.get(unit, ())
    base: dict[str, Any] = {
        "unit": str(unit), "layer": unit.layer, "index": unit.index, "name": bench.inputs.names.get(unit, ""),
        "facets": found.facets,
        "exemplars": found.exemplars, "near_misses": found.near_misses, "visualisations": made,
        "rounds": tuple(records), "activation": bench.summary(unit),
    }  # fmt: skip
    if not bench.alive(unit) or layer is None:
        reason = "The unit gives the same value on every image."
        trust = Trust(verdict="not_applicable", reason="A dead unit has no picture.")
        return UnitRecord(**base, verdict="dead", reason=reason, trust=trust)
    activations = [item.activation for item in made if item.activation is not None]
    trust = judge_picture(
        unit_agreement(layer.agreements, unit.index), activations, bench.natural_range(unit)
    )
    failure = next((record.failure for record in records if record.failure), "")
    judged = layer.targets[unit]
    if failure and not judged:
        return UnitRecord(**base, verdict="failed", reason=f"No label was proposed: {failure}.", trust=trust)
    decision = decide(
        judged,
        cut,
        test_images=len(layer.data.image_ids_n),
        min_test_images=bench.inputs.config.checks.min_test_images,
    )
    return UnitRecord(
        **base,
        verdict=decision.verdict,
        reason=decision.reason,
        labels=decision.accepted,
        candidates=decision.refused,
        trust=trust,
        coverage=_coverage(bench, layer.data, unit, decision.accepted),
    )


def _coverage(bench: Bench, data: LayerData, unit: UnitId, labels: Sequence[Label]) -> float | None:
    """Share of the unit's activation mass above its median on `test` where an accepted label is present.

    Present: annotated as present, or at least one standard deviation above the probe's mean for an
    image-text judge.
    """
    if not labels:
        return None
    activations_n = data.activations_nu[:, data.position[unit.index]].astype(np.float64)
    mass_n = np.maximum(activations_n - np.median(activations_n), 0)
    present_n = np.zeros(len(mass_n), dtype=bool)
    for label in labels:
        reading = bench.reading(label, data, bench.inputs.config.checks.min_test_images)
        if reading is not None:
            least = 0.5 if reading.judge == "annotations" else 1.0
            present_n |= np.nan_to_num(reading.scores_n[data.image_ids_n], nan=-np.inf) >= least
    total = float(mass_n.sum())
    return round(float(mass_n[present_n].sum()) / total, 4) if total > 0 else None


def _put_label_embeddings(bench: Bench, records: Sequence[UnitRecord], store: CatalogueStore) -> None:
    texts = sorted({label.text for record in records for label in record.labels})
    known = [text for text in texts if bench.inputs.encoder.covers(text)]
    if known:
        store.put_label_embeddings(known, bench.inputs.encoder.embed_texts(known))


def _control(
    cut: Cut, layers: Mapping[str, _Layer], records: Sequence[UnitRecord], store: CatalogueStore
) -> dict[str, object]:
    """What the report says about the gate: the cut, the decoys it lets through, the openings of `test`."""
    by_name = {}
    for name, layer in layers.items():
        passed = sum(item.cut_score >= cut.threshold for item in layer.decoys)
        accepted = sum(r.id.side == name and r.verdict in ("accepted", "polysemantic") for r in records)
        units = sum(r.id.side == name for r in records)
        by_name[name] = {
            "units": units,
            "accepted": accepted,
            "decoys": len(layer.decoys),
            "decoys_accepted": passed,
        }
    lines = [
        ("cut", f"score {cut.threshold:.3f}" if np.isfinite(cut.threshold) else "no score is high enough")
    ]
    lines += [
        (name, "{accepted} of {units} units accepted, {decoys_accepted} of {decoys} decoys".format(**row))
        for name, row in by_name.items()
    ]
    opened = len(json.loads(store.meta("test_openings") or "[]"))
    lines.append(("test split", f"opened {opened} time(s)"))
    warnings = [] if cut.decoys else ["No decoy could be made, so nothing could be accepted."]
    threshold = cut.threshold if np.isfinite(cut.threshold) else None
    return {
        "threshold": threshold,
        "layers": by_name,
        "lines": lines,
        "warnings": warnings,
        "test_openings": opened,
    }
