"""What proposers are shown of a unit in a round, and what they say about it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from labeler.exemplars.images import ImageStore
from labeler.pipeline.bench import Bench
from labeler.pipeline.evidence import UnitEvidence
from labeler.pipeline.pictures import Pictures
from labeler.pipeline.sheet import unit_sheet
from labeler.propose.endpoint import EndpointProposer
from labeler.records import Label, RoundRecord, UnitId
from labeler.refine import best_per_facet
from labeler.seams import Evidence, FacetEvidence, Proposal, Proposed, Proposer, Tried

Records = Mapping[UnitId, Sequence[RoundRecord]]


@dataclass(frozen=True)
class Answer:
    """What the chain of proposers said about one unit. `unanswered`: nobody proposed, and a call failed."""

    proposals: tuple[Proposal, ...]
    failure: str
    sheet: str | None
    unanswered: bool

    @classmethod
    def join(cls, answers: Sequence[Proposed], sheet: str | None) -> Answer:
        """All proposals, and every cause why a proposer gave none."""
        proposals = tuple(proposal for answer in answers for proposal in answer.proposals)
        causes = [answer.failure.rstrip(".") for answer in answers if answer.failure]
        unanswered = not proposals and any(answer.unanswered for answer in answers)
        return cls(proposals, "; ".join(causes), sheet, unanswered)


@dataclass
class Questions:
    """Puts units before the proposers of a run; sheets are drawn as they are needed."""

    run: Path
    bench: Bench
    pictures: Pictures
    proposers: Sequence[Proposer]
    _sheets: dict[UnitId, str] = field(default_factory=dict)

    @property
    def need_sheets(self) -> bool:
        """Whether any proposer is shown contact sheets."""
        return any(proposer.needs_sheet for proposer in self.proposers)

    def answers(self, units: Sequence[UnitId], records: Records, number: int) -> Generator[Answer]:
        """What all proposers say about `units` in one round, in their order, as it comes.

        A language model is asked about many units at once, in another thread; close the iterator to end that.

        Args:
            units: of any layers.
            records: their earlier rounds.
            number: of this round.

        Raises:
            EndpointError: when no unit can succeed: wrong key, model or address.
            PausedError: when the endpoint keeps failing, or the budget is used up.
        """
        with ExitStack() as stack:
            streams = [
                stack.enter_context(closing(self._stream(proposer, units, records, number)))
                for proposer in self.proposers
            ]
            for unit, *answers in zip(units, *streams, strict=True):
                yield Answer.join(answers, self._sheets.pop(unit, None))

    def _stream(
        self, proposer: Proposer, units: Sequence[UnitId], records: Records, number: int
    ) -> Generator[Proposed]:
        evidences = (self._evidence(unit, records[unit], number, proposer.needs_sheet) for unit in units)
        if isinstance(proposer, EndpointProposer):
            yield from proposer.propose_all(evidences)
        else:
            yield from map(proposer.propose, evidences)

    def _evidence(
        self, unit: UnitId, records: Sequence[RoundRecord], number: int, with_sheet: bool
    ) -> Evidence:
        found = self.bench.evidence.units[unit]
        failing = records[-1] if records and self.bench.inputs.config.refine.show_failures else None
        history = tuple(_tried(records, failing))
        if not with_sheet:
            return Evidence(unit, number, _facets(found), history=history)
        images = self.run / "images"
        made = [item for item in self.pictures.visualisations.get(unit, ()) if not item.second]
        drawn = unit_sheet(images, found, made, failing, self.bench.inputs.config.propose.sheet_side)
        name = self._sheets[unit] = ImageStore(images).put(drawn.image)
        sheet = (images / name).read_bytes()  # what is kept is what was sent
        return Evidence(unit, number, _facets(found), sheet, drawn.key, history)


def best_label(records: Sequence[RoundRecord]) -> Label | None:
    """The label whose failures are shown: the best of all facets."""
    return max(best_per_facet(records).values(), key=lambda label: label.score or 0.0, default=None)


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


def _tried(records: Sequence[RoundRecord], failing: RoundRecord | None) -> Iterator[Tried]:
    best = best_label(records)
    shown = failing is not None and bool(failing.misses or failing.false_alarms)
    for record in records:
        for label in record.labels:
            check = label.checks["prediction"]
            said = f"Could not be tested: {check.why}."
            if check.value is not None:
                said = f"Its correlation with the activation is {check.value:.2f} on {check.n} other images."
                if label.score is None:  # a compound
                    said += " One of its terms alone, or another word, says more."
            if shown and label is best:
                said += " The best so far: sections D and E show where it fails."
            yield Tried(label.text, label.facet, label.score or 0.0, said)
