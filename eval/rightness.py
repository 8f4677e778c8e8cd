"""When a label is right: the one place where the suites decide it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeler.checks.judges import normal_form
from labeler.encoders.bridge import read_words
from labeler.errors import UsageError
from labeler.records import UnitId

from .claims import Claim

SIMILAR = 0.8
"""Least sentence-embedding cosine at which another wording counts as the same (`checks.match_similarity`)."""
BROADER, NARROWER = 2.0, 0.1
"""A hypernym is right up to so many times the classes of the truth (canine for dog, not animal), a hyponym
down to this share of them (terrier, not beagle): one breed says little about a direction of all dogs."""
NO_LABEL = frozenset({"decoy", "dead"})
"""Kinds of units for which every label is wrong."""
UNKNOWN = "unclear"
"""The kind of a unit of which nothing is known: it counts nowhere."""
_FORMS = {"or": ("or", False), "and": ("and", False), "context": ("and", False), "not": ("not", True)}
"""Kinds whose truth is a formula: how it joins its terms, and whether they are negated."""

Similarity = Callable[[str, str], float]


@dataclass(frozen=True)
class Truth:
    """What a unit is known to respond to.

    Of the kinds ``or``, ``and``, ``context`` and ``not`` it is a formula of `terms`; of any other kind,
    `terms` are names of one thing. A ``superclass`` is a set of ImageNet classes.
    """

    label: str
    terms: tuple[str, ...]
    kind: str

    @property
    def labelled(self) -> bool:
        """Whether some label would be right."""
        return self.kind not in NO_LABEL and self.kind != UNKNOWN


def read_truth(path: Path) -> dict[UnitId, Truth]:
    """``{"layer:index": {"label": ..., "terms": [...], "kind": ...}}``.

    Raises:
        UsageError: when the file cannot be read as that.
    """
    try:
        return truth_of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(
            f'{path} is not a truth file: {{"layer:index": {{"label": ..., "terms": [...], "kind": ...}}}}.'
        ) from None


def truth_of(data: Mapping[str, Mapping[str, Any]]) -> dict[UnitId, Truth]:
    """The same from plain data."""
    return {
        UnitId.parse(unit): Truth(str(row["label"]), tuple(map(str, row["terms"])), str(row["kind"]))
        for unit, row in data.items()
    }


def same_name(text: str, names: Iterable[str]) -> bool:
    """Whether `text` is one of `names`, up to case, hyphens, articles and plural."""
    return normal_form(text) in {normal_form(name) for name in names}


def right(claim: Claim, truth: Truth, similarity: Similarity | None = None) -> bool:
    """Whether a claim says what the unit responds to.

    ``or``: the claim's terms are those of the truth, all and no others, none negated, joined by OR or said of
    several facets. ``and``, ``context`` (the first term where the second is in the image): the same, joined
    by AND. ``not``: the one term, negated. ``superclass``: `fits_superclass`. Any other kind: one term, one
    of the truth's names. Terms are the same by name (`same_name`), or by a `similarity` of at least `SIMILAR`
    where one is given.
    """

    def same(term: str, name: str) -> bool:
        return same_name(term, [name]) or (similarity is not None and similarity(term, name) >= SIMILAR)

    op, negated = _FORMS.get(truth.kind, ("", False))
    terms = truth.terms if op else claim.literals[:1]  # of one thing, one term is said
    if (
        not truth.labelled
        or len(claim.literals) != len(terms)
        or any(no != negated for _, no in claim.literals)
    ):
        return False
    said = [term for term, _ in claim.literals]
    if truth.kind == "superclass":
        return fits_superclass(said[0], truth.label)
    if not op:
        return any(same(said[0], name) for name in (truth.label, *truth.terms))
    return (len(said) == 1 or claim.op == op) and all(
        any(same(t, term) for t in said) for term in truth.terms
    )


@functools.lru_cache(maxsize=1)
def _classes_by_word() -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = {}
    for index, entry in enumerate(read_words()):
        for word in (*entry["names"], *entry["hypernyms"]):
            found.setdefault(normal_form(word), set()).add(index)
    return {word: frozenset(classes) for word, classes in found.items()}


def classes_of(word: str) -> frozenset[int]:
    """The ImageNet classes that `word` names or is a hypernym of (WordNet's words, `imagenet_words.json`)."""
    return _classes_by_word().get(normal_form(word), frozenset())


def fits_superclass(text: str, name: str, narrower: float = NARROWER) -> bool:
    """Whether `text` is the superclass `name`, a synonym, a hyponym, or a near hypernym.

    By the ImageNet classes that each word names: a synonym has the same, a hyponym at least the share
    `narrower` of them and no others, a hypernym all of them and at most `BROADER` times as many.
    """
    if same_name(text, [name]):
        return True
    said, meant = classes_of(text), classes_of(name)
    if not said or not meant:
        return False
    share = len(said) / len(meant)
    return (said <= meant and share >= narrower) or (meant <= said and share <= BROADER)


def is_superclass(text: str, name: str) -> bool:
    """The strict rule: `text` is the superclass's name or a synonym, a word of the very same classes."""
    return same_name(text, [name]) or bool(classes_of(text) and classes_of(text) == classes_of(name))


def first_right(texts: Sequence[str], is_right: Callable[[str], bool]) -> int | None:
    """The place, from 0, of the first right text; None where none is."""
    return next((place for place, text in enumerate(texts) if is_right(text)), None)
