from labeler.propose.annotated import AnnotatedProposer
from labeler.records import UnitId
from labeler.seams import Evidence, Tried

UNIT = UnitId("a", 0)
RANKING = [("red", "colour"), ("dog", "object"), ("sky", "scene")]


def _evidence(unit: UnitId, *tried: str) -> Evidence:
    return Evidence(
        unit, 1 + len(tried), (), history=tuple(Tried(text, 0, 0.1, "score 0.10") for text in tried)
    )


def test_the_best_untried_concepts_come_first() -> None:
    proposer = AnnotatedProposer({UNIT: RANKING}, candidates=2)
    assert [p.text for p in proposer.propose(_evidence(UNIT)).proposals] == ["red", "dog"]
    second = proposer.propose(_evidence(UNIT, "Red", "dog")).proposals
    assert [(p.text, p.kind, p.facet) for p in second] == [("sky", "scene", 0)]


def test_a_unit_without_a_ranking_gets_no_proposal_and_no_failure() -> None:
    answer = AnnotatedProposer({UNIT: RANKING}, candidates=2).propose(_evidence(UnitId("a", 1)))
    assert answer.proposals == ()
    assert answer.failure is None


def test_another_ranking_is_another_proposer() -> None:
    one = AnnotatedProposer({UNIT: RANKING}, 2)
    assert one.fingerprint == AnnotatedProposer({UNIT: list(RANKING)}, 2).fingerprint
    assert one.fingerprint != AnnotatedProposer({UNIT: RANKING[::-1]}, 2).fingerprint
