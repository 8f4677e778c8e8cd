"""The activations stage, one pass over the probe, and the index stage, FAISS over what the pass left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from labeler.activations import (
    ActivationIndex,
    Activations,
    EmbeddingIndex,
    PassShard,
    merge_shards,
    run_pass,
    run_shard,
)
from labeler.executors import LOCAL
from labeler.pipeline.inputs import Inputs
from labeler.pipeline.spread import Spread
from labeler.probes import concept_areas
from labeler.seams import Executor, Progress
from labeler.storage import fingerprint, stage_directory

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

IMAGES = "images.json"  # the paths of the probe's images by id


def activations_key(inputs: Inputs) -> str:
    """The fingerprint of the activations stage: over everything that the pass depends on."""
    config = inputs.config
    return fingerprint(
        "activations", 1, inputs.key, config.activations.model_dump(), config.checks.iou_grid, config.seed
    )


def activations_stage(
    run: Path, inputs: Inputs, progress: Progress, *, executor: Executor = LOCAL
) -> tuple[Activations, str]:
    """The single pass over the probe, built or loaded, and its fingerprint."""
    config, key, spread = inputs.config, activations_key(inputs), Spread(run, inputs, executor)

    def build(directory: Path) -> None:
        count = spread.count(-(-len(inputs.probe.images) // config.activations.batch_size))
        if executor.here and count == 1:
            made = run_pass(
                inputs.target, inputs.probe, inputs.encoders, config.activations,
                measure=area_measure(inputs), workers=config.executor.workers,
                decoding=config.executor.decoding, seed=config.seed, progress=progress, directory=directory,
            )  # fmt: skip
        else:
            shards = [(number, count) for number in range(count)]
            places = spread.pieces(
                "activations", key, directory, pass_shard, shards, progress, len(inputs.probe.images)
            )
            made = merge_shards([PassShard.load(place) for place in places], directory)
        made.save(directory)
        write_image_paths(directory, inputs)

    return Activations.load(spread.stage("activations", key, build)), key


def pass_shard(inputs: Inputs, shard: tuple[int, int], directory: Path, progress: Progress) -> None:
    """Part i of n of the pass, ``(i, n)`` from 0, into `directory`; see `run_shard`."""
    settings = inputs.config
    made = run_shard(
        inputs.target, inputs.probe, inputs.encoders, settings.activations,
        shard=shard, measure=area_measure(inputs), workers=settings.executor.workers,
        decoding=settings.executor.decoding, seed=settings.seed, progress=progress, directory=directory,
    )  # fmt: skip
    made.save(directory)


def area_measure(inputs: Inputs) -> Callable[[int, Image], NDArray[np.float32]]:
    """What the pass measures beside activations: the share of the view that each concept covers."""
    categories = [concept.category for concept in inputs.probe.concepts]
    grid = inputs.config.checks.iou_grid

    def areas(image_id: int, image: Image) -> NDArray[np.float32]:
        annotation = inputs.probe.annotation(image_id, image)
        return concept_areas(
            annotation, inputs.target.view_box(*image.size), len(categories), categories, grid
        )

    return areas


def write_image_paths(directory: Path, inputs: Inputs) -> None:
    """Write `IMAGES` into a stage directory."""
    (directory / IMAGES).write_text(json.dumps([image.path for image in inputs.probe.images]))


def index_stage(run: Path, activations: Activations, key: str, memory_gb: float) -> Path:
    """FAISS indexes of every layer and of the encoder's embeddings, to be read with memory mapping.

    They are exact (float32) within the budget `memory_gb` (10^9 bytes). Where it holds fewer images than the
    probe has, the layers' are float16; where the embeddings alone exceed it, so is theirs.
    """

    def build(directory: Path) -> None:
        half = activations.coverage < 1
        for number, layer in enumerate(activations.layers.values()):
            index = ActivationIndex(layer, activations.indexed_ids, activations.coverage)
            index.save(index_directory(directory, number), half=half)
        embeddings_nd = encoder_embeddings(activations)
        index_of_images = EmbeddingIndex(embeddings_nd, np.arange(len(embeddings_nd)))
        index_of_images.save(directory, half=embeddings_nd.nbytes > memory_gb * 1e9)

    return stage_directory(run, "index", fingerprint("index", 1, key), build)


def find_index(run: Path, key: str) -> Path | None:
    """The finished index stage that belongs to the activations with fingerprint `key`, if there is one."""
    directory = run / "stages" / f"index-{fingerprint('index', 1, key)[:12]}"
    return directory if directory.is_dir() else None


def index_directory(directory: Path, number: int) -> Path:
    """Where the index of the layer with this number lies in the index stage."""
    return directory / f"layer-{number:03d}"


def encoder_embeddings(activations: Activations) -> NDArray[np.float32]:
    """The embeddings ``(n, dim)`` of the encoder, which the pass puts before those of the judges."""
    return next(iter(activations.embeddings.values()))
