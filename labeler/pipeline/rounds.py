"""The rounds: propose, check on `feedback`, keep where the label failed, and go on or stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from labeler.catalogue import CatalogueStore
from labeler.checks import Dissection, Judged, LayerData, Rivals, check_labels
from labeler.errors import PausedError
from labeler.executors import LocalExecutor
from labeler.exemplars.images import ImageStore
from labeler.exemplars.regions import draw_tile, view
from labeler.pipeline.bench import Bench, by_layer
from labeler.pipeline.dissection import dissect
from labeler.pipeline.evidence import TILE, UnitEvidence
from labeler.pipeline.pictures import Pictures
from labeler.pipeline.sheet import unit_sheet
from labeler.pipeline.words import rivals
from labeler.records import Exemplar, Label, RoundRecord, UnitId
from labeler.refine import Step, best_per_facet, failures, next_step
from labeler.seams import Call, Evidence, FacetEvidence, Progress, Proposal, Proposed, Proposer, Tried

CHUNK = 64
"""Units proposed for together: a kill repeats at most their checks (their model answers are cached)."""
FAILING = 3
"""Misses and false alarms shown of the best label so far, each."""
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
    _rivals: dict[str, Rivals] = field(default_factory=dict)
    _heard: bool = False  # whether any proposer has ever answered

    def complete(self, live: Sequence[UnitId], progress: Progress) -> dict[UnitId, list[RoundRecord]]:
        """Bring every unit to the end of its rounds; what an earlier run acknowledged is not repeated.

        Only a unit for which an earlier run got no label but a failure is asked for again.

        Raises:
            EndpointError: when no unit can succeed: wrong key, model or address.
            PausedError: when the endpoint keeps failing, or not one unit got an answer.
        """
        records = {unit: self.store.rounds(unit) for unit in live}
        failed = [unit for unit, found in records.items() if _failed(found)]
        self.store.forget_rounds(failed)
        records.update({unit: [] for unit in failed})
        self._heard = any(records.values())
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
            lambda label: self.bench.gate.judge(label, tests).eligibility.passes,
            config.refine,
        )

    def _round(
        self, layer: str, units: Sequence[UnitId], records: dict[UnitId, list[RoundRecord]], number: int
    ) -> Iterator[tuple[UnitId, RoundRecord]]:
        threads = max(1, self.bench.inputs.config.executor.workers) if self._needs_sheet else 1
        asked = LocalExecutor(threads).map(lambda unit: self._ask(unit, records[unit], number), units)
        answers = list(asked)
        self._pause_unless_heard(answers)
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

    def _pause_unless_heard(self, answers: Sequence[_Answer]) -> None:
        """An endpoint that answers no unit at all is the cause itself; the units are not to blame."""
        self._heard = self._heard or not all(answer.unanswered for answer in answers)
        if answers and not self._heard:
            raise PausedError(f"Paused: no unit got an answer ({answers[0].failure}); run again to resume.")

    @property
    def _needs_sheet(self) -> bool:
        return any(proposer.needs_sheet for proposer in self.proposers)

    def _layer(self, layer: str) -> LayerData:
        if layer not in self._data:
            self._data[layer] = self.bench.layer_data(layer, "feedback")
        return self._data[layer]

    @cached_property
    def _dissections(self) -> dict[str, Dissection]:
        """Where a concept lies tells a part from its whole, which are in the same images."""
        return dissect(self.bench, lambda done, total: None, "feedback")

    def _rivals_of(self, data: LayerData) -> Rivals:
        if data.layer not in self._rivals:
            self._rivals[data.layer] = rivals(self.bench, data, scouts=self.bench.scouts(data.layer))
        return self._rivals[data.layer]

    def _judge(self, data: LayerData, pairs: Sequence[tuple[int, Label]]) -> list[Judged]:
        config = self.bench.inputs.config
        checks = check_labels(
            data, pairs, self.bench.judges, pictures=None, dissection=self._dissections.get(data.layer),
            settings=config.checks,
            seed=config.seed, min_images=MIN_FEEDBACK, rivals=self._rivals_of(data),
        )  # fmt: skip
        return [
            self.bench.gate.judge(label.model_copy(update={"checks": found, "split": "feedback"}), 1)
            for (_, label), found in zip(pairs, checks, strict=True)
        ]

    def _ask(self, unit: UnitId, records: Sequence[RoundRecord], number: int) -> _Answer:
        found = self.bench.evidence.units[unit]
        evidence = Evidence(unit, number, _facets(found), history=tuple(_tried(records)))
        seen, sheet = evidence, None
        if self._needs_sheet:
            made, images = self.pictures.visualisations.get(unit, ()), self.run / "images"
            drawn = unit_sheet(images, found, made, records)
            sheet = ImageStore(images).put(drawn.image)
            shown = {item.facet for item in found.exemplars if item.tile}
            seen = replace(
                evidence,
                facets=tuple(facet for facet in evidence.facets if facet.index in shown),
                sheet=(images / sheet).read_bytes(),  # what is kept is what was sent
                sheet_key=drawn.key,
            )
        answers = [
            proposer.propose(seen if proposer.needs_sheet else evidence) for proposer in self.proposers
        ]
        return _Answer.join(answers, sheet)

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
        best = _best([*earlier, draft])
        misses, alarms = self._failing(unit, best, data) if best is not None else ((), ())
        step = self._step(unit, [*earlier, draft])
        known = f"Best so far: {best.text}. " if best is not None else ""
        outcome = f"{known}{'Stopped' if step.stop else 'Went on'}: {step.reason}."
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
    """What the chain of proposers said about one unit. `unanswered`: nobody proposed, and a call failed."""

    proposals: tuple[Proposal, ...]
    failure: str
    calls: tuple[Call, ...]
    sheet: str | None
    unanswered: bool

    @classmethod
    def join(cls, answers: Sequence[Proposed], sheet: str | None) -> _Answer:
        """All proposals, and every cause why a proposer gave none."""
        proposals = tuple(proposal for answer in answers for proposal in answer.proposals)
        causes = [answer.failure.rstrip(".") for answer in answers if answer.failure]
        calls = tuple(call for answer in answers for call in answer.calls)
        unanswered = not proposals and bool(calls) and calls[-1].outcome == "error"
        return cls(proposals, "; ".join(causes), calls, sheet, unanswered)


def _facets(found: UnitEvidence) -> tuple[FacetEvidence, ...]:
    facets = []
    for facet in found.facets:
        inside = [item.facet == facet.index for item in found.exemplars]
        items = [item for item in found.exemplars if item.facet == facet.index]
        facets.append(
            FacetEvidence(
                facet.index,
                tuple(item.image for item in items),
                tuple(item.activation for item in items),
                found.embeddings_kd[inside],
            )
        )
    return tuple(facets)


def _failed(records: Sequence[RoundRecord]) -> bool:
    """Whether a unit has no label because a proposer failed: a verdict that another run may mend."""
    return any(record.failure for record in records) and not any(record.labels for record in records)


def _best(records: Sequence[RoundRecord]) -> Label | None:
    """The label whose failures are shown: the best of all facets."""
    return max(best_per_facet(records).values(), key=lambda label: label.score or 0.0, default=None)


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
    best = _best(records)
    shown = bool(records and (records[-1].misses or records[-1].false_alarms))
    for record in records:
        for label in record.labels:
            check = label.checks["prediction"]
            said = f"Could not be tested: {check.why}."
            if check.value is not None:
                said = f"Its correlation with the activation is {check.value:.2f} on {check.n} other images."
            if shown and label is best:
                said += " The best so far: sections D and E show where it fails."
            yield Tried(label.text, label.facet, label.score or 0.0, said)
