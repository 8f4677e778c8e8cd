"""The checks' side of a run: the judges, and every layer's activations on one split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from labeler.activations import Activations
from labeler.checks import (
    AnnotationJudge,
    Calibration,
    EncoderJudge,
    Gate,
    Judge,
    LayerData,
    NaturalRange,
    Reading,
    enough_images,
    read_label,
    shipped,
    text_similarity,
)
from labeler.errors import ProbeError
from labeler.pipeline.evidence import ProbeEvidence, embeddings_of
from labeler.pipeline.inputs import ANNOTATIONS, Inputs
from labeler.records import ActivationSummary, Label, SplitName, UnitId
from labeler.seams import Encoder
from labeler.storage import hash_order

DEAD = 1e-6  # a unit whose pooled maximum spans less over the probe is dead (DESIGN 2)
_BINS = 40


@dataclass(frozen=True)
class Scouts:
    """One layer on the `propose` images: its live units' pooled maxima ``(m, u)``, and the image ids."""

    activations_mu: NDArray[np.float32]
    image_ids_m: NDArray[np.int64]


@dataclass(frozen=True)
class Bench:
    """What every check of a run looks at."""

    inputs: Inputs
    activations: Activations
    evidence: ProbeEvidence
    own_calibration: Calibration | None = None
    """What a person's answers gave this very run (`labeler judge`)."""

    @cached_property
    def judges(self) -> list[Judge]:
        """The judges in the config's order."""
        seeing = iter(self.inputs.judges)
        return [
            self._annotations() if spec == ANNOTATIONS else self._image_text(next(seeing))
            for spec in self.inputs.config.encoder.judge
        ]

    @cached_property
    def gate(self) -> Gate:
        """The gate of this run; calibrated where the run lies inside the domain of the calibration."""
        inputs = self.inputs
        if self.own_calibration is not None:
            return Gate(inputs.config.gate, True, self.own_calibration)
        calibration = shipped()
        inside = calibration.covers(inputs.target.name, inputs.probe.name, inputs.config.encoder.judge)
        return Gate(inputs.config.gate, inside, calibration)

    def _annotations(self) -> AnnotationJudge:
        settings = self.inputs.config.checks
        return AnnotationJudge(
            self.inputs.probe.concepts,
            self.activations.areas,
            settings.presence_area,
            text_similarity(self.inputs.encoder),
            settings.match_similarity,
        )

    def _image_text(self, model: Encoder) -> EncoderJudge:
        return EncoderJudge(model.name, model, embeddings_of(self.activations, model.name))

    def reading(self, label: Label, data: LayerData, least: int) -> Reading | None:
        """What the judge that decides on `label` says of every probe image; see `check_labels`."""
        return read_label(self.judges, label, enough_images(data.image_ids_n, least))

    def alive(self, unit: UnitId) -> bool:
        """Whether the unit's pooled maximum changes over the probe."""
        layer = self.activations.layers[unit.side]
        span = layer.maximum[unit.index] - layer.minimum[unit.index]
        return bool(np.isfinite(span) and span >= DEAD)

    def live_units(self, layer: str) -> NDArray[np.int64]:
        """The layer's units in the nulls, ascending: those under test and a hash-chosen rest. ``(u,)``."""
        count = self.activations.layers[layer].maximum.shape[0]
        alive = [index for index in range(count) if self.alive(UnitId.of_side(layer, index))]
        tested = {unit.index for unit in self.inputs.units if unit.side == layer}
        order = hash_order(alive, self.inputs.config.seed, f"null units of {layer}")
        chosen = [alive[position] for position in order[: self.inputs.config.checks.null_units]]
        return np.array(sorted({*chosen, *(tested & set(alive))}), dtype=np.int64)

    def layer_data(self, layer: str, split: SplitName) -> LayerData:
        """One layer on one split, for `check_labels`.

        The dense rows are all readable images, or a hash-chosen uniform sample of them, so every image
        weighs the same.
        """
        units = self.live_units(layer)
        maxima = self.activations.layers[layer].maxima
        rows = self.evidence.rows_of(split, self.activations)
        propose = self.evidence.rows_of("propose", self.activations)
        shown = self.inputs.config.exemplars.shown
        if not len(rows) or not len(propose):
            readable = len(self.activations.readable_ids)
            raise ProbeError(
                f"The probe has {readable} readable images, too few for the splits propose, feedback and"
                " test; give it more."
            )
        exemplars = {
            int(unit): self.evidence.top_images(
                self.activations, UnitId.of_side(layer, int(unit)), split, shown
            )[0].tolist()
            for unit in units
        }
        return LayerData(
            layer=layer,
            live_units=units,
            activations_nu=np.ascontiguousarray(maxima[np.ix_(rows, units)]),
            image_ids_n=self.activations.indexed_ids[rows],
            weights_n=np.ones(len(rows)),
            p99_u=np.quantile(maxima[np.ix_(propose, units)], 0.99, axis=0).astype(np.float32),
            exemplar_ids=exemplars,
            correlated=self.inputs.config.checks.correlated,
        )

    def scouts(self, layer: str) -> Scouts:
        """The `propose` images of a layer: what the proposers look at, and where rivals are picked."""
        rows = self.evidence.rows_of("propose", self.activations)
        maxima = self.activations.layers[layer].maxima
        return Scouts(maxima[np.ix_(rows, self.live_units(layer))], self.activations.indexed_ids[rows])

    def natural_range(self, unit: UnitId) -> NaturalRange:
        """Quantiles of the unit's pooled maximum over the indexed images."""
        values_n = self.activations.layers[unit.side].maxima[:, unit.index]
        median, p99, p999 = np.quantile(values_n, [0.5, 0.99, 0.999]).tolist()
        return NaturalRange(median=median, p99=p99, p999=p999)

    def summary(self, unit: UnitId) -> ActivationSummary:
        """The unit's activation over the probe, for the record."""
        layer = self.activations.layers[unit.side]
        values_n = np.asarray(layer.maxima[:, unit.index], dtype=np.float64)
        names = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
        quantiles = np.quantile(values_n, list(names.values())).tolist()
        counts, edges = np.histogram(values_n, bins=_BINS)
        return ActivationSummary(
            threshold=_finite(layer.threshold[unit.index]),
            minimum=_finite(layer.minimum[unit.index]),
            maximum=_finite(layer.maximum[unit.index]),
            quantiles={name: float(value) for name, value in zip(names, quantiles, strict=True)},
            histogram=tuple(counts.tolist()),
            histogram_edges=tuple(edges.tolist()),
        )


def by_layer(units: Sequence[UnitId]) -> dict[str, list[UnitId]]:
    """Units grouped by layer, in order; a layer's negative side is a layer of its own."""
    grouped: dict[str, list[UnitId]] = {}
    for unit in units:
        grouped.setdefault(unit.side, []).append(unit)
    return grouped


def _finite(value: float) -> float:
    return float(value) if np.isfinite(value) else 0.0
