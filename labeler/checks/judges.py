"""What turns a label into a score for every image: the annotations first, then an image-text model.

A judge never proposed anything. What it cannot read it says so (None), and the next one is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from labeler.records import Formula, Label
from labeler.seams import Concept, Encoder

Array = NDArray[np.float32]
Similarity = Callable[[Sequence[str], Sequence[str]], Array]


@dataclass(frozen=True)
class Reading:
    """The score of one label on every probe image, higher where the label holds more; NaN: cannot tell.

    `match` says how the label was understood, e.g. ``striped`` or ``0.86 to striped``.
    """

    judge: str
    scores_n: Array
    match: str = ""


class Judge(Protocol):
    """Reads labels against the probe."""

    @property
    def name(self) -> str:
        """What the record calls it."""
        ...

    def read(self, labels: Sequence[Label]) -> list[Reading | None]:
        """One reading per label, None for a label that the judge does not know."""
        ...


def read_labels(
    judges: Sequence[Judge],
    labels: Sequence[Label],
    enough: Callable[[Reading], bool] = lambda reading: True,
) -> list[Reading | None]:
    """For each label the reading of the first judge, in order, that knows it and reads enough images.

    A probe may be annotated on a few of its images only: then a later judge that reads all of them decides,
    and where there is none, the first reading stays, so that the checks can say what is missing.
    """
    found: list[Reading | None] = [None] * len(labels)
    for judge in judges:
        open_at = [i for i, reading in enumerate(found) if reading is None or not enough(reading)]
        for index, reading in zip(open_at, judge.read([labels[i] for i in open_at]), strict=True):
            if reading is not None and (found[index] is None or enough(reading)):
                found[index] = reading
    return found


def read_label(
    judges: Sequence[Judge], label: Label, enough: Callable[[Reading], bool] = lambda reading: True
) -> Reading | None:
    """`read_labels` of one label."""
    return read_labels(judges, [label], enough)[0]


def enough_images(image_ids_n: NDArray[np.int64], least: int) -> Callable[[Reading], bool]:
    """Whether a reading tells something about at least `least` of these images."""
    return lambda reading: int(np.isfinite(reading.scores_n[image_ids_n]).sum()) >= least


def terms_of(label: Label) -> tuple[str, ...]:
    """The simple terms of a label: those of its formula, or its text."""
    return label.formula.terms if label.formula is not None else (label.text,)


def combine(formula: Formula | None, terms_tn: Sequence[Array]) -> Array:
    """Scores of a formula: OR = max, AND = min, NOT = ``-s`` of the largest term. ``(n,)``; NaN spreads."""
    scores_tn = np.stack(list(terms_tn))
    if formula is not None and formula.op == "and":
        result: Array = scores_tn.min(axis=0)
        return result
    largest: Array = scores_tn.max(axis=0)
    return -largest if formula is not None and formula.op == "not" else largest


def normal_form(text: str) -> str:
    """A label without case, hyphens, articles and the plural of its last word: equal forms, equal words.

    It need not be English, only the same on both sides.
    """
    words = re.findall(r"[^\W_]+", text.lower().replace("'s ", " "))
    while len(words) > 1 and words[0] in ("a", "an", "the"):
        words.pop(0)
    if words:
        words[-1] = _singular(words[-1])
    return " ".join(words)


def _singular(word: str) -> str:
    if len(word) <= 3 or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") else word


def text_similarity(encoder: Encoder) -> Similarity:
    """Cosine of text embeddings ``(t, c)``; the embeddings of a list of concepts are made once."""
    known: dict[tuple[str, ...], Array] = {}

    def similarity(texts: Sequence[str], names: Sequence[str]) -> Array:
        key = tuple(names)
        if key not in known:
            known[key] = encoder.embed_texts(names)
        return encoder.embed_texts(texts) @ known[key].T

    return similarity


@dataclass(frozen=True)
class AnnotationJudge:
    """The true presence of an annotated concept in each image; no model in between.

    Args:
        concepts: the probe's annotated concepts.
        areas_nc: share of each image that each concept covers, in [0, 1]; NaN where the image is not
            annotated in the concept's category. ``(n, c)``.
        presence_area: least share at which a concept is present.
        similarity: cosine between texts and names, for labels that are neither name nor synonym.
        min_similarity: least cosine that counts as the same concept.
    """

    concepts: Sequence[Concept]
    areas_nc: Array
    presence_area: float
    similarity: Similarity | None = None
    min_similarity: float = 0.8
    name: str = "annotations"
    _matches: dict[tuple[str, str], tuple[int, str] | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def _names(self) -> dict[str, list[int]]:
        names: dict[str, list[int]] = {}
        for index, concept in enumerate(self.concepts):
            names.setdefault(normal_form(concept.name), []).append(index)
        return names

    @cached_property
    def _synonyms(self) -> dict[str, list[int]]:
        synonyms: dict[str, list[int]] = {}
        for index, concept in enumerate(self.concepts):
            for word in concept.synonyms:
                synonyms.setdefault(normal_form(word), []).append(index)
        return synonyms

    def match(self, text: str, kind: str = "other") -> tuple[int, str] | None:
        """The concept that `text` names and how: by name, then synonym, then embedding; None where none does.

        Where one word names concepts of several categories, `kind` chooses.
        """
        key = (text, kind)
        if key not in self._matches:
            self._matches[key] = self._find(text, kind)
        return self._matches[key]

    def _find(self, text: str, kind: str) -> tuple[int, str] | None:
        form = normal_form(text)
        for table, wording in ((self._names, "{}"), (self._synonyms, "synonym of {}")):
            indices = table.get(form, [])
            if indices:
                index = next((i for i in indices if self.concepts[i].category == kind), indices[0])
                return index, wording.format(self.concepts[index].name)
        if self.similarity is None or not self.concepts or not form:
            return None
        cosines_c = self.similarity([text], [concept.name for concept in self.concepts])[0]
        index = int(np.argmax(cosines_c))
        if cosines_c[index] < self.min_similarity:
            return None
        return index, f"{cosines_c[index]:.2f} to {self.concepts[index].name}"

    def read(self, labels: Sequence[Label]) -> list[Reading | None]:
        """Presence as 0 or 1 (NaN: not annotated there); a formula needs all its terms matched."""
        return [self._read(label) for label in labels]

    def _read(self, label: Label) -> Reading | None:
        matches = [match for term in terms_of(label) if (match := self.match(term, label.kind)) is not None]
        if len(matches) < len(terms_of(label)):
            return None
        areas_tn = [self.areas_nc[:, index] for index, _ in matches]
        present_tn = [
            np.where(np.isnan(area_n), np.nan, area_n >= self.presence_area).astype(np.float32)
            for area_n in areas_tn
        ]
        scores_n = combine(label.formula, present_tn)
        if label.formula is not None and label.formula.op == "not":
            scores_n = 1 + scores_n
        return Reading(self.name, scores_n, "; ".join(how for _, how in matches))


@dataclass(frozen=True)
class EncoderJudge:
    """An image-text model: cosine of a centred image embedding with the text's, standardised over the probe.

    Images are centred by their own mean because what all photographs share says nothing about any label;
    texts are not moved (the two kinds of embedding lie in different cones: Liang et al. 2022, "Mind the
    gap").

    Args:
        name: what the record calls it.
        encoder: the model; never the one that helped to propose.
        embeddings_nd: its unit-norm embeddings of the probe, NaN where an image is unreadable. ``(n, d)``.
    """

    name: str
    encoder: Encoder
    embeddings_nd: Array
    _texts: dict[str, Array] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def photographs_nd(self) -> Array:
        """The probe's embeddings, centred and of unit norm. ``(n, d)``."""
        return centred(self.embeddings_nd)

    def knows(self, label: Label) -> bool:
        """Whether the model can know every term of `label`."""
        return all(self.encoder.covers(term) for term in terms_of(label))

    def read(self, labels: Sequence[Label]) -> list[Reading | None]:
        """Standardised similarity of each probe image to each label that the model knows."""
        scores = self.scores(labels, self.photographs_nd)
        return [None if score_n is None else Reading(self.name, score_n) for score_n in scores]

    def scores(self, labels: Sequence[Label], images_nd: Array) -> list[Array | None]:
        """Similarity of centred unit-norm images to each label, standardised over these images. ``(n,)``."""
        known = [self.knows(label) for label in labels]
        wanted = [term for label, know in zip(labels, known, strict=True) if know for term in terms_of(label)]
        terms = list(dict.fromkeys(wanted))
        missing = [term for term in terms if term not in self._texts]
        if missing:
            self._texts.update(zip(missing, self.encoder.embed_texts(missing), strict=True))
        similarity: dict[str, Array] = {}
        if terms:
            scores_nt = _standardised(images_nd @ np.stack([self._texts[term] for term in terms]).T)
            similarity = {term: scores_nt[:, column] for column, term in enumerate(terms)}
        return [
            combine(label.formula, [similarity[term] for term in terms_of(label)]) if know else None
            for label, know in zip(labels, known, strict=True)
        ]


def annotation_judge(judges: Sequence[Judge]) -> AnnotationJudge | None:
    """The judge that knows where each concept truly is; None where nothing is annotated."""
    return next((judge for judge in judges if isinstance(judge, AnnotationJudge)), None)


def centred(embeddings_nd: Array) -> Array:
    """Embeddings less their mean, of unit norm again (zero where nothing is left). NaN rows stay NaN."""
    readable_n = np.isfinite(embeddings_nd).all(axis=1)
    mean_d = embeddings_nd[readable_n].mean(axis=0) if readable_n.any() else 0.0
    moved_nd = embeddings_nd - mean_d
    norms_n = np.linalg.norm(moved_nd, axis=1, keepdims=True)
    unit: Array = (moved_nd / np.where(norms_n > 1e-6, norms_n, np.inf)).astype(np.float32)
    return unit


def _standardised(scores_nt: Array) -> Array:
    readable_n = np.isfinite(scores_nt).all(axis=1)
    kept_nt = scores_nt[readable_n].astype(np.float64)
    if not len(kept_nt):
        return scores_nt
    sd_t = kept_nt.std(axis=0)
    standard: Array = ((scores_nt - kept_nt.mean(axis=0)) / np.where(sd_t > 1e-9, sd_t, np.inf)).astype(
        np.float32
    )
    return standard
