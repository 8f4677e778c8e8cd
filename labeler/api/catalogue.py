"""`Catalogue`: a labelled neuron catalogue, opened for reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, get_args

from labeler.api.hits import FoundImage, SearchHit, SimilarUnit, TopImage
from labeler.catalogue import CatalogueStore, ListedUnit, Selection
from labeler.errors import CatalogueError, EncoderError, LabelerError, RunError, UnknownNameError
from labeler.records import KINDS, TRUSTS, VERDICTS, UnitId, UnitRecord

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from labeler.pipeline.retrieval import Retrieval

Likeness = Literal["exemplars", "activations"]
_WORDS = 1000  # labels that a search by words looks at, best first


class Filters(TypedDict, total=False):
    """Which units; a filter that is left out, or None, lets all of them through."""

    layer: str | None
    """Units of this layer."""
    verdict: str | None
    """Units with this verdict (`labeler.records.VERDICTS`)."""
    trust: str | None
    """Units whose synthetic picture has this trust, e.g. ``supports``."""
    kind: str | None
    """Units with an accepted label of this kind, e.g. ``texture``."""
    probability: float | None
    """Units with an accepted label (of `kind`) at least so probable, in [0, 1]; those without any
    probability are left out."""


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
        self._labels: tuple[int, list[str], NDArray[np.float32]] | None = None

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
        """The whole record of one unit: its verdict, and everything that led to it.

        Raises:
            UsageError: when `unit` is a text of another form than ``layer:index`` or ``layer:index-``.
            CatalogueError: when the catalogue has no such unit.
        """
        return self._store.unit(_unit_id(unit))

    def __iter__(self) -> Iterator[UnitRecord]:
        """All records by layer and index, a few hundred in memory at a time."""
        return self._store.units()

    def __len__(self) -> int:
        """How many units have a verdict."""
        return sum(self._store.counts().values())

    def units(
        self, *, limit: int | None = None, offset: int = 0, **wanted: Unpack[Filters]
    ) -> list[UnitRecord]:
        """Whole records by layer and index, filtered in the database.

        A record is some 30 KB; of many units ask `listed`, or `iterate`.

        Args:
            limit: at most so many.
            offset: leave out so many at the beginning.
            wanted: see `Filters`.

        Raises:
            UnknownNameError: for a layer that the catalogue does not have, or another name that there is not.
        """
        return list(self._store.units(self._selection(wanted), limit, offset))

    def iterate(self, **wanted: Unpack[Filters]) -> Iterator[UnitRecord]:
        """The records of `units` one by one, a few hundred in memory at a time.

        Raises:
            UnknownNameError: as `units`.
        """
        return self._store.units(self._selection(wanted))

    def listed(
        self, *, limit: int | None = None, offset: int = 0, **wanted: Unpack[Filters]
    ) -> list[ListedUnit]:
        """The same units as `units`, without the evidence: verdicts, labels and trust, of 100,000 at once.

        Raises:
            UnknownNameError: as `units`.
        """
        return list(self._store.listed(self._selection(wanted), limit, offset))

    def _selection(self, wanted: Filters) -> Selection:
        selection = Selection(**wanted)
        layers = self._store.layers()
        named = {
            "layer": (selection.layer if layers else None, layers),
            "verdict": (selection.verdict, VERDICTS),
            "trust": (selection.trust, TRUSTS),
            "kind": (selection.kind, KINDS),
        }
        for what, (name, known) in named.items():
            if name is not None and name not in known:
                raise UnknownNameError(what, name, known)
        return selection

    def counts(self) -> dict[tuple[str, str], int]:
        """Number of units by (layer, verdict); pairs that do not occur are left out."""
        return self._store.counts()

    def note(self, key: str) -> str | None:
        """What the run stored about itself under `key` (JSON), e.g. ``gate``; None when nothing."""
        return self._store.meta(key)

    def search(self, text: str, k: int = 10) -> list[SearchHit]:
        """The `k` units whose accepted labels are nearest to `text`, best first.

        By the cosine of text embeddings where the run's encoder is to be had and knows the text; otherwise,
        and for labels that have no embedding, by words (SQLite's FTS5: all of them, or words that begin so),
        which score 1. `search_method` then says which, and why. Units of one label come by layer and index.
        The encoder is loaded by the first search, which takes seconds.

        Args:
            text: a few words.
            k: how many units at most.

        Raises:
            RunError: when the catalogue cannot be read.
        """
        scores = self._scores(text, max(k, 0))
        hits: list[SearchHit] = []
        for label in sorted(scores, key=lambda label: (-scores[label], label)):
            units = self._store.labelled_units(label, k - len(hits))
            hits += [SearchHit(unit, label, scores[label]) for unit in units]
            if len(hits) >= k:
                break
        return hits[: max(k, 0)]

    def _scores(self, text: str, k: int) -> dict[str, float]:
        """Labels that may be among the `k` units searched for, with their scores."""
        by_words = dict.fromkeys(self._store.find_words(text, _WORDS), 1.0)
        if self._labels is None or self._labels[0] != self._store.version():
            self._labels = (self._store.version(), *self._store.label_embeddings())
        _, labels, vectors_td = self._labels
        if not labels:
            self.search_method = "words (there are no label embeddings)"
            return by_words
        try:
            cosines_t = vectors_td @ self._retrieval_of_run().embed_text(text)
        except (EncoderError, RunError) as error:  # a catalogue without its run's files can be searched too
            self.search_method = f"words ({str(error).rstrip('.')})"
            return by_words
        known = set(labels)
        unknown = {label: score for label, score in by_words.items() if label not in known}
        self.search_method = "text embeddings" + (", and words where a label has none" if unknown else "")
        best = (-cosines_t).argsort(kind="stable")[:k].tolist()
        return unknown | {labels[place]: float(cosines_t[place]) for place in best}

    def units_like(
        self, unit: str | UnitId | tuple[str, int], k: int = 10, *, by: Likeness = "exemplars"
    ) -> list[SimilarUnit]:
        """The `k` other units of the run that are most like one, nearest first.

        Args:
            unit: the unit.
            k: how many.
            by: ``exemplars`` compares what the units' strongest images show (cosine of the mean embeddings of
                their activating regions in the run's encoder, centred over the run's units);
                ``activations`` compares how they fire (Pearson's r of their spatial maxima over the indexed
                images), which finds duplicates.

        Raises:
            CatalogueError: when there is no such unit, or the run has nothing to compare it by.
        """
        from labeler.pipeline.unit_vectors import similar_units

        asked = self[unit].id
        if by == "activations":
            others = [UnitId.parse(row.unit) for row in self._store.listed()]
            found = self._retrieval_of_run().correlated_units(asked, others, k)
        elif by == "exemplars":
            found = similar_units(self.directory, asked, k)
        else:
            raise UnknownNameError("likeness", by, get_args(Likeness))
        return [
            SimilarUnit(str(other), score, tuple(label.text for label in self._store.unit(other).labels))
            for other, score in found
        ]

    def top_images(
        self,
        unit: str | UnitId | tuple[str, int] | None = None,
        *,
        layer: str | None = None,
        direction: NDArray[np.float32] | Sequence[float] | None = None,
        k: int = 9,
    ) -> list[TopImage]:
        """The `k` probe images that activate a unit, or a direction in a layer, most; strongest first.

        A unit is answered by its spatial maximum, exactly: up to `activations.top_k` images come from the
        pass, more from the images that are indexed. A direction is answered by the spatial mean, over the
        images that are indexed: the maximum of a sum is not the sum of maxima. Activations are in the units
        of the layer's own output.

        Args:
            unit: a unit, with nothing else.
            layer: the layer in whose space `direction` lies.
            direction: finite numbers ``(u,)``, a weight for each of the layer's units; its length matters to
                the values, not to the order.
            k: how many images.

        Raises:
            CatalogueError: when neither a unit nor a layer with a direction is given, or shapes differ.
            UnknownNameError: when the run has no such layer.
            RunError: when the run keeps no activations.
        """
        retrieval = self._retrieval_of_run()
        if unit is not None and layer is None and direction is None:
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
            UnreadableImageError: when it is a file that cannot be decoded.
            EncoderError: when a file has to be embedded and the run's encoder is not to be had.
            RunError: when the run keeps no activations.
        """
        found = self._retrieval_of_run().images_like(str(image), k, layer)
        return [FoundImage(path, score) for path, score in found]

    def images_for_text(self, text: str, k: int = 9) -> list[FoundImage]:
        """The `k` probe images nearest to `text` by the encoder's embeddings, nearest first.

        Raises:
            EncoderError: when the run's encoder is not to be had, or cannot know the text.
            RunError: when the run keeps no embeddings.
        """
        return [FoundImage(path, score) for path, score in self._retrieval_of_run().images_for_text(text, k)]

    def to_pandas(self) -> pd.DataFrame:
        """One row per unit, by layer and index.

        Columns: unit, layer, index, name, verdict, labels (joined by ``; ``), kinds (alike), score and
        probability (of the best label, in [0, 1], NaN where there is none), trust, coverage (in [0, 1], NaN
        where it is not known), reason.

        Raises:
            LabelerError: when pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise LabelerError("to_pandas needs pandas: pip install pandas.") from None
        table = pd.DataFrame([_flat(row) for row in self._store.listed()], columns=list(_FLAT))
        return table.astype({name: kind for name, kind in _FLAT.items() if kind != "object"})

    def to_arrow(self, *, evidence: bool = False) -> pa.Table:
        """One row per unit, by layer and index, with its labels nested.

        Args:
            evidence: with the checks of every label, refused candidates, and the paths of the strongest
                images: the columns of ``labeler export --format parquet``.
        """
        import pyarrow as pa

        from labeler.catalogue.tables import light_table, whole_batches, whole_schema

        if evidence:
            return pa.Table.from_batches(whole_batches(self._store.units()), whole_schema())
        return light_table(self._store.listed())

    def export(self, out: str | Path, to: str = "parquet") -> list[Path]:
        """Write the catalogue to files for others; what was written. See `labeler.catalogue.export`.

        Args:
            out: the file, or for ``neuronpedia`` the directory.
            to: ``parquet``, ``csv``, ``jsonl`` or ``neuronpedia``.

        Raises:
            UnknownNameError: when there is no such format.
            RunError: when the place is taken by something that is not an export.
        """
        from labeler.catalogue.export import export
        from labeler.run_directory import read_run

        return export(self._store, read_run(self.directory), to, Path(out))

    def _retrieval_of_run(self) -> Retrieval:
        if self._retrieval is None:
            from labeler.pipeline.retrieval import Retrieval

            self._retrieval = Retrieval.open(self.directory)
        return self._retrieval


# A column that is empty throughout would be one of objects, and a table without units would have no columns.
_FLAT = {
    "unit": "object", "layer": "object", "index": "int64", "name": "object", "verdict": "object",
    "labels": "object", "kinds": "object", "score": "float64", "probability": "float64", "trust": "object",
    "coverage": "float64", "reason": "object",
}  # fmt: skip


def _unit_id(unit: str | UnitId | tuple[str, int]) -> UnitId:
    if isinstance(unit, UnitId):
        return unit
    return UnitId.parse(unit) if isinstance(unit, str) else UnitId(*unit)


def _flat(row: ListedUnit) -> dict[str, Any]:
    return {
        "unit": row.unit,
        "layer": row.layer,
        "index": row.index,
        "name": row.name,
        "verdict": row.verdict,
        "labels": row.text,
        "kinds": "; ".join(label.kind for label in row.labels),
        "score": max((label.score for label in row.labels if label.score is not None), default=None),
        "probability": max(
            (label.probability for label in row.labels if label.probability is not None), default=None
        ),
        "trust": row.trust,
        "coverage": row.coverage,
        "reason": row.reason,
    }
