"""What a record shows beside its labels: the unit over its whole range, and its best annotated concepts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labeler import Catalogue
from labeler.activations import Activations
from labeler.config_file import load_config
from labeler.pipeline.inputs import Inputs, load_inputs
from labeler.probes import annotation_on_grid
from labeler.records import UnitRecord
from tests.e2e.conftest import ToyRun
from tests.e2e.toy_network import DEAD
from tests.e2e.toy_run import NETWORK

BELOW_TOP = ["high", "mid", "low", "silent"]


@pytest.fixture(scope="module")
def records(toy_run: ToyRun) -> list[UnitRecord]:
    with Catalogue.open(toy_run.run) as catalogue:
        return list(catalogue.units())


@pytest.fixture(scope="module")
def activations(toy_run: ToyRun) -> Activations:
    (stage,) = (toy_run.run / "stages").glob("activations-*")
    return Activations.load(stage)


@pytest.fixture(scope="module")
def inputs(toy_run: ToyRun) -> Inputs:
    return load_inputs(load_config(toy_run.config, ()), trust_code=NETWORK)


def splits(run: Path) -> list[str]:
    (stage,) = (run / "stages").glob("exemplars-*")
    return list(json.loads((stage / "evidence.json").read_text())["splits"])


def test_every_unit_is_shown_over_its_whole_range(
    toy_run: ToyRun, records: list[UnitRecord], activations: Activations
) -> None:
    of = splits(toy_run.run)
    propose = [row for row, image in enumerate(activations.indexed_ids) if of[image] == "propose"]
    whole = 0
    for record in records:
        names = [item.band for item in record.bands]
        assert names == sorted(names, key=BELOW_TOP.index)
        assert all(names.count(band) <= 2 for band in names)
        whole += set(names) == set(BELOW_TOP)
        column = activations.layers[record.layer].maxima[:, record.index]
        p50, p90, p99 = np.quantile(column[propose], [0.5, 0.9, 0.99], method="inverted_cdf")
        least = {"high": p90, "mid": p50, "low": -np.inf, "silent": -np.inf}
        most = {"high": p99, "mid": p90, "low": p50, "silent": p50}
        for item in record.bands:
            assert of[item.image] == item.split == "propose"
            assert item.activation == column[activations.indexed_ids.tolist().index(item.image)]
            assert least[item.band] < item.activation or item.band in ("low", "silent")
            assert item.activation <= most[item.band] or record.index == DEAD
            assert (toy_run.run / "images" / str(item.tile)).is_file()
            threshold = activations.layers[record.layer].threshold[record.index]
            assert (item.region is not None) == (item.activation > threshold)
    assert whole >= 8  # of twelve; a rectified unit rests below its median


def test_the_report_shows_the_range_and_the_concepts(toy_run: ToyRun, records: list[UnitRecord]) -> None:
    for record in records:
        page = (toy_run.run / "report" / "units" / record.layer / f"{record.index}.html").read_text()
        assert ("Over the whole range" in page) == (record.verdict != "dead")
        if record.verdict == "dead":  # its images are any images
            continue
        for item in record.bands:
            assert f"images/{item.tile}" in page
        for found in record.dissection:
            assert found.concept in page


def loop_iou(toy_run: ToyRun, inputs: Inputs, activations: Activations, record: UnitRecord) -> dict[int, Any]:
    """IoU and number of images by concept, image by image."""
    grid, categories = inputs.config.checks.iou_grid, {c.category for c in inputs.probe.concepts}
    threshold = float(activations.layers[record.layer].threshold[record.index])
    shared, area, images = (np.zeros(len(inputs.probe.concepts)) for _ in range(3))
    active = 0
    for image_id, split in enumerate(splits(toy_run.run)):
        if split != "test":
            continue
        image = inputs.probe.image(image_id)
        annotation = inputs.probe.annotation(image_id, image)
        assert annotation is not None
        assert annotation.categories == categories
        maps = inputs.target.maps(inputs.target.prepare(image)[None], [record.layer])[record.layer]
        up = torch.nn.functional.interpolate(maps[:, [record.index]], size=(grid, grid), mode="bilinear")
        mask = (up[0, 0] > threshold).numpy()
        masks = annotation_on_grid(annotation, inputs.target.view_box(*image.size), grid)
        active += mask.sum()
        shared[annotation.concepts] += (masks & mask).sum(axis=(1, 2))
        area[annotation.concepts] += masks.sum(axis=(1, 2))
        images[annotation.concepts] += masks.any(axis=(1, 2))
    return {
        concept: (shared[concept] / max(1, active + area[concept] - shared[concept]), int(images[concept]))
        for concept in np.flatnonzero(images >= inputs.config.checks.min_concept_images).tolist()
    }


@pytest.mark.parametrize("unit", ["colours:1", "edges:2"])
def test_the_best_concept_of_each_category_is_that_of_a_loop(
    toy_run: ToyRun, records: list[UnitRecord], inputs: Inputs, activations: Activations, unit: str
) -> None:
    record = next(record for record in records if record.unit == unit)
    with torch.inference_mode():
        found = loop_iou(toy_run, inputs, activations, record)
    concepts, best = inputs.probe.concepts, {}
    for concept, (iou, images) in found.items():
        category = concepts[concept].category
        if category not in best or iou > best[category][1]:
            best[category] = (concepts[concept].name, iou, images)
    assert len(best) >= 3
    assert {item.category: (item.concept, item.images) for item in record.dissection} == {
        category: (name, images) for category, (name, _, images) in best.items()
    }
    for item in record.dissection:
        assert item.iou == pytest.approx(best[item.category][1], abs=2e-4)  # maps of a batch, maps of one
    ious = [item.iou for item in record.dissection]
    assert ious == sorted(ious, reverse=True)
    assert ious[0] > 0


def test_a_dead_unit_has_no_dissection(records: list[UnitRecord]) -> None:
    dead = next(record for record in records if record.unit == f"colours:{DEAD}")
    assert dead.dissection == ()
    assert {item.band for item in dead.bands} == {"silent"}
