"""The `imported` proposer: labels that somebody else made, for the checks and the gate to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labeler.records import UnitId
from labeler.seams import Evidence, Proposal, Proposed
from labeler.storage import fingerprint


class ImportedProposer:
    """Proposes the labels given for each unit, once; a unit without any gets none.

    Args:
        labels: by unit, in the order in which they are to be tried.
    """

    name = "imported"
    needs_sheet = False

    def __init__(self, labels: Mapping[UnitId, Sequence[Proposal]]) -> None:
        self._labels = labels
        listed = {str(unit): [proposal.text for proposal in found] for unit, found in labels.items()}
        self.fingerprint = fingerprint("imported", 1, listed)

    def propose(self, evidence: Evidence) -> Proposed:
        """The unit's labels, those not tried yet; a facet that the unit does not have becomes its first."""
        facets = {facet.index for facet in evidence.facets}
        tried = {label.text.casefold() for label in evidence.history}
        return Proposed(
            tuple(
                Proposal(p.text, p.kind, p.facet if p.facet in facets else 0, p.formula)
                for p in self._labels.get(evidence.unit, ())
                if p.text.casefold() not in tried
            )
        )
