"""The rounds: propose, check on `feedback`, keep where the label failed, and go on or stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from labeler.catalogue import CatalogueStore
from labeler.checks import Judged, LayerData, check_labels, judge_label
from labeler.executors import LocalExecutor
from labeler.exemplars.images import ImageStore
from labeler.exemplars.regions import draw_tile, view
from labeler.exemplars.sheets import encode_sheet
from labeler.pipeline.bench import Bench, by_layer
from labeler.pipeline.evidence import TILE
from labeler.pipeline.pictures import Pictures
from labeler.pipeline.sheet import unit_sheet
from labeler.records import Exemplar, Label, RoundRecord, UnitId
from labeler.refine import Step, best_per_facet, failures, next_step
from labeler.seams import Call, Evidence, FacetEvidence, Progress, Proposal, Proposed, Proposer, Tried

CHUNK = 64
"""Units proposed for together: a kill repeats at most their checks (their model answers are cached)."""
FAILING = 3
"""Misses and false alarms shown of the last label, each."""
FIRES = 0.9
"""Quantile of the unit's activation on `feedback` above which it counts as firing there."""
MIN_FEEDBACK = 30
"""`feedback` only guides, so it may be smaller than `checks.min_test_images`."""


@dataclass
class Rounds:
    """All rounds of a run. `labels` of a unit are read back from the catalogue, where every round is kept."""

    run: Path
    bench: Bench
    pictures: Pictures
    store: CatalogueStore
    proposers: Sequence[Proposer]
    _tiles: dict[int, str] = field(default_factory=dict)
    _data: dict[str, LayerData] = field(default_factory=dict)

    def complete(self, live: Sequence[UnitId], progress: Progress) -> dict[UnitId, list[RoundRecord]]:
        """Bring every unit to the end of its rounds; what an earlier run acknowledged is not repeated."""
        records = {unit: self.store.rounds(unit) for unit in live}
        rounds = self.bench.inputs.config.refine.rounds
        for number in range(1, rounds + 1):
            for layer, units in by_layer(live).items():
                pending = [u for u in units if len(records[u]) == number - 1 and self._goes_on(u, records[u])]
                for start in range(0, len(pending), CHUNK):
                    for unit, record in self._round(layer, pending[start : start + CHUNK], records, number):
                        records[unit].append(record)
            progress(number, rounds)
        return records

    def _goes_on(self, unit: UnitId, records: Sequence[RoundRecord]) -> bool:
        return not records or not self._step(unit, records).stop

    def _step(self, unit: UnitId, records: Sequence[RoundRecord]) -> Step:
        facets = [facet.index for facet in self.bench.evidence.units[unit].facets]
        config = self.bench.inputs.config
        tests = max(1, sum(len(record.labels) for record in records))
        return next_step(
            records,
            facets,
            lambda label: judge_label(label, config.gate, tests).eligibility.passes,
            config.refine,
        )

    def _round(
        self, layer: str, units: Sequence[UnitId], records: dict[UnitId, list[RoundRecord]], number: int
    ) -> Iterator[tuple[UnitId, RoundRecord]]:
        threads = max(1, self.bench.inputs.config.executor.workers) if self._needs_sheet else 1
        asked = LocalExecutor(threads).map(lambda unit: self._ask(unit, records[unit], number), units)
        answers = list(asked)
        fresh = [
            _fresh(answer.proposals, records[unit], number)
            for unit, answer in zip(units, answers, strict=True)
        ]
        data = self._layer(layer)
        pairs = [(unit.index, label) for unit, labels in zip(units, fresh, strict=True) for label in labels]
        judged = iter(self._judge(data, pairs))
        for unit, answer, new in zip(units, answers, fresh, strict=True):
            labels = tuple(next(judged).label for _ in new)
            record = self._record(unit, number, labels, answer, records[unit], data)
            self.store.put_round(unit, record, answer.calls)
            yield unit, record

    @property
    def _needs_sheet(self) -> bool:
        return any(proposer.needs_sheet for proposer in self.proposers)

    def _layer(self, layer: str) -> LayerData:
        if layer not in self._data:
            self._data[layer] = self.bench.layer_data(layer, "feedback")
        return self._data[layer]

    def _judge(self, data: LayerData, pairs: Sequence[tuple[int, Label]]) -> list[Judged]:
        config = self.bench.inputs.config
        checks = check_labels(
            data, pairs, self.bench.judges, pictures=None, dissection=None, settings=config.checks,
            seed=config.seed, min_images=MIN_FEEDBACK,
        )  # fmt: skip
        return [
            judge_label(label.model_copy(update={"checks": found, "split": "feedback"}), config.gate, 1)
            for (_, label), found in zip(pairs, checks, strict=True)
        ]

    def _ask(self, unit: UnitId, records: Sequence[RoundRecord], number: int) -> _Answer:
        found = self.bench.evidence.units[unit]
        tile, sheet, key = None, b"", ""
        if self._needs_sheet:
            drawn = unit_sheet(
                self.run / "images", found, self.pictures.visualisations.get(unit, ()), records
            )
            sheet, key = encode_sheet(drawn.image), drawn.key
            tile = ImageStore(self.run / "images").put(drawn.image)
        facets = tuple(
            FacetEvidence(
                facet.index,
                tuple(item.image for item in found.exemplars if item.facet == facet.index),
                tuple(item.activation for item in found.exemplars if item.facet == facet.index),
                found.embeddings_kd[[item.facet == facet.index for item in found.exemplars]],
            )
            for facet in found.facets
        )
        evidence = Evidence(unit, number, facets, sheet, key, tuple(_tried(records)))
        answers = [proposer.propose(evidence) for proposer in self.proposers]
        return _Answer.join(answers, tile)

    def _record(
        self,
        unit: UnitId,
        number: int,
        labels: tuple[Label, ...],
        answer: _Answer,
        earlier: Sequence[RoundRecord],
        data: LayerData,
    ) -> RoundRecord:
        draft = RoundRecord(round=number, labels=labels, sheet=answer.sheet, failure=answer.failure)
        best = max(
            best_per_facet([*earlier, draft]).values(), key=lambda label: label.score or 0.0, default=None
        )
        misses, alarms = self._failing(unit, best, data) if best is not None else ((), ())
        step = self._step(unit, [*earlier, draft])
        outcome = f"{'Stopped' if step.stop else 'Went on'}: {step.reason}."
        return draft.model_copy(update={"misses": misses, "false_alarms": alarms, "outcome": outcome})

    def _failing(
        self, unit: UnitId, label: Label, data: LayerData
    ) -> tuple[tuple[Exemplar, ...], tuple[Exemplar, ...]]:
        reading = self.bench.reading(label, data, MIN_FEEDBACK)
        if reading is None:
            return (), ()
        activations_n = data.activations_nu[:, data.position[unit.index]]
        misses, alarms = failures(
            activations_n,
            reading.scores_n[data.image_ids_n],
            float(np.quantile(activations_n, FIRES)),
            FAILING,
        )
        found = []
        for rows, band in ((misses, "high"), (alarms, "low")):
            found.append(
                tuple(
                    self._exemplar(int(data.image_ids_n[row]), float(activations_n[row]), band)
                    for row in rows
                )
            )
        return found[0], found[1]

    def _exemplar(self, image_id: int, activation: float, band: str) -> Exemplar:
        inputs = self.bench.inputs
        if image_id not in self._tiles:
            image = inputs.probe.image(image_id)
            seen = view(image, inputs.target.view_box(*image.size), max(inputs.target.input_size))
            self._tiles[image_id] = ImageStore(self.run / "images").put(draw_tile(seen, None, TILE))
        return Exemplar.model_validate(
            {
                "image": image_id,
                "path": inputs.probe.images[image_id].path,
                "activation": activation,
                "band": band,
                "split": "feedback",
                "tile": self._tiles[image_id],
            }
        )


@dataclass(frozen=True)
class _Answer:
    """What the chain of proposers said about one unit."""

    proposals: tuple[Proposal, ...]
    failure: str
    calls: tuple[Call, ...]
    sheet: str | None

    @classmethod
    def join(cls, answers: Sequence[Proposed], sheet: str | None) -> _Answer:
        """All proposals; a failure only when nobody proposed anything."""
        proposals = tuple(proposal for answer in answers for proposal in answer.proposals)
        causes = [answer.failure for answer in answers if answer.failure]
        calls = tuple(call for answer in answers for call in answer.calls)
        return cls(proposals, "" if proposals else "; ".join(causes), calls, sheet)


def _fresh(proposals: Sequence[Proposal], records: Sequence[RoundRecord], number: int) -> list[Label]:
    """Proposals as labels, without those that this unit's facet has tried before."""
    seen = {(label.text.casefold(), label.facet) for record in records for label in record.labels}
    labels = []
    for proposal in proposals:
        key = (proposal.text.casefold(), proposal.facet)
        if key not in seen:
            seen.add(key)
            labels.append(
                Label(
                    text=proposal.text, kind=proposal.kind, formula=proposal.formula, facet=proposal.facet,
                    round=number, split="feedback",
                )
            )  # fmt: skip
    return labels


def _tried(records: Sequence[RoundRecord]) -> Iterator[Tried]:
    for record in records:
        for label in record.labels:
            check = label.checks["prediction"]
            said = f"correlation {check.value:.2f}" if check.value is not None else check.why
            yield Tried(
                label.text, label.facet, label.score or 0.0, f"score {label.score or 0.0:.2f}, {said}"
            )
