import numpy as np
import pytest

from labeler.errors import EncoderError, UsageError
from labeler.propose.vocabulary import VocabularyProposer, VocabularySettings
from labeler.records import UnitId
from labeler.seams import Evidence, FacetEvidence, Tried

WORDS = ("red", "yellow", "teal", "purple", "orange", "lime", "blue", "pink")
HUES = {
    "red": 0,
    "orange": 45,
    "yellow": 90,
    "lime": 135,
    "teal": 180,
    "blue": 225,
    "purple": 270,
    "pink": 315,
}


def hue(degrees):
    """A point on the circle of hues, in the narrow cone in which a real encoder's embeddings lie."""
    angle = np.deg2rad(np.asarray(degrees, dtype=np.float32))
    vectors = np.stack([0.3 * np.cos(angle), 0.3 * np.sin(angle), np.ones_like(angle)], axis=-1)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def embed_texts(texts):
    unknown = [text for text in texts if text.lower() not in HUES]
    if unknown:
        raise EncoderError(f"{unknown[0]} is not a hue.")
    return hue([HUES[text.lower()] for text in texts])


def proposer(**settings):
    ids = 1000 + np.arange(360)
    reference = np.stack([1000 + (start + np.arange(12)) % 360 for start in range(0, 360, 30)])
    return VocabularyProposer(
        WORDS,
        {"red": "colour"},
        embed_texts,
        hue(np.arange(360)),
        ids,
        reference,
        VocabularySettings(**settings),
    )


def evidence(*starts, history=(), turn=1):
    facets = tuple(
        FacetEvidence(
            i, tuple(1000 + (start + np.arange(-5, 5)) % 360), (1.0,) * 10, np.zeros((10, 3), np.float32)
        )
        for i, start in enumerate(starts)
    )
    return Evidence(UnitId("layer", 0), turn, facets, history=history)


def texts(proposed, facet):
    return [proposal.text for proposal in proposed.proposals if proposal.facet == facet]


@pytest.mark.parametrize("centre", [True, False])
def test_each_facet_gets_its_word_first(centre):
    found = proposer(candidates=2, centre=centre).propose(evidence(0, 225, 90))
    assert [texts(found, facet)[0] for facet in range(3)] == ["red", "blue", "yellow"]
    assert [len(texts(found, facet)) for facet in range(3)] == [2, 2, 2]
    assert found.proposals[0].kind == "colour"
    assert len({proposal.text for proposal in found.proposals}) == 6


def test_words_are_proposed_once_over_all_rounds_until_none_is_left():
    model, history = proposer(candidates=3), ()
    for turn in (1, 2, 3, 4):
        found = model.propose(evidence(0, history=history, turn=turn))
        history += tuple(Tried(p.text.upper(), 0, -0.1, "n = 40") for p in found.proposals)
    assert sorted(tried.text.lower() for tried in history) == sorted(WORDS)
    assert found.proposals == ()


def test_later_rounds_search_around_the_best_label_that_held():
    scores = {"teal": 0.4, "red": 0.1, "lime": 0.0}
    history = tuple(Tried(word, 0, score, f"r = {score}") for word, score in scores.items())
    held = proposer(candidates=2).propose(evidence(0, history=history, turn=2))
    assert texts(held, 0) == ["blue", "pink"]
    failed = tuple(Tried(tried.text, 0, -0.2, "r < 0") for tried in history)
    assert "blue" not in texts(proposer(candidates=2).propose(evidence(0, history=failed, turn=2)), 0)


def test_unreadable_exemplars_are_left_out_and_a_facet_without_any_gets_nothing():
    facet = FacetEvidence(0, (3, 1000, 1001, 1359), (1.0,) * 4, np.zeros((4, 3), np.float32))
    lost = FacetEvidence(1, (3, 4), (1.0, 1.0), np.zeros((2, 3), np.float32))
    found = proposer().propose(Evidence(UnitId("layer", 0), 1, (facet, lost)))
    assert texts(found, 0)[0] == "red"
    assert texts(found, 1) == []
    assert proposer().propose(Evidence(UnitId("layer", 0), 1, (lost,))).proposals == ()


def test_a_label_that_the_encoder_refuses_is_a_failure_not_an_exception():
    found = proposer().propose(evidence(0, history=(Tried("loud", 0, 0.5, ""),), turn=2))
    assert found.failure == "loud is not a hue."


def test_the_fingerprint_follows_what_determines_the_answers():
    assert proposer().fingerprint == proposer().fingerprint
    assert proposer().fingerprint != proposer(centre=True).fingerprint


def test_words_are_distinct_and_there_must_be_some():
    model = VocabularyProposer(
        ["Red", " red ", "", "blue"], {}, embed_texts, hue([0, 9]), np.arange(2), np.empty((0, 5), np.int64)
    )
    assert model.words == ("Red", "blue")
    with pytest.raises(UsageError, match="vocabulary"):
        VocabularyProposer([" "], {}, embed_texts, hue([0]), np.arange(1), np.empty((0, 5), np.int64))
