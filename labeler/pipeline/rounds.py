"""The rounds: propose, check on `feedback`, keep where the label failed, and go on or stop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from labeler.catalogue import CatalogueStore
from labeler.checks import Dissection, Judged, LayerData, Rivals, check_labels
from labeler.errors import PausedError
from labeler.pipeline.bench import Bench, by_layer
from labeler.pipeline.dissection import dissect
from labeler.pipeline.failing import MIN_FEEDBACK, Failing
from labeler.pipeline.pictures import Pictures
from labeler.pipeline.questions import Answer, Questions, best_label
from labeler.pipeline.words import rivals
from labeler.records import Exemplar, Label, RoundRecord, UnitId
from labeler.refine import Step, joined, leaves_out, next_step, speaks_of_all
from labeler.seams import Progress, Proposal, Proposer

SETTLED = 0.5
"""The gate's score from which on a label that passes ends the search: more likely right than not. Where a cut
is known only at the end of the run, one more round costs less than a part in place of the whole."""
CHUNK = 64
"""Units checked together: a kill repeats at most their checks (their model answers are cached)."""


@dataclass
class Rounds:
    """All rounds of a run. `labels` of a unit are read back from the catalogue, where every round is kept."""

    run: Path
    bench: Bench
    pictures: Pictures
    store: CatalogueStore
    proposers: Sequence[Proposer]
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
            in_order = [unit for units in by_layer(live).values() for unit in units]
            waiting = [unit for unit in in_order if len(records[unit]) == number - 1]
            self._round([unit for unit in waiting if self._goes_on(unit, records[unit])], records, number)
            progress(number, rounds)
        return records

    def _goes_on(self, unit: UnitId, records: Sequence[RoundRecord]) -> bool:
        return not records or not self._step(unit, records).stop

    def _step(self, unit: UnitId, records: Sequence[RoundRecord]) -> Step:
        facets = [facet.index for facet in self.bench.evidence.units[unit].facets]
        config = self.bench.inputs.config
        tests = max(1, sum(len(record.labels) for record in records))
        strengths = [item.activation for item in self.bench.evidence.units[unit].exemplars]
        missed = [item.activation for item in records[-1].misses] if records else []
        return next_step(
            records,
            facets,
            lambda label: self._settles(label, tests),
            config.refine,
            # Different labels of several facets leave out what the others are for.
            partial=speaks_of_all(records) and leaves_out(missed, strengths, self._median(unit)),
        )

    def _median(self, unit: UnitId) -> float:
        data = self._layer(unit.side)
        return float(np.median(data.activations_nu[:, data.position[unit.index]]))

    def _settles(self, label: Label, tests: int) -> bool:
        passes = self.bench.gate.judge(label, tests).eligibility.passes
        return passes and (label.score or 0.0) >= SETTLED

    def _round(self, units: Sequence[UnitId], records: dict[UnitId, list[RoundRecord]], number: int) -> None:
        """One round of all units that go on: they are asked for at once, and checked as the answers come."""
        with closing(self._questions.answers(units, records, number)) as answers:
            for layer, inside in by_layer(units).items():
                for start in range(0, len(inside), CHUNK):
                    chunk = inside[start : start + CHUNK]
                    self._check(layer, chunk, list(islice(answers, len(chunk))), records, number)

    def _check(
        self,
        layer: str,
        units: Sequence[UnitId],
        answers: Sequence[Answer],
        records: dict[UnitId, list[RoundRecord]],
        number: int,
    ) -> None:
        self._pause_unless_heard(answers)
        fresh = [
            _fresh(answer.proposals, records[unit], number)
            for unit, answer in zip(units, answers, strict=True)
        ]
        data = self._layer(layer)
        pairs = [(unit.index, label) for unit, labels in zip(units, fresh, strict=True) for label in labels]
        judged = iter(self._judge(data, pairs))
        drafts = [
            RoundRecord(
                round=number, labels=tuple(next(judged).label for _ in new), sheet=answer.sheet,
                failure=answer.failure,
            )
            for answer, new in zip(answers, fresh, strict=True)
        ]  # fmt: skip
        drafts_of = self._with_joined(data, dict(zip(units, drafts, strict=True)), records)
        best = {unit: best_label([*records[unit], draft]) for unit, draft in drafts_of.items()}
        failing = self._failing.of(data, best)
        drafts_of = {unit: _with(draft, *failing[unit]) for unit, draft in drafts_of.items()}
        steps = {unit: self._step(unit, [*records[unit], draft]) for unit, draft in drafts_of.items()}
        shown = [unit for unit in units if not steps[unit].stop] if self._shows_failures else []
        failing = self._failing.outlined(failing, shown)
        for unit, draft in drafts_of.items():
            record = _with(draft, *failing[unit], outcome=_outcome(best[unit], steps[unit]))
            self.store.put_round(unit, record)
            records[unit].append(record)

    def _with_joined(
        self, data: LayerData, drafts: dict[UnitId, RoundRecord], records: dict[UnitId, list[RoundRecord]]
    ) -> dict[UnitId, RoundRecord]:
        """The drafts with the compounds of words of any round that the checks favour over either word."""
        least = self.bench.inputs.config.gate.smallest_effect
        new = {unit: joined([*records[unit], draft], least) for unit, draft in drafts.items()}
        pairs = [(unit, label) for unit, labels in new.items() for label in labels]
        judged = self._judge(data, [(unit.index, label) for unit, label in pairs])
        for (unit, _), found in zip(pairs, judged, strict=True):
            if found.eligibility.passes:
                draft = drafts[unit]
                drafts[unit] = draft.model_copy(update={"labels": (*draft.labels, found.label)})
        return drafts

    def _pause_unless_heard(self, answers: Sequence[Answer]) -> None:
        """An endpoint that answers no unit at all is the cause itself; the units are not to blame."""
        self._heard = self._heard or not all(answer.unanswered for answer in answers)
        if answers and not self._heard:
            said = answers[0].failure.rstrip(".")
            raise PausedError(f"Paused: no unit got an answer ({said}); run again to resume.")

    @cached_property
    def _questions(self) -> Questions:
        return Questions(self.run, self.bench, self.pictures, self.proposers)

    @cached_property
    def _failing(self) -> Failing:
        return Failing(self.run, self.bench)

    @property
    def _shows_failures(self) -> bool:
        return self._questions.need_sheets and self.bench.inputs.config.refine.show_failures

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


def _failed(records: Sequence[RoundRecord]) -> bool:
    """Whether a unit has no label because a proposer failed: a verdict that another run may mend."""
    return any(record.failure for record in records) and not any(record.labels for record in records)


def _with(
    record: RoundRecord, misses: Sequence[Exemplar], alarms: Sequence[Exemplar], outcome: str = ""
) -> RoundRecord:
    return record.model_copy(
        update={"misses": tuple(misses), "false_alarms": tuple(alarms), "outcome": outcome}
    )


def _outcome(best: Label | None, step: Step) -> str:
    known = f"Best so far: {best.text}. " if best is not None else ""
    return f"{known}{'Stopped' if step.stop else 'Went on'}: {step.reason}."


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
