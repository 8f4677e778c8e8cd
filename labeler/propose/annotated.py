"""The `annotations` proposer: the annotated concepts that a unit's activation ranks best, as INVERT does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labeler.records import Kind, UnitId
from labeler.seams import Evidence, Proposal, Proposed
from labeler.storage import fingerprint


class AnnotatedProposer:
    """Proposes annotated concepts by a ranking made on `propose` images; those tried before are left out.

    Bykov et al. (2023), "Labeling Neural Representations with Inverse Recognition": the concept of highest
    AUROC. It names what is annotated and nothing else; whether the label holds is for the checks, on other
    images. Its proposals are for the first facet, as the ranking is the whole unit's.

    Args:
        rankings: for each unit its concepts and their kinds, best first.
        candidates: proposals per round.
    """

    name = "annotations"
    needs_sheet = False

    def __init__(self, rankings: Mapping[UnitId, Sequence[tuple[str, Kind]]], candidates: int) -> None:
        self._rankings = rankings
        self._candidates = candidates
        listed = {str(unit): list(ranking) for unit, ranking in rankings.items()}
        self.fingerprint = fingerprint("annotations", 1, listed, candidates)

    def propose(self, evidence: Evidence) -> Proposed:
        """The next best untried concepts of the unit; none for a unit without a ranking."""
        tried = {label.text.casefold() for label in evidence.history}
        fresh = [item for item in self._rankings.get(evidence.unit, ()) if item[0].casefold() not in tried]
        return Proposed(tuple(Proposal(name, kind) for name, kind in fresh[: self._candidates]))
