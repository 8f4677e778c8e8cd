"""The activation engine: one pass over the probe, exact and mergeable, and what its result can answer."""

from labeler.activations.extract import run_pass, run_shard
from labeler.activations.index import ActivationIndex, EmbeddingIndex
from labeler.activations.revisit import image_maps, unit_maps
from labeler.activations.sample import BANDS, sample_bands
from labeler.activations.shards import PassShard, merge_shards
from labeler.activations.store import Activations, LayerActivations

__all__ = [
    "BANDS",
    "ActivationIndex",
    "Activations",
    "EmbeddingIndex",
    "LayerActivations",
    "PassShard",
    "image_maps",
    "merge_shards",
    "run_pass",
    "run_shard",
    "sample_bands",
    "unit_maps",
]
