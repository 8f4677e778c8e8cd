"""The images of `feedback` on which a unit's best label fails, as they are shown to a proposer and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from labeler.activations import image_maps
from labeler.checks import LayerData
from labeler.exemplars.images import ImageStore
from labeler.exemplars.regions import activating_region, draw_tile
from labeler.pipeline.bench import Bench
from labeler.pipeline.looking import TILE, displayed, draw_region
from labeler.records import BandName, Exemplar, Label, UnitId
from labeler.refine import failures

FAILING = 3
"""Misses and false alarms shown of the best label so far, each."""
FIRES = 0.9
"""Quantile of the unit's activation on `feedback` above which it counts as firing there."""
MIN_FEEDBACK = 30
"""`feedback` only guides, so it may be smaller than `checks.min_test_images`."""

Failures = tuple[tuple[Exemplar, ...], tuple[Exemplar, ...]]
"""Misses, and false alarms."""


@dataclass
class Failing:
    """Finds and draws them.

    Args:
        run: the run directory.
        bench: what the checks look at.
    """

    run: Path
    bench: Bench
    _plain: dict[int, str] = field(default_factory=dict)

    def of(self, data: LayerData, labels: Mapping[UnitId, Label | None]) -> dict[UnitId, Failures]:
        """Misses and false alarms of each unit's label, worst first; none for a unit without a label.

        Args:
            data: the units' layer on `feedback`.
            labels: the best label of each unit so far.
        """
        return {unit: self._of_unit(data, unit, label) for unit, label in labels.items()}

    def outlined(self, found: Mapping[UnitId, Failures], units: Sequence[UnitId]) -> dict[UnitId, Failures]:
        """The same, and for `units` with the region outlined where a miss fires: they are shown to a model
        with eyes. That takes a forward pass of those images."""
        regions = self._regions({unit: found[unit][0] for unit in units})
        return {
            unit: (tuple(regions.get((unit, item.image), item) for item in misses), alarms)
            for unit, (misses, alarms) in found.items()
        }

    def _of_unit(self, data: LayerData, unit: UnitId, label: Label | None) -> Failures:
        reading = None if label is None else self.bench.reading(label, data, MIN_FEEDBACK)
        if reading is None:
            return (), ()
        activations_n = data.activations_nu[:, data.position[unit.index]]
        scores_n = reading.scores_n[data.image_ids_n]
        rows = failures(activations_n, scores_n, float(np.quantile(activations_n, FIRES)), FAILING)
        misses, alarms = (
            tuple(
                self._exemplar(int(data.image_ids_n[row]), float(activations_n[row]), band)
                for row in found.tolist()
            )
            for found, band in zip(rows, _BANDS, strict=True)
        )
        return misses, alarms

    def _exemplar(self, image_id: int, activation: float, band: BandName) -> Exemplar:
        if image_id not in self._plain:
            inputs = self.bench.inputs
            seen = displayed(inputs.probe.image(image_id), inputs.target)
            self._plain[image_id] = ImageStore(self.run / "images").put(draw_tile(seen, None, TILE))
        path = self.bench.inputs.probe.images[image_id].path
        return Exemplar(
            image=image_id, path=path, activation=activation, band=band, split="feedback",
            tile=self._plain[image_id],
        )  # fmt: skip

    def _regions(self, misses: Mapping[UnitId, Sequence[Exemplar]]) -> dict[tuple[UnitId, int], Exemplar]:
        """The misses with their region drawn, by unit and image."""
        wanted: dict[int, list[tuple[UnitId, Exemplar]]] = {}
        for unit, items in misses.items():
            for item in items:
                wanted.setdefault(item.image, []).append((unit, item))
        inputs, store = self.bench.inputs, ImageStore(self.run / "images")
        found: dict[tuple[UnitId, int], Exemplar] = {}
        for ids, images, maps in image_maps(
            inputs.target, inputs.probe, sorted(wanted), sorted({unit.side for unit in misses}),
            batch_size=inputs.config.activations.batch_size, workers=inputs.config.executor.workers,
            decoding=inputs.config.executor.decoding,
        ):  # fmt: skip
            for row, (image_id, image) in enumerate(zip(ids.tolist(), images, strict=True)):
                seen = displayed(image, inputs.target)
                for unit, item in wanted[image_id]:
                    map_hw = maps[unit.side][row, unit.index].cpu().numpy()
                    threshold = float(self.bench.activations.layers[unit.side].threshold[unit.index])
                    region = activating_region(map_hw, threshold)
                    drawn = {
                        "region": region.box if region else None,
                        **draw_region(seen, region, store),
                    }
                    found[unit, image_id] = item.model_copy(update=drawn)
        return found


_BANDS: tuple[BandName, BandName] = ("high", "low")
