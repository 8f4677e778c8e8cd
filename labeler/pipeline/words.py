"""The words of a run: what the `vocabulary` proposer chooses from, and what labels compete with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeler.checks import (
    AnnotationJudge,
    EncoderJudge,
    Judge,
    Kin,
    LayerData,
    Rivals,
    Words,
    annotation_judge,
    terms_of,
)
from labeler.errors import ConfigError
from labeler.pipeline.bench import Bench, Scouts
from labeler.records import KINDS, Kind, Label
from labeler.storage import hash_order

MOST_RIVALS = 1000
"""Words that a label competes with, hash-chosen where there are more: each is a column over all images."""


def kind_of(category: str) -> Kind:
    """The kind of label that a category of annotations gives."""
    return next((kind for kind in KINDS if kind == category), "other")


def vocabulary(bench: Bench) -> dict[str, Kind]:
    """The words that the encoder knows, with their kinds: annotated concepts and its own, or a file's.

    Raises:
        ConfigError: when the vocabulary file is missing or empty, or the encoder knows none of its words.
    """
    kinds = {concept.name: kind_of(concept.category) for concept in bench.inputs.probe.concepts}
    encoder = bench.inputs.encoder
    known = [word for word in _all_words(bench) if encoder.covers(word)]
    if not known:
        raise ConfigError(
            f"{encoder.name} knows no word of the vocabulary; set propose.vocabulary to a text file with one "
            "label a line."
        )
    return {word: kinds.get(word, "other") for word in known}


def rivals(
    bench: Bench, data: LayerData, kin: Mapping[int, Sequence[Label]] | None = None,
    scouts: Scouts | None = None,
) -> Rivals:  # fmt: skip
    """What the labels of a layer compete with on a split: for each judge the words that it knows.

    Args:
        bench: the run.
        data: the layer on the split.
        kin: the labels that each unit (by index) is left with, one or more for each of its facets.
        scouts: where the rivals of each unit are picked; None: every word is one.
    """
    ids_m = None if scouts is None else scouts.image_ids_m
    words = [item for judge in bench.judges if (item := _words_of(bench, judge, data, ids_m)) is not None]
    meaning = _meanings(bench, [name for item in words for name in item.names])

    def exempt(label: Label) -> Collection[str]:
        return () if label.formula is not None else {label.text, *meaning(label.text)}

    least = bench.inputs.config.checks.min_test_images
    found = {}
    for unit, labels in (kin or {}).items():
        best: dict[int, Kin] = {}
        for label in sorted(labels, key=lambda label: -(label.score or 0.0)):
            reading = None if label.facet in best else bench.reading(label, data, least)
            if reading is not None:
                scores_n = reading.scores_n[data.image_ids_n].astype(np.float64)
                best[label.facet] = Kin(label.facet, tuple(terms_of(label)), scores_n)
        if len(best) > 1:
            found[unit] = list(best.values())
    return Rivals(data, words, exempt, found, None if scouts is None else scouts.activations_mu)


def _words_of(
    bench: Bench, judge: Judge, data: LayerData, scouted_ids_m: NDArray[np.int64] | None
) -> Words | None:
    if isinstance(judge, AnnotationJudge):
        names = [concept.name for concept in judge.concepts]
    elif isinstance(judge, EncoderJudge):
        names = [word for word in _all_words(bench) if judge.encoder.covers(word)]
    else:
        return None
    order = hash_order(names, bench.inputs.config.seed, "rivals")[:MOST_RIVALS]
    chosen = [names[place] for place in sorted(order)]
    readings = judge.read([Label(text=name) for name in chosen])
    read = [(name, r) for name, r in zip(chosen, readings, strict=True) if r is not None]
    names = [name for name, _ in read]

    def scores(ids_n: NDArray[np.int64]) -> NDArray[np.float64]:
        columns = [reading.scores_n[ids_n] for _, reading in read]
        return np.array(columns, dtype=np.float64).reshape(len(read), len(ids_n)).T

    scouted_mw = None if scouted_ids_m is None else scores(scouted_ids_m)
    return Words(judge.name, tuple(names), scores(data.image_ids_n), scouted_mw)


def _meanings(bench: Bench, names: Sequence[str]) -> Callable[[str], frozenset[str]]:
    """A function from a label to the words among `names` that may mean the same."""
    distinct = sorted(set(names))
    annotations = annotation_judge(bench.judges)
    least, encoder = bench.inputs.config.checks.match_similarity, bench.inputs.encoder
    known = [name for name in distinct if encoder.covers(name)]
    embeddings_wd = encoder.embed_texts(known) if known else None

    @cache
    def meaning(text: str) -> frozenset[str]:
        match = annotations.match(text) if annotations is not None else None
        found = {annotations.concepts[match[0]].name} if annotations is not None and match else set()
        if embeddings_wd is not None and encoder.covers(text):
            cosines_w = embeddings_wd @ encoder.embed_texts([text])[0]
            found |= {known[place] for place in np.flatnonzero(cosines_w >= least)}
        return frozenset(found)

    return meaning


def _all_words(bench: Bench) -> list[str]:
    path = bench.inputs.config.propose.vocabulary
    if path != "auto":
        return list(dict.fromkeys(_read(Path(path))))
    annotated = (concept.name for concept in bench.inputs.probe.concepts)
    return list(dict.fromkeys([*annotated, *bench.inputs.encoder.vocabulary]))


def _read(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"propose.vocabulary: {path} is not a readable text file.") from None
    words = [line.strip() for line in lines if line.strip()]
    if not words:
        raise ConfigError(f"propose.vocabulary: {path} has no words; write one label a line.")
    return words
