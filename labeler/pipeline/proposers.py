"""The chain of proposers that a config asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from labeler.baselines.invert import auroc
from labeler.catalogue import CatalogueStore
from labeler.config import Config
from labeler.errors import ConfigError
from labeler.pipeline.bench import Bench, by_layer
from labeler.pipeline.evidence import embeddings_of
from labeler.propose.annotated import AnnotatedProposer
from labeler.propose.vlm import VlmProposer
from labeler.propose.vocabulary import VocabularyProposer, VocabularySettings
from labeler.records import KINDS, Kind, UnitId
from labeler.seams import Proposer
from labeler.storage import hash_order

REFERENCE_UNITS = 128
"""Units per layer in SoftWPMI's fixed reference set; hash-chosen, so that no label depends on `--units`."""


def checked_endpoint(config: Config) -> Config:
    """The config with the endpoint's address as it may be stored; a missing key is found before the work.

    Raises:
        EndpointError: when the endpoint needs a key and there is none, or its address cannot be used.
    """
    settings = config.propose
    if "vlm" not in settings.kind:
        return config
    address = VlmProposer(settings).base_url
    return config.model_copy(update={"propose": settings.model_copy(update={"base_url": address})})


def make_proposers(bench: Bench, store: CatalogueStore) -> list[Proposer]:
    """One proposer for each name in ``propose.kind``, in order.

    Raises:
        ConfigError: when the vocabulary file is missing or empty.
        EndpointError: when the endpoint needs a key and there is none.
    """
    settings = bench.inputs.config.propose
    makers: dict[str, Callable[[], Proposer]] = {
        "vlm": lambda: VlmProposer(settings, store),
        "vocabulary": lambda: _vocabulary(bench),
        "annotations": lambda: _annotated(bench),
    }
    return [makers[kind]() for kind in settings.kind]


def vocabulary(bench: Bench) -> dict[str, Kind]:
    """The words that the `vocabulary` proposer chooses from, with their kinds."""
    path = bench.inputs.config.propose.vocabulary
    kinds = {concept.name: _kind(concept.category) for concept in bench.inputs.probe.concepts}
    if path == "auto":
        words: Sequence[str] = [*kinds, *bench.inputs.encoder.vocabulary]
    else:
        words = _read(Path(path))
    known = [word for word in dict.fromkeys(words) if bench.inputs.encoder.covers(word)]
    if not known:
        raise ConfigError(
            f"{bench.inputs.encoder.name} knows no word of the vocabulary; set propose.vocabulary to a text"
            " file with one label a line."
        )
    return {word: kinds.get(word, "other") for word in known}


def _vocabulary(bench: Bench) -> VocabularyProposer:
    kinds = vocabulary(bench)
    encoder = bench.inputs.encoder
    embeddings_nd = embeddings_of(bench.activations, encoder.name)
    return VocabularyProposer(
        list(kinds),
        kinds,
        encoder.embed_texts,
        embeddings_nd,
        np.arange(len(embeddings_nd), dtype=np.int64),
        _reference(bench),
        VocabularySettings(candidates=bench.inputs.config.propose.candidates),
    )


def _annotated(bench: Bench) -> AnnotatedProposer:
    """Concepts ranked by AUROC on `propose`, less their median over the layer.

    Less the median, since what half of a layer ranks well says little about this unit.
    """
    concepts, settings = bench.inputs.probe.concepts, bench.inputs.config
    if not concepts:
        raise ConfigError(
            "propose.kind annotations needs a probe with annotated concepts, such as coco_panoptic."
        )
    rankings = {}
    for side, units in by_layer(bench.inputs.units).items():
        data = bench.layer_data(side, "propose")
        areas_nc = np.asarray(bench.activations.areas[data.image_ids_n])
        presence_nc = np.where(np.isnan(areas_nc), np.nan, areas_nc >= settings.checks.presence_area)
        presence_nc[:, np.nansum(presence_nc, axis=0) < settings.checks.min_concept_images] = np.nan
        found_uc = auroc(torch.from_numpy(data.activations_nu), torch.from_numpy(presence_nc)).numpy()
        known = np.flatnonzero(~np.isnan(found_uc).all(axis=0))
        lead_uc = found_uc[:, known] - np.median(found_uc[:, known], axis=0)
        for unit in units:
            if unit.index in data.position:
                order = known[np.argsort(-lead_uc[data.position[unit.index]], kind="stable")]
                rankings[unit] = [(concepts[c].name, _kind(concepts[c].category)) for c in order.tolist()]
    return AnnotatedProposer(rankings, settings.propose.candidates)


def _reference(bench: Bench) -> NDArray[np.int64]:
    """Exemplar ids ``(r, k)`` of the reference units on the `propose` split, -1 where there are fewer."""
    count = bench.inputs.config.exemplars.considered
    rows = []
    for layer in bench.inputs.target.layers:
        if UnitId.of_side(layer, 0).negative:
            continue  # so that no label depends on whether negative sides are asked for
        units = bench.live_units(layer).tolist()
        order = hash_order(units, bench.inputs.config.seed, f"reference units of {layer}")
        for position in order[:REFERENCE_UNITS]:
            unit = UnitId(layer, units[position])
            ids, _ = bench.evidence.top_images(bench.activations, unit, "propose", count)
            rows.append(np.pad(ids, (0, count - len(ids)), constant_values=-1))
    return np.stack(rows) if rows else np.zeros((0, count), np.int64)


def _kind(category: str) -> Kind:
    return next((kind for kind in KINDS if kind == category), "other")


def _read(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"propose.vocabulary: {path} is not a readable text file.") from None
    words = [line.strip() for line in lines if line.strip()]
    if not words:
        raise ConfigError(f"propose.vocabulary: {path} has no words; write one label a line.")
    return words
