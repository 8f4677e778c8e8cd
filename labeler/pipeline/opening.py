"""The test split opened for some labels: one layer with everything that they are checked against there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from labeler.checks import (
    Agreement,
    Dissection,
    Interventions,
    Judged,
    LayerData,
    PictureData,
    Rivals,
    check_labels,
    layer_agreements,
)
from labeler.executors import LOCAL
from labeler.pipeline.bench import Bench, by_layer
from labeler.pipeline.dissection import dissect
from labeler.pipeline.interventions import intervene
from labeler.pipeline.pictures import Pictures
from labeler.pipeline.words import rivals
from labeler.records import Label, UnitId
from labeler.seams import Executor, Progress


@dataclass(frozen=True)
class OpenLayer:
    """One layer on `test`."""

    bench: Bench
    data: LayerData
    pictures: PictureData
    rivals: Rivals
    dissection: Dissection | None
    interventions: Interventions | None

    @cached_property
    def agreements(self) -> dict[str, Agreement]:
        """*agreement* of the layer's units, by judge."""
        return layer_agreements(self.data, self.bench.judges, self.pictures, self.bench.inputs.config.checks)

    def judge(self, pairs: Sequence[tuple[int, Label]], tests: Mapping[int, int]) -> list[Judged]:
        """Check (unit index, label) pairs here; `tests` says how many labels compete for each unit."""
        config = self.bench.inputs.config
        checks = check_labels(
            self.data, pairs, self.bench.judges, pictures=self.pictures, dissection=self.dissection,
            interventions=self.interventions, rivals=self.rivals, agreements=self.agreements,
            settings=config.checks, seed=config.seed,
        )  # fmt: skip
        opened = [
            label.model_copy(update={"checks": found, "split": "test", "match": self._match(label)})
            for (_, label), found in zip(pairs, checks, strict=True)
        ]
        return [
            self.bench.gate.judge(label, tests[unit]) for (unit, _), label in zip(pairs, opened, strict=True)
        ]

    def _match(self, label: Label) -> str:
        reading = self.bench.reading(label, self.data, self.bench.inputs.config.checks.min_test_images)
        return reading.match if reading is not None else ""


def open_test(
    bench: Bench, pictures: Pictures, labels: Mapping[UnitId, Sequence[Label]], progress: Progress,
    *, kin: Mapping[UnitId, Sequence[Label]] | None = None, run: Path | None = None,
    executor: Executor = LOCAL,
) -> dict[str, OpenLayer]:  # fmt: skip
    """Every layer of the units in `labels`, ready to check these labels and any others of theirs.

    `kin` are the labels that the units are left with, where those are not `labels` themselves; `executor`
    does what is long, and `run` keeps it.
    """
    shown = PictureData(pictures.units, pictures.embeddings)
    dissections = dissect(bench, progress)
    altered = intervene(
        bench, [label for found in labels.values() for label in found], progress, run=run, executor=executor
    )
    layers = {}
    for layer, units in by_layer(list(labels)).items():
        data = bench.layer_data(layer, "test")
        left = {unit.index: (kin or labels)[unit] for unit in units}
        competing = rivals(bench, data, left, bench.scouts(layer))
        layers[layer] = OpenLayer(bench, data, shown, competing, dissections.get(layer), altered.get(layer))
    return layers
