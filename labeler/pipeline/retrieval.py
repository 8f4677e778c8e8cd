"""Questions to a finished run: images for a unit, a direction, an image or a text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from labeler.activations import ActivationIndex, Activations, EmbeddingIndex, LayerActivations
from labeler.config import Config
from labeler.encoders import load_encoder
from labeler.errors import CatalogueError, EncoderError, MissingExtraError, RunError, UnknownNameError
from labeler.pipeline.pass_stage import IMAGES, encoder_embeddings, find_index, index_directory
from labeler.probes.decode import decode_image
from labeler.records import UnitId
from labeler.run_directory import read_run
from labeler.seams import Encoder
from labeler.storage import MANIFEST

if TYPE_CHECKING:
    from numpy.typing import NDArray


_COLUMNS = 1024  # units whose activations are in memory at once


class Retrieval:
    """Reads the activations stage of a run, and its index stage with memory mapping where there is one.

    The encoder is loaded when a text, or an image that is not of the probe, is asked for.
    """

    def __init__(
        self, config: Config, activations: Activations, paths: Sequence[str], index: Path | None = None
    ) -> None:
        self._config = config
        self._activations = activations
        self._paths = paths
        self._index_stage = index
        self._encoder: Encoder | None = None
        self._indexes: dict[str, ActivationIndex] = {}
        self._images: EmbeddingIndex | None = None

    @classmethod
    def open(cls, run: Path) -> Retrieval:
        """Open the activations of a run directory.

        Raises:
            RunError: when the run has no finished activations.
        """
        config = Config.model_validate(read_run(run)["config"])
        found = sorted((run / "stages").glob(f"activations-????????????/{MANIFEST}"))
        if not found:
            raise RunError(f"{run} has no finished activations; go on with: labeler run CONFIG --out {run}.")
        directory = found[-1].parent
        paths = json.loads((directory / IMAGES).read_text())
        key = json.loads(found[-1].read_text())["fingerprint"]
        return cls(config, Activations.load(directory), paths, find_index(run, key))

    def embed_text(self, text: str) -> NDArray[np.float32]:
        """The encoder's unit-norm embedding ``(dim,)`` of a text.

        Raises:
            EncoderError: when the encoder is not to be had, or cannot know the text.
        """
        encoder = self._loaded_encoder()
        if not encoder.covers(text):
            raise EncoderError(f"{encoder.name} does not know {text!r}")
        vector: NDArray[np.float32] = encoder.embed_texts([text])[0]
        return vector

    def images_for_text(self, text: str, k: int) -> list[tuple[str, float]]:
        """Paths and cosines of the `k` images nearest to a text in the encoder's space, nearest first.

        Raises:
            EncoderError: when the encoder is not to be had, or cannot know the text.
        """
        return self._named(*self._image_index().search(self.embed_text(text), k))

    def images_like(self, image: str, k: int, layer: str | None = None) -> list[tuple[str, float]]:
        """Paths and cosines of the `k` other images most like one: in the encoder's space, or in `layer`.

        Args:
            image: a path as the catalogue prints it, or, without `layer`, an image file.
            k: how many.
            layer: compare the maxima of this layer's units: images that activate like this one.

        Raises:
            CatalogueError: when there is no such image, or it is not in the index of `layer`.
            UnreadableImageError: when it is a file that cannot be decoded.
        """
        known = self._paths.index(image) if image in self._paths else None
        if layer is not None:
            self._layer(layer)
            if known is None:
                raise CatalogueError(f"{image} is not an image of the probe, so {layer} has not seen it.")
            return self._named(*self._index(layer).similar_images(known, k))
        if known is None:
            return self._named(*self._image_index().search(self._embed_file(Path(image)), k))
        embedding = np.array(encoder_embeddings(self._activations)[known])
        if not embedding.any():
            raise CatalogueError(f"{image} could not be read in the pass; ask for another image.")
        cosines, ids = self._image_index().search(embedding, k + 1)
        others = ids != known
        return self._named(cosines[others][:k], ids[others][:k])

    def correlated_units(self, unit: UnitId, others: Sequence[UnitId], k: int) -> list[tuple[UnitId, float]]:
        """The `k` of `others` whose spatial maxima go with those of `unit`, with Pearson's r, greatest first.

        Over the images that are indexed; a unit that gives the same on all of them is left out.
        """
        known = self._layer(unit.side)
        if not 0 <= unit.index < known.maxima.shape[1]:
            raise CatalogueError(f"Layer {unit.side} has units 0 to {known.maxima.shape[1] - 1}.")
        own_n = _standard(np.asarray(known.maxima[:, [unit.index]]))[:, 0]
        by_side: dict[str, list[UnitId]] = {}
        for other in others:
            if other != unit:
                by_side.setdefault(other.side, []).append(other)
        found: list[tuple[UnitId, float]] = []
        for side, units in by_side.items():
            maxima = self._layer(side).maxima
            for start in range(0, len(units), _COLUMNS):
                part = units[start : start + _COLUMNS]
                r_u = own_n @ _standard(maxima[:, [other.index for other in part]])
                found += zip(part, r_u.tolist(), strict=True)
        found = [(other, r) for other, r in found if np.isfinite(r)]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:k]

    def top_by_unit(self, unit: UnitId, k: int) -> list[tuple[str, float]]:
        """Paths and pooled maxima of the `k` images that activate a unit most, strongest first."""
        layer = self._layer(unit.side)
        if not 0 <= unit.index < layer.topk_ids.shape[0]:
            raise CatalogueError(f"Layer {unit.side} has units 0 to {layer.topk_ids.shape[0] - 1}.")
        values, ids = layer.topk_values[unit.index], layer.topk_ids[unit.index]
        if k > len(ids):
            values, ids = self._index(unit.side).top_by_unit(unit.index, k)
        return self._named(values[:k], ids[:k])

    def top_by_direction(
        self, layer: str, direction: NDArray[np.float32] | Sequence[float], k: int
    ) -> list[tuple[str, float]]:
        """Paths and mean-pooled responses of the `k` images strongest along a direction, strongest first."""
        width = self._layer(layer).topk_ids.shape[0]
        needs = f"A direction in {layer} needs {width} finite numbers"
        try:
            weights_u = np.asarray(direction, dtype=np.float32).reshape(-1)
        except (TypeError, ValueError):
            raise CatalogueError(f"{needs}, nothing else.") from None
        if weights_u.shape != (width,) or not np.isfinite(weights_u).all():
            finite = int(np.isfinite(weights_u).sum())
            raise CatalogueError(f"{needs}, not {finite}.")
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
            found, number = self._activations, list(self._activations.layers).index(layer)
            stored = None if self._index_stage is None else index_directory(self._index_stage, number)
            self._indexes[layer] = ActivationIndex(
                self._layer(layer), found.indexed_ids, found.coverage, stored
            )
        return self._indexes[layer]

    def _image_index(self) -> EmbeddingIndex:
        if self._images is None:
            embeddings_nd = encoder_embeddings(self._activations)
            self._images = EmbeddingIndex(embeddings_nd, np.arange(len(embeddings_nd)), self._index_stage)
        return self._images

    def _embed_file(self, path: Path) -> NDArray[np.float32]:
        if not path.is_file():
            raise CatalogueError(f"{path} is neither an image of the probe nor a file.")
        encoder = self._loaded_encoder()
        image = decode_image(path, str(path))
        vector: NDArray[np.float32] = encoder.embed_images(encoder.prepare(image)[None])[0]
        return vector

    def _loaded_encoder(self) -> Encoder:
        if self._encoder is None:
            try:
                self._encoder = load_encoder(self._config.encoder.model)
            except MissingExtraError as error:
                raise EncoderError(str(error)) from None
        return self._encoder


def _standard(values_nu: NDArray[np.float32]) -> NDArray[np.float64]:
    """Columns centred and of unit norm; NaN where a column does not change."""
    centred_nu = values_nu.astype(np.float64) - values_nu.mean(axis=0, dtype=np.float64)
    norms_u = np.linalg.norm(centred_nu, axis=0)
    standard: NDArray[np.float64] = centred_nu / np.where(norms_u > 1e-12, norms_u, np.nan)
    return standard
