"""Questions to a finished run: images for a unit or a direction, texts in the encoder's space."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from labeler.activations import ActivationIndex, Activations, LayerActivations
from labeler.config import Config
from labeler.encoders import load_encoder
from labeler.errors import CatalogueError, EncoderError, MissingExtraError, RunError, UnknownNameError
from labeler.pipeline.inputs import read_run
from labeler.records import UnitId
from labeler.seams import Encoder

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Retrieval:
    """Reads the activations stage of a run; the encoder is loaded when a text is asked for."""

    def __init__(self, config: Config, activations: Activations, paths: Sequence[str]) -> None:
        self._config = config
        self._activations = activations
        self._paths = paths
        self._encoder: Encoder | None = None
        self._indexes: dict[str, ActivationIndex] = {}

    @classmethod
    def open(cls, run: Path) -> Retrieval:
        """Open the activations of a run directory.

        Raises:
            RunError: when the run has no finished activations.
        """
        config = Config.model_validate(read_run(run)["config"])
        found = sorted((run / "stages").glob("activations-????????????/manifest.json"))
        if not found:
            raise RunError(f"{run} has no finished activations; go on with: labeler run CONFIG --out {run}.")
        directory = found[-1].parent
        paths = json.loads((directory / "images.json").read_text())
        return cls(config, Activations.load(directory), paths)

    def embed_text(self, text: str) -> NDArray[np.float32]:
        """The encoder's unit-norm embedding ``(dim,)`` of a text.

        Raises:
            EncoderError: when the encoder is not to be had, or cannot know the text.
        """
        if self._encoder is None:
            try:
                self._encoder = load_encoder(self._config.encoder.model)
            except MissingExtraError as error:
                raise EncoderError(str(error)) from None
        if not self._encoder.covers(text):
            raise EncoderError(f"{self._encoder.name} does not know {text!r}")
        vector: NDArray[np.float32] = self._encoder.embed_texts([text])[0]
        return vector

    def top_by_unit(self, unit: UnitId, k: int) -> list[tuple[str, float]]:
        """Paths and pooled maxima of the `k` images that activate a unit most, strongest first."""
        layer = self._layer(unit.layer)
        if not 0 <= unit.index < layer.topk_ids.shape[0]:
            raise CatalogueError(f"Layer {unit.layer} has units 0 to {layer.topk_ids.shape[0] - 1}.")
        values, ids = layer.topk_values[unit.index], layer.topk_ids[unit.index]
        if k > len(ids):
            values, ids = self._index(unit.layer).top_by_unit(unit.index, k)
        return self._named(values[:k], ids[:k])

    def top_by_direction(
        self, layer: str, direction: NDArray[np.float32] | Sequence[float], k: int
    ) -> list[tuple[str, float]]:
        """Paths and mean-pooled responses of the `k` images strongest along a direction, strongest first."""
        width = self._layer(layer).topk_ids.shape[0]
        weights_u = np.asarray(direction, dtype=np.float32).reshape(-1)
        if weights_u.shape != (width,) or not np.isfinite(weights_u).all():
            raise CatalogueError(
                f"A direction in {layer} needs {width} finite numbers, not {weights_u.shape[0]}."
            )
        return self._named(*self._index(layer).top_by_direction(weights_u, k))

    def _named(self, values: NDArray[np.float32], ids: NDArray[np.int64]) -> list[tuple[str, float]]:
        pairs = zip(ids.tolist(), values.tolist(), strict=True)
        return [(self._paths[image_id], float(value)) for image_id, value in pairs if image_id >= 0]

    def _layer(self, name: str) -> LayerActivations:
        if name not in self._activations.layers:
            raise UnknownNameError("layer", name, self._activations.layers)
        return self._activations.layers[name]

    def _index(self, layer: str) -> ActivationIndex:
        if layer not in self._indexes:
            self._indexes[layer] = ActivationIndex(self._layer(layer), self._activations.indexed_ids)
        return self._indexes[layer]
