"""From judged labels to one verdict for the unit, with the sentence that explains it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from labeler.checks.decoys import Cut
from labeler.checks.gate import Judged
from labeler.checks.judges import normal_form, terms_of
from labeler.records import Label, VerdictName

Same = Callable[[str, str], bool]


@dataclass(frozen=True)
class Decision:
    """The verdict of one unit: `accepted` labels, best first, and the `refused` candidates."""

    verdict: VerdictName
    reason: str
    accepted: tuple[Label, ...] = ()
    refused: tuple[Label, ...] = ()


def same_words(first: str, second: str) -> bool:
    """Whether two labels are the same but for case, hyphens and plural."""
    return normal_form(first) == normal_form(second)


def decide(
    judged: Sequence[Judged],
    cut: Cut,
    *,
    test_images: int,
    min_test_images: int,
    dead: bool = False,
    same: Same = same_words,
) -> Decision:
    """The verdict (DESIGN 2).

    One label per facet is accepted, the best; labels that are the `same` count once, so `polysemantic` means
    two or more *different* labels for different facets. A term of a compound that may be accepted is never
    accepted in its place, whatever it scores: the compound has shown that the term is not the whole meaning.
    """
    ordered = sorted(judged, key=lambda item: (-(item.label.score or 0.0), item.label.text))
    candidates = tuple(item.label for item in ordered)
    if dead:
        return Decision("dead", "The unit gives the same value on every image.", refused=candidates)
    if test_images < min_test_images:
        few = f"Only {test_images} test images; {min_test_images} are needed to decide."
        return Decision("abstained", few, refused=candidates)
    if not ordered:
        return Decision("abstained", "No label was proposed.")
    whole = _without_parts(ordered, same)
    accepted = _one_per_facet([item for item in whole if cut.accepts(item)], same)
    if not accepted:
        return _without_label(whole, cut, candidates)
    kept = {id(item) for item in accepted}
    refused = tuple(item.label for item in ordered if id(item) not in kept)
    labels = tuple(item.label for item in accepted)
    if len(accepted) > 1:
        texts = ", ".join(label.text for label in labels)
        return Decision(
            "polysemantic", f"{len(labels)} facets pass with different labels: {texts}.", labels, refused
        )
    return Decision("accepted", _sentence(accepted[0], _against(accepted[0], cut)), labels, refused)


def _one_per_facet(passing: Sequence[Judged], same: Same) -> list[Judged]:
    accepted: list[Judged] = []
    for item in passing:
        taken = any(item.label.facet == other.label.facet for other in accepted)
        if not taken and not any(same(item.label.text, other.label.text) for other in accepted):
            accepted.append(item)
    return accepted


def _without_parts(ordered: Sequence[Judged], same: Same) -> list[Judged]:
    """The labels but for those that another says in full: ``a`` beside ``a or b``; of twins, the first."""
    return [
        item
        for place, item in enumerate(ordered)
        if not any(
            _says(other, item, same) and (rank < place or not _says(item, other, same))
            for rank, other in enumerate(ordered)
            if rank != place
        )
    ]


def _says(whole: Judged, part: Judged, same: Same) -> bool:
    """Whether a compound that leads its terms says all of a label.

    The compound has to pass every condition but the cut; among them is that it says significantly more than
    each of its terms.
    """
    formula = whole.label.formula
    if formula is None or formula.op == "not" or not whole.eligibility.passes:
        return False
    if part.label.formula is not None and part.label.formula.op != formula.op:
        return False
    return all(any(same(term, other) for other in formula.terms) for term in terms_of(part.label))


def _without_label(ordered: Sequence[Judged], cut: Cut, candidates: tuple[Label, ...]) -> Decision:
    by_state = {state: [item for item in ordered if item.eligibility.state == state] for state in _STATES}
    count = len(ordered)
    if by_state["passes"]:
        best = by_state["passes"][0]
        if not cut.decoys:
            return Decision(
                "abstained", "No decoy could be made, so no error rate is known.", refused=candidates
            )
        return Decision("rejected", _sentence(best, _against(best, cut)), refused=candidates)
    if by_state["refused"]:
        best = by_state["refused"][0]
        return Decision("rejected", _sentence(best, ""), refused=candidates)
    unspecific = [item for item in by_state["unknown"] if "prediction" in item.label.checks]
    measured = [item for item in unspecific if item.label.checks["prediction"].status == "ok"]
    if measured:
        return Decision("abstained", _sentence(measured[0], ""), refused=candidates)
    tested = by_state["not_significant"]
    if tested:
        shown = (
            f"None of the {len(tested)} labels that could be tested (of {count}) says more than chance or "
            "next to nothing; the best: "
        )
        return Decision("uninterpretable", shown + _sentence(tested[0], ""), refused=candidates)
    return Decision("abstained", f"No label could be tested: {_sentence(ordered[0], '')}", refused=candidates)


_STATES = ("passes", "refused", "not_significant", "unknown")


def _against(item: Judged, cut: Cut) -> str:
    score, probability = item.label.score or 0.0, item.label.probability
    side = "reaches" if item.cut_score >= cut.threshold else "is below"
    against = f"; its score {score:.2f} {side} the decoys' cut {cut.threshold:.2f}"
    if probability is None:
        return against
    side = "enough" if probability >= cut.least_probability else "too little"
    return f"{against}, and {probability:.2f} is {side} probability of being right"


def _sentence(item: Judged, ending: str) -> str:
    return f"{item.label.text}: {item.eligibility.reason}{ending}."
