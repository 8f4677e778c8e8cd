"""The end of a run: the best label of every facet is opened on `test`, beside its decoys, and decided."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labeler.catalogue import CatalogueStore
from labeler.checks import (
    Cut,
    Judged,
    LayerData,
    PathSignals,
    choose_decoys,
    coverage,
    decide,
    presence_threshold,
    terms_of,
)
from labeler.executors import LOCAL
from labeler.pipeline.bench import Bench, by_layer
from labeler.pipeline.deciding import control, final_cut
from labeler.pipeline.dissection import best_concepts
from labeler.pipeline.inputs import ANNOTATIONS
from labeler.pipeline.opening import OpenLayer, open_test
from labeler.pipeline.pictures import Pictures
from labeler.pipeline.trust import trust_in_pictures
from labeler.records import DissectedConcept, Label, RoundRecord, Trust, UnitId, UnitRecord
from labeler.seams import Executor, Progress
from labeler.storage import fingerprint

FINALISTS = 3
"""Labels of each facet that are opened on `test`; each is a test more for the unit (Bonferroni)."""

Rounds = Mapping[UnitId, Sequence[RoundRecord]]


@dataclass(frozen=True)
class _Layer:
    """One layer with its labels opened on `test`."""

    opened: OpenLayer
    targets: Mapping[UnitId, list[Judged]]
    decoys: Mapping[UnitId, list[Judged]]


def put_verdicts(
    bench: Bench,
    pictures: Pictures,
    paths: Mapping[UnitId, PathSignals],
    rounds: Rounds,
    store: CatalogueStore,
    progress: Progress,
    *,
    executor: Executor = LOCAL,
) -> None:
    """Decide every unit of the run and store its record; units that are stored already are decided alike."""
    finals = {unit: _finals(records) for unit, records in rounds.items()}
    _count_opening(finals, store)
    opened = open_test(bench, pictures, finals, progress, run=store.path.parent, executor=executor)
    layers = {
        layer: _judge(bench, opened[layer], {unit: finals[unit] for unit in units})
        for layer, units in by_layer(list(finals)).items()
    }
    targets = {unit: found for layer in layers.values() for unit, found in layer.targets.items()}
    decoys = {unit: found for layer in layers.values() for unit, found in layer.decoys.items()}
    cut = final_cut(targets, decoys, bench.inputs.config.gate.precision)
    dissected = best_concepts(bench, {name: o.dissection for name, o in opened.items() if o.dissection})
    trusts = trust_in_pictures(bench, pictures, paths, opened)
    verdicts = []
    for unit in bench.inputs.units:
        found = rounds.get(unit, ()), dissected.get(unit, ())
        record = _decide(bench, pictures, unit, layers.get(unit.side), *found, trusts[unit], cut)
        verdicts.append(record)
        store.put_unit(record)
    _put_label_embeddings(bench, verdicts, store)
    store.put_decoys({unit: [item.label for item in found] for unit, found in decoys.items()})
    openings = len(json.loads(store.meta("test_openings") or "[]"))
    test_images = max((len(layer.data.image_ids_n) for layer in opened.values()), default=0)
    said = control(cut, decoys, verdicts, bench.gate, openings=openings, test_images=test_images)
    store.put_meta("gate", json.dumps(said, sort_keys=True))


def _finals(records: Sequence[RoundRecord]) -> list[Label]:
    """The best labels of each facet, for `test` to choose from; a text of several facets counts for the best.

    `feedback` has a fraction of the images of `test`: what it finds almost as good may be better. Beside
    compounds stands the best simple label, should they fail.
    """
    every = [label for record in records for label in record.labels]
    # Where no label could be tested, one is opened all the same: the record then says why.
    labels = [label for label in every if label.score is not None] or [
        label for label in every if label.formula is None
    ][:1]
    labels.sort(key=lambda label: (-(label.score or 0.0), label.round, label.facet, label.text))
    best = []
    for facet in sorted({label.facet for label in labels}):
        own = [label for label in labels if label.facet == facet]
        best += own[:FINALISTS]
        if all(label.formula is not None for label in own[:FINALISTS]):
            best += [label for label in own if label.formula is None][:1]
    taken: dict[str, Label] = {}
    for label in sorted(best, key=lambda label: (-(label.score or 0.0), label.facet)):
        taken.setdefault(label.text.casefold(), label)
    return list(taken.values())


def _count_opening(finals: Mapping[UnitId, Sequence[Label]], store: CatalogueStore) -> None:
    """Every different set of labels that is shown to the test split is one opening; a resumed run is none."""
    key = fingerprint({str(unit): [label.text for label in labels] for unit, labels in finals.items()})
    opened = json.loads(store.meta("test_openings") or "[]")
    if key not in opened:
        store.put_meta("test_openings", json.dumps([*opened, key]))


def _judge(bench: Bench, opened: OpenLayer, finals: Mapping[UnitId, list[Label]]) -> _Layer:
    decoys = _decoys(bench, opened.data, finals)
    tests = {unit.index: len(labels) for unit, labels in finals.items()}
    found = iter(
        opened.judge([(unit.index, label) for unit, labels in finals.items() for label in labels], tests)
    )
    wrong = iter(opened.judge([(unit, label) for unit, labels in decoys.items() for label in labels], tests))
    return _Layer(
        opened,
        {unit: [next(found) for _ in labels] for unit, labels in finals.items()},
        {unit: [next(wrong) for _ in decoys[unit.index]] for unit in sorted(finals)},
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


def _decide(
    bench: Bench,
    pictures: Pictures,
    unit: UnitId,
    layer: _Layer | None,
    records: Sequence[RoundRecord],
    dissected: tuple[DissectedConcept, ...],
    trust: Trust,
    cut: Cut,
) -> UnitRecord:
    found = bench.evidence.units[unit]
    made = pictures.visualisations.get(unit, ())
    base: dict[str, Any] = {
        "unit": str(unit), "layer": unit.layer, "index": unit.index, "name": bench.inputs.names.get(unit, ""),
        "facets": found.facets,
        "exemplars": found.exemplars, "near_misses": found.near_misses, "bands": found.bands,
        "visualisations": made, "rounds": tuple(records), "activation": bench.summary(unit),
        "dissection": dissected, "trust": trust,
    }  # fmt: skip
    if not bench.alive(unit) or layer is None:
        return UnitRecord(**base, verdict="dead", reason="The unit gives the same value on every image.")
    failure = next((record.failure for record in records if record.failure), "")
    judged = layer.targets[unit]
    if failure and not judged:
        return UnitRecord(**base, verdict="failed", reason=f"No label was proposed: {failure}.")
    decision = decide(
        judged,
        cut,
        test_images=len(layer.opened.data.image_ids_n),
        min_test_images=bench.inputs.config.checks.min_test_images,
    )
    return UnitRecord(
        **base,
        verdict=decision.verdict,
        reason=decision.reason,
        labels=decision.accepted,
        candidates=decision.refused,
        coverage=_coverage(bench, layer.opened.data, unit, decision.accepted),
    )


def _coverage(bench: Bench, data: LayerData, unit: UnitId, labels: Sequence[Label]) -> float | None:
    """See `labeler.checks.coverage`; None where there is no accepted label whose presence is known."""
    found = [presence for label in labels if (presence := _presence(bench, data, label)) is not None]
    if not found:
        return None
    presence_ln = np.stack(found)
    known = np.flatnonzero(np.isfinite(presence_ln).any(axis=0))
    present_n = np.asarray((presence_ln[:, known] > 0).any(axis=0))
    share = coverage(data.activations_nu[known, data.position[unit.index]], present_n)
    return None if share is None else round(share, 4)


def _presence(bench: Bench, data: LayerData, label: Label) -> np.ndarray | None:
    """Where on the split a label is present (1) or not (0), NaN where its judge cannot tell. ``(n,)``."""
    reading = bench.reading(label, data, bench.inputs.config.checks.min_test_images)
    if reading is None:
        return None
    threshold: float | None = 0.5
    if reading.judge != ANNOTATIONS:
        propose = bench.evidence.rows_of("propose", bench.activations)
        threshold = presence_threshold(reading.scores_n[bench.activations.indexed_ids[propose]])
    scores_n = reading.scores_n[data.image_ids_n].astype(np.float64)
    return None if threshold is None else np.where(np.isnan(scores_n), np.nan, scores_n >= threshold)


def _put_label_embeddings(bench: Bench, records: Sequence[UnitRecord], store: CatalogueStore) -> None:
    opened = [label for record in records for label in (*record.labels, *record.candidates)]
    texts = sorted({label.text for label in opened})  # a refused label may be accepted by another gate
    known = [text for text in texts if bench.inputs.encoder.covers(text)]
    if known:
        store.put_label_embeddings(known, bench.inputs.encoder.embed_texts(known))
