"""The chain of proposers that a config asks for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from labeler.baselines.invert import auroc
from labeler.checks import EncoderJudge, LayerData
from labeler.config import Config
from labeler.errors import ConfigError
from labeler.pipeline.bench import Bench, by_layer
from labeler.pipeline.evidence import embeddings_of
from labeler.pipeline.words import kind_of, vocabulary
from labeler.propose.annotated import AnnotatedProposer
from labeler.propose.compound import CompoundProposer, best_compounds, proposals
from labeler.propose.endpoint import EndpointProposer, Limit, key_of, safe_url
from labeler.propose.endpoint.connect import ENDPOINT_KINDS, make_exchange
from labeler.propose.imported import ImportedProposer
from labeler.propose.vocabulary import VocabularyProposer, VocabularySettings
from labeler.records import Kind, Label, UnitId
from labeler.seams import CallLedger, Proposal, Proposer, Scorer
from labeler.storage import hash_order

SCORED_WORDS = 24
"""Words that `llm` is shown of each facet: enough that a common name shows, few enough to be read."""
REFERENCE_UNITS = 128
"""Units per layer in SoftWPMI's fixed reference set; hash-chosen, so that no label depends on `--units`."""


def checked_endpoint(config: Config) -> Config:
    """The config with the endpoint's address as it may be stored; a missing key is found before the work.

    Raises:
        EndpointError: when the endpoint needs a key and there is none, or its address cannot be used.
    """
    settings = config.propose
    if not asks_a_model(config):
        return config
    address = safe_url(settings.base_url)
    key_of(settings.api_key_env, address)
    return config.model_copy(update={"propose": settings.model_copy(update={"base_url": address})})


def asks_a_model(config: Config) -> bool:
    """Whether a run of this config makes model calls."""
    return any(kind in ENDPOINT_KINDS for kind in config.propose.kind)


def make_proposers(bench: Bench, ledger: CallLedger, limit: Limit | None = None) -> list[Proposer]:
    """One proposer for each name in ``propose.kind``, in order.

    Args:
        bench: what local proposers look at.
        ledger: of the run's model calls.
        limit: what these may take.

    Raises:
        ConfigError: when the vocabulary file is missing or empty.
        EndpointError: when the endpoint needs a key and there is none.
    """
    settings = bench.inputs.config.propose

    def endpoint(scorer: Scorer | None) -> EndpointProposer:
        return EndpointProposer(settings, make_exchange(settings, ledger), ledger, limit, scorer)

    makers: dict[str, Callable[[], Proposer]] = {
        "vlm": lambda: endpoint(None),
        "llm": lambda: endpoint(_scorer(bench)),
        "vocabulary": lambda: _vocabulary(bench),
        "annotations": lambda: _annotated(bench),
        "compounds": lambda: _compounds(bench),
        "imported": lambda: ImportedProposer(bench.inputs.labels.by_unit),
    }
    return [makers[kind]() for kind in settings.kind]


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


def _scorer(bench: Bench) -> Scorer:
    """What a model without eyes is told of a unit: the words that fit its facets best, by SoftWPMI."""
    vocabulary = _vocabulary(bench)
    return lambda evidence: vocabulary.scored(evidence, SCORED_WORDS)


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
                rankings[unit] = [(concepts[c].name, kind_of(concepts[c].category)) for c in order.tolist()]
    return AnnotatedProposer(rankings, settings.propose.candidates)


def _compounds(bench: Bench) -> CompoundProposer:
    """Compounds of annotated concepts where the probe has them, else of the words that the encoder knows."""
    found: dict[UnitId, list[Proposal]] = {}
    count = bench.inputs.config.propose.candidates
    for side, units in by_layer(bench.inputs.units).items():
        data = bench.layer_data(side, "propose")
        words, scores_nt = _word_scores(bench, data)
        live = [unit for unit in units if unit.index in data.position]
        if not live or len(words) < 2:
            continue
        columns = [data.position[unit.index] for unit in live]
        compounds = best_compounds(data.activations_nu[:, columns], scores_nt, keep=count)
        found.update({unit: proposals(compounds, row, words) for row, unit in enumerate(live)})
    return CompoundProposer(found)


def _word_scores(bench: Bench, data: LayerData) -> tuple[list[tuple[str, Kind]], NDArray[np.float32]]:
    """Words with their kinds, and their scores on `propose`, ``(n, t)``."""
    settings, concepts = bench.inputs.config.checks, bench.inputs.probe.concepts
    areas_nc = np.asarray(bench.activations.areas[data.image_ids_n])
    presence_nc = np.where(np.isnan(areas_nc), np.nan, areas_nc >= settings.presence_area).astype(np.float32)
    shown = np.flatnonzero(np.nansum(presence_nc, axis=0) >= settings.min_concept_images)
    if len(shown):
        return [(concepts[c].name, kind_of(concepts[c].category)) for c in shown], presence_nc[:, shown]
    kinds, encoder = vocabulary(bench), bench.inputs.encoder
    reader = EncoderJudge(encoder.name, encoder, embeddings_of(bench.activations, encoder.name))
    read = reader.read([Label(text=word) for word in kinds])
    scores = [(item, r.scores_n) for item, r in zip(kinds.items(), read, strict=True) if r is not None]
    return [item for item, _ in scores], np.stack([s[data.image_ids_n] for _, s in scores], axis=1)


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
