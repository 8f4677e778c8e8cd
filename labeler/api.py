"""What Python users hold: `run` and `Catalogue`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labeler.catalogue import CatalogueStore
from labeler.config import Config
from labeler.config_file import load_config
from labeler.errors import CatalogueError, EncoderError, LabelerError, UnknownNameError, UsageError
from labeler.records import VERDICTS, UnitId, UnitRecord

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from labeler.pipeline.progress import Reporter
    from labeler.pipeline.retrieval import Retrieval


@dataclass(frozen=True)
class SearchHit:
    """One unit found by `Catalogue.search`; `score` is a cosine in [-1, 1], or 1 for a match of words."""

    unit: str
    label: str
    score: float


@dataclass(frozen=True)
class TopImage:
    """One probe image and the unit's (or direction's) pooled activation on it."""

    image: str
    activation: float


@dataclass(frozen=True)
class FoundImage:
    """One probe image found by a text or another image; `score` is a cosine in [-1, 1]."""

    image: str
    score: float


def run(
    config: str | Path | Config,
    out: str | Path,
    *,
    units: Sequence[str] = (),
    overrides: Sequence[str] = (),
    trust_code: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Catalogue:
    """Label the units of a network and return the catalogue.

    Running again with the same arguments goes on where an earlier run stopped.

    Args:
        config: a YAML file or a `Config`.
        out: the run directory; made when missing.
        units: restrict to units written as ``layer:0-63,80``.
        overrides: ``key=value`` pairs that replace values of the YAML file.
        trust_code: the Python file that a ``file:`` target may execute.
        reporter: where progress is shown; nowhere by default.

    Raises:
        LabelerError: one sentence that says what to do.
    """
    if isinstance(config, Config) and overrides:
        raise UsageError("overrides replace values of a YAML file; change the Config itself with model_copy.")
    from labeler.pipeline import run_pipeline

    loaded = config if isinstance(config, Config) else load_config(config, tuple(overrides))
    run_pipeline(
        loaded,
        Path(out),
        units=tuple(units),
        trust_code=Path(trust_code) if trust_code is not None else None,
        reporter=reporter,
    )
    return Catalogue.open(out)


class Catalogue:
    """A labelled neuron catalogue, read-only.

    ``cat["layer", 3]`` and ``cat["layer:3"]`` are unit records; iterating gives all of them by layer and
    index. Use it as a context manager, or call `close`.
    """

    def __init__(self, directory: Path, store: CatalogueStore) -> None:
        self.directory = directory
        self.search_method = ""
        self._store = store
        self._retrieval: Retrieval | None = None

    @classmethod
    def open(cls, directory: str | Path) -> Catalogue:
        """Open the catalogue of a run directory.

        Raises:
            RunError: when there is none, or it cannot be read.
        """
        directory = Path(directory)
        return cls(directory, CatalogueStore(directory / "catalogue.db", read_only=True))

    def close(self) -> None:
        """Close the database."""
        self._store.close()

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getitem__(self, unit: str | UnitId | tuple[str, int]) -> UnitRecord:
        return self._store.unit(_unit_id(unit))

    def __iter__(self) -> Iterator[UnitRecord]:
        return self._store.units()

    def __len__(self) -> int:
        return sum(self._store.counts().values())

    def units(
        self,
        *,
        layer: str | None = None,
        verdict: str | None = None,
        trust: str | None = None,
        kind: str | None = None,
    ) -> list[UnitRecord]:
        """Records by layer and index, filtered by layer, verdict, trust in the picture, or kind of label.

        Raises:
            UnknownNameError: for a layer that the catalogue does not have, or a verdict that there is not.
        """
        layers = {name for name, _ in self._store.counts()}
        if layer is not None and layers and layer not in layers:
            raise UnknownNameError("layer", layer, layers)
        if verdict is not None and verdict not in VERDICTS:
            raise UnknownNameError("verdict", verdict, VERDICTS)
        found = self._store.units(layer=layer, verdict=verdict, trust=trust)
        return [record for record in found if kind is None or any(la.kind == kind for la in record.labels)]

    def counts(self) -> dict[tuple[str, str], int]:
        """Number of units by (layer, verdict)."""
        return self._store.counts()

    def note(self, key: str) -> str | None:
        """What the run stored about itself under `key` (JSON), e.g. ``gate``; None when nothing."""
        return self._store.meta(key)

    def search(self, text: str, k: int = 10) -> list[SearchHit]:
        """The `k` units whose accepted labels are nearest to `text`.

        Compares text embeddings where the run's encoder is to be had and knows the text, else the words;
        `search_method` then says which and why.
        """
        texts, vectors = self._store.label_embeddings()
        scores: dict[str, float] = {}
        if texts:
            try:
                query = self._retrieval_of_run().embed_text(text)
                accepted = set(self._store.label_texts())
                found = zip(texts, vectors @ query, strict=True)
                scores = {name: float(score) for name, score in found if name in accepted}
                self.search_method = "text embeddings"
            except EncoderError as error:
                self.search_method = f"words ({error})"
        if not scores:
            self.search_method = self.search_method or "words (there are no label embeddings)"
            asked = text.casefold()
            scores = {name: 1.0 for name in self._store.label_texts() if asked in name.casefold()}
        best = sorted(scores, key=lambda name: (-scores[name], name))[: max(k, 0)]
        rank = {name: position for position, name in enumerate(best)}
        units = sorted(self._store.labelled_units(best), key=lambda row: rank[row[1]])
        return [SearchHit(unit, name, scores[name]) for unit, name in units[:k]]

    def top_images(
        self,
        unit: str | UnitId | tuple[str, int] | None = None,
        *,
        layer: str | None = None,
        direction: NDArray[np.float32] | Sequence[float] | None = None,
        k: int = 9,
    ) -> list[TopImage]:
        """The `k` probe images that activate a unit, or a direction in a layer, most; strongest first.

        A unit is answered exactly by its spatial maximum. A direction (one weight per unit of `layer`) is
        answered by the spatial mean: the maximum of a sum is not the sum of maxima.

        Raises:
            CatalogueError: when neither a unit nor a layer with a direction is given, or shapes differ.
        """
        retrieval = self._retrieval_of_run()
        if unit is not None and direction is None:
            found = retrieval.top_by_unit(_unit_id(unit), k)
        elif unit is None and layer is not None and direction is not None:
            found = retrieval.top_by_direction(layer, direction, k)
        else:
            raise CatalogueError("Give top_images either a unit, or layer= and direction= together.")
        return [TopImage(path, activation) for path, activation in found]

    def images_like(self, image: str | Path, k: int = 9, *, layer: str | None = None) -> list[FoundImage]:
        """The `k` probe images most like one image, itself left out; nearest first.

        Without `layer` images are compared by the encoder's embeddings, and `image` may be any image file.
        With `layer` they are compared by the spatial maxima of the layer's units (cosine): images that
        activate like this one. Over the images that are indexed (`activations.memory_gb`).

        Args:
            image: a path as `top_images` gives it, or an image file.
            k: how many.
            layer: compare by this layer's activations; `image` is then an image of the probe.

        Raises:
            CatalogueError: when there is no such image, or the layer's index does not have it.
        """
        found = self._retrieval_of_run().images_like(str(image), k, layer)
        return [FoundImage(path, score) for path, score in found]

    def images_for_text(self, text: str, k: int = 9) -> list[FoundImage]:
        """The `k` probe images nearest to `text` by the encoder's embeddings, nearest first.

        Raises:
            EncoderError: when the run's encoder is not to be had, or cannot know the text.
        """
        return [FoundImage(path, score) for path, score in self._retrieval_of_run().images_for_text(text, k)]

    def to_pandas(self) -> pd.DataFrame:
        """One row per unit: unit, layer, index, verdict, labels, score, trust, coverage, reason.

        Raises:
            LabelerError: when pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise LabelerError("to_pandas needs pandas: pip install pandas.") from None
        return pd.DataFrame([_flat(record) for record in self])

    def _retrieval_of_run(self) -> Retrieval:
        if self._retrieval is None:
            from labeler.pipeline.retrieval import Retrieval

            self._retrieval = Retrieval.open(self.directory)
        return self._retrieval


def _unit_id(unit: str | UnitId | tuple[str, int]) -> UnitId:
    if isinstance(unit, UnitId):
        return unit
    return UnitId.parse(unit) if isinstance(unit, str) else UnitId(*unit)


def _flat(record: UnitRecord) -> dict[str, Any]:
    return {
        "unit": record.unit,
        "layer": record.layer,
        "index": record.index,
        "verdict": record.verdict,
        "labels": "; ".join(label.text for label in record.labels),
        "score": max((label.score for label in record.labels if label.score is not None), default=None),
        "trust": record.trust.verdict,
        "coverage": record.coverage,
        "reason": record.reason,
    }
