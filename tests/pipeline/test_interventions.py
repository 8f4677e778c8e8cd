"""*intervention* from pixels to numbers: a network whose units have a known meaning, on drawn pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from labeler.activations import run_pass
from labeler.checks import check_labels
from labeler.config import Config
from labeler.pipeline.bench import Bench
from labeler.pipeline.evidence import ProbeEvidence
from labeler.pipeline.inputs import Inputs
from labeler.pipeline.interventions import intervene
from labeler.probes import concept_areas
from labeler.records import Formula, Label, UnitId
from labeler.seams import Annotation, Concept
from labeler.targets import ModuleTarget
from labeler.testing import FakeEncoder, FakeProbe

SIDE = 32
COLOURS = {"red": (230, 0, 0), "blue": (0, 0, 230), "yellow": (115, 115, 0)}  # equally bright
STRIPE = (0, 200, 0)  # under every red square, and not annotated: its context
RED, BRIGHTNESS, CONTEXT, BLUE, DRAWN = 0, 1, 2, 3, 40


class Network(nn.Module):
    """Units 0: red; 1: mean brightness; 2: red where there is green too; 3: blue; the rest are drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.Identity()
        self.drawn = nn.Conv2d(3, DRAWN, 1)
        with torch.no_grad():
            self.drawn.weight.copy_(torch.randn(DRAWN, 3, 1, 1, generator=torch.Generator().manual_seed(0)))
            self.drawn.bias.zero_()

    def forward(self, images_bchw: torch.Tensor) -> torch.Tensor:
        pixels_bchw = images_bchw / 2 + 0.5
        red, green, blue = pixels_bchw.unbind(dim=1)
        fires_red = torch.relu(red - torch.maximum(green, blue))
        fires_green = torch.relu(green - torch.maximum(red, blue))
        bright = pixels_bchw.mean(dim=(1, 2, 3))[:, None, None].expand_as(red)
        both = torch.minimum(fires_red.amax(dim=(1, 2)), fires_green.amax(dim=(1, 2)))
        known = [fires_red, bright, both[:, None, None].expand_as(red), torch.relu(blue - red)]
        drawn = torch.relu(self.drawn(pixels_bchw))
        return self.units(torch.cat([torch.stack(known, dim=1), drawn], dim=1))  # (b, u, h, w)


def probe(count: int, with_red: int) -> FakeProbe:
    """Grey pictures of any brightness; one in two shows a coloured square, red in `with_red` at most."""
    names = list(COLOURS)
    pictures, annotations, reds = [], [], 0
    for index in range(count):
        rng = np.random.default_rng([1, index])
        picture_hwc = np.full((SIDE, SIDE, 3), rng.integers(40, 160), np.uint8)
        picture_hwc += rng.integers(0, 20, (SIDE, SIDE, 3)).astype(np.uint8)
        shown = (index // 2) % 3 if index % 2 == 0 else None
        if shown == 0:
            reds += 1
            shown = 0 if reds <= with_red else 1
        masks = np.zeros((0 if shown is None else 1, SIDE, SIDE), dtype=bool)
        if shown is not None:
            top, left, side = *rng.integers(0, 14, 2), rng.integers(8, 13)
            masks[0, top : top + side, left : left + side] = True
            picture_hwc[masks[0]] = COLOURS[names[shown]]
            if shown == 0:
                picture_hwc[SIDE - 4 :] = STRIPE
        concepts = np.array([] if shown is None else [shown], dtype=np.int64)
        pictures.append(picture_hwc)
        annotations.append(Annotation(concepts, masks, frozenset({"colour"})))
    return FakeProbe(pictures, [Concept(name, "colour") for name in names], annotations)


def bench(count: int = 240, with_red: int = 240, **checks: object) -> Bench:
    transform = Compose([Resize(SIDE), CenterCrop(SIDE), ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])
    target = ModuleTarget("known", "known", Network(), transform, ("units",), torch.device("cpu"))
    images = probe(count, with_red)
    config = Config.model_validate(
        {
            "target": {"model": "known", "layers": ["units"]},
            "probe": {"source": "folder:none"},
            "encoder": {"judge": "annotations"},
            "checks": {"min_test_images": 60, "min_null_units": 8, **checks},
            "executor": {"workers": 0, "device": "cpu"},
        }
    )
    units = tuple(UnitId("units", index) for index in range(DRAWN + 4))
    inputs = Inputs(config, target, images, FakeEncoder(), (), units)
    categories = [concept.category for concept in images.concepts]

    def areas(image_id, image):
        box = target.view_box(*image.size)
        return concept_areas(images.annotation(image_id, image), box, 3, categories, SIDE)

    activations = run_pass(
        target, images, {"fake": FakeEncoder()}, config.activations, measure=areas, workers=0
    )
    splits = tuple("propose" if index < 60 else "test" for index in range(count))
    groups = tuple(image.group for image in images.images)
    return Bench(inputs, activations, ProbeEvidence("", splits, groups, {}))


def measured(made: Bench, pairs: list[tuple[int, Label]]) -> list:
    altered = intervene(made, [label for _, label in pairs], lambda done, total: None)
    found = check_labels(
        made.layer_data("units", "test"), pairs, made.judges, pictures=None, dissection=None,
        interventions=altered.get("units"), settings=made.inputs.config.checks, seed=0,
    )  # fmt: skip
    return [checks["intervention"] for checks in found]


@pytest.fixture(scope="module")
def known() -> Bench:
    return bench()


def test_a_unit_follows_its_own_concept_and_no_other(known: Bench) -> None:
    right, wrong, other, bright = measured(
        known,
        [
            (RED, Label(text="red")),
            (RED, Label(text="blue")),
            (BLUE, Label(text="blue")),
            (BRIGHTNESS, Label(text="red")),
        ],
    )
    for found in (right, other):
        assert found.value > 0.7
        assert found.low > 0.4
        assert found.significance.p < 0.001
        assert found.specificity.z > 1
        assert found.judge == "annotations"
    assert wrong.status == "not_applicable" or (wrong.value < 0.1 and wrong.significance.p > 0.05)
    assert bright.status == "not_applicable" or (abs(bright.value) < 0.1)


def test_a_unit_that_needs_the_context_follows_by_half(known: Bench) -> None:
    alone, context = measured(known, [(RED, Label(text="red")), (CONTEXT, Label(text="red"))])
    assert alone.value > 0.8
    assert 0.2 < context.value < 0.8


def test_compound_and_unknown_labels_are_not_applicable(known: Bench) -> None:
    compound = Label(text="red or blue", formula=Formula(op="or", terms=("red", "blue")))
    found = measured(known, [(RED, compound), (RED, Label(text="striped")), (RED, Label(text="red"))])
    assert [check.status for check in found] == ["not_applicable", "not_applicable", "ok"]


def test_too_few_donors_or_none_asked_for_are_not_applicable() -> None:
    (few,) = measured(bench(with_red=12), [(RED, Label(text="red"))])
    assert few.status == "not_applicable"
    assert "test images show the concept" in few.why
    (off,) = measured(bench(interventions=0), [(RED, Label(text="red"))])
    assert off.status == "not_applicable"
    assert "no altered images" in off.why


def test_threads_and_other_labels_change_no_number(known: Bench) -> None:
    alone = measured(known, [(RED, Label(text="red"))])[0]
    many = measured(
        known, [(BLUE, Label(text="blue")), (RED, Label(text="red")), (CONTEXT, Label(text="yellow"))]
    )
    assert many[1] == alone
    threaded = known.inputs.config.model_copy(
        update={"executor": known.inputs.config.executor.model_copy(update={"workers": 2})}
    )
    inputs = Inputs(
        threaded, known.inputs.target, known.inputs.probe, known.inputs.encoder, (), known.inputs.units
    )
    assert measured(Bench(inputs, known.activations, known.evidence), [(RED, Label(text="red"))])[0] == alone
