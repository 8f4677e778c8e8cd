import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from labeler.config import VisualiseConfig
from labeler.visualise import Crop, FacetCrops, Request, visualise


class SmallTarget:
    """A random two-layer convolutional network behind the Target protocol; `last` may replace the end."""

    name = "small"
    fingerprint = "0" * 64
    layers = ("first", "second")
    input_size = (24, 24)
    device = torch.device("cpu")

    def __init__(self, last: nn.Module | None = None, fixed: bool = False) -> None:
        torch.manual_seed(0)
        self.fixed = fixed
        self.seen: list[tuple[int, ...]] = []
        self.network = nn.ModuleDict(
            {
                "first": nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GELU()),
                "second": nn.Sequential(nn.Conv2d(8, 6, 3, stride=2, padding=1), last or nn.Identity()),
            }
        )
        self.network.eval().requires_grad_(False)
        for name, parameter in self.network.named_parameters():
            if name.endswith("weight"):
                parameter.mul_(2)

    def unit_count(self, layer: str) -> int:
        return {"first": 8, "second": 6}[layer]

    def normalise(self, images_bchw: torch.Tensor) -> torch.Tensor:
        return (images_bchw - 0.5) / 0.25

    def maps(self, images_bchw: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        if self.fixed and images_bchw.shape[2:] != self.input_size:
            raise AssertionError("Input height doesn't match model.")
        self.seen.append(tuple(images_bchw.shape))
        maps = {"first": self.network["first"](images_bchw)}
        if "second" in layers:
            maps["second"] = self.network["second"](maps["first"])
        return {layer: maps[layer] for layer in layers}


@pytest.fixture
def settings() -> VisualiseConfig:
    return VisualiseConfig(size=32, steps=24, learning_rate=0.05, batch_size=4, precision="float32")


def _start(settings):
    return settings.model_copy(update={"steps": 1, "learning_rate": 1e-9})


@pytest.mark.parametrize("layer", ["first", "second"])
def test_activation_rises_well_above_the_start(settings, layer):
    requests = [Request(layer, unit, 0) for unit in range(4)]
    target = SmallTarget()
    before = visualise(target, requests, _start(settings))
    after = visualise(target, requests, settings)
    for start, end in zip(before, after, strict=True):
        assert end.image.shape == (24, 24, 3)
        assert end.image.dtype == np.uint8
        assert end.activation > start.activation + 0.3


def test_the_activation_is_that_of_the_eight_bit_picture(settings):
    target = SmallTarget()
    (picture,) = visualise(target, [Request("second", 3, 0)], settings)
    image_bchw = torch.from_numpy(picture.image).permute(2, 0, 1)[None] / 255
    maps = target.maps(target.normalise(image_bchw), ["second"])["second"]
    assert picture.activation == pytest.approx(maps[0, 3].max().item(), rel=1e-5)


def test_the_negative_side_lowers_the_unit(settings):
    target = SmallTarget()
    request = Request("second", 1, 0)
    up, down = visualise(target, [request, dataclasses.replace(request, negative=True)], settings)
    low, high = (
        target.maps(target.normalise(torch.from_numpy(p.image).permute(2, 0, 1)[None] / 255), ["second"])
        for p in (down, up)
    )
    assert low["second"][0, 1].mean() < high["second"][0, 1].mean() - 0.5
    assert down.activation == pytest.approx(-low["second"][0, 1].min().item(), rel=1e-5)


def test_a_picture_is_the_same_bytes_whatever_shares_its_batch(settings):
    target = SmallTarget()
    requests = [Request("second", unit, seed) for unit in range(2) for seed in range(2)]
    requests.insert(2, Request("first", 1, 0))
    together = visualise(target, requests, settings)
    backwards = visualise(target, requests[::-1], settings)[::-1]
    assert [picture.request for picture in together] == requests
    for request, one, other in zip(requests, together, backwards, strict=True):
        (alone,) = visualise(target, [request], settings)
        assert one.image.tobytes() == other.image.tobytes() == alone.image.tobytes()
        assert one.activation == other.activation == alone.activation


def test_seeds_and_units_start_and_end_differently(settings):
    requests = [Request("first", 0, 0), Request("first", 0, 1), Request("first", 0, 0, facet=1)]
    images = {picture.image.tobytes() for picture in visualise(SmallTarget(), requests, settings)}
    assert len(images) == 3


class _Overflow(nn.Module):
    """Unit 2 overflows above 1.9, which its own picture reaches and those of units 0 and 4 do not."""

    def forward(self, maps_buhw: torch.Tensor) -> torch.Tensor:
        high = torch.exp(300 * (maps_buhw[:, 2:3] - 1.6).relu())
        return torch.cat([maps_buhw[:, :2], maps_buhw[:, 2:3] * high, maps_buhw[:, 3:]], dim=1)


def test_a_picture_that_overflows_is_reported_and_leaves_the_others_alone(settings):
    requests = [Request("second", unit, 0) for unit in (0, 2, 4)]
    first, failed, last = visualise(SmallTarget(_Overflow()), requests, settings)
    assert failed.image is None
    assert failed.activation is None
    assert "infinite or undefined" in failed.why
    sound = visualise(SmallTarget(), requests, settings)
    assert first.image.tobytes() == sound[0].image.tobytes()
    assert last.image.tobytes() == sound[2].image.tobytes()


class _Silent(nn.Module):
    """A rectifier far above what a grey picture gives: every map is zero at the start."""

    def forward(self, maps_buhw: torch.Tensor) -> torch.Tensor:
        return torch.relu(maps_buhw - 0.6)


def test_a_unit_that_is_silent_at_the_start_is_woken(settings):
    requests = [Request("second", unit, 0) for unit in range(4)]
    target = SmallTarget(_Silent())
    assert [picture.activation for picture in visualise(target, requests, _start(settings))] == [0] * 4
    assert all(picture.activation > 0.1 for picture in visualise(target, requests, settings))


def test_a_unit_that_nothing_can_wake_still_gives_a_picture(settings):
    class Zero(nn.Module):
        def forward(self, maps_buhw: torch.Tensor) -> torch.Tensor:
            return maps_buhw * 0

    (picture,) = visualise(SmallTarget(Zero()), [Request("second", 0, 0)], settings)
    assert picture.image is not None
    assert picture.activation == 0


def test_pictures_have_the_asked_size_where_the_target_takes_it_and_its_input_size_elsewhere(settings):
    for fixed in (False, True):
        target = SmallTarget(fixed=fixed)
        target.input_size = (48, 48)
        (picture,) = visualise(target, [Request("second", 0, 0)], settings)
        side = 48 if fixed else 32
        assert picture.image.shape == (side, side, 3)
        assert {shape[2:] for shape in target.seen} == {(side, side)}


class _Ceiling(nn.Module):
    """Unit 0 can rise no further than 0.1."""

    def forward(self, maps_buhw: torch.Tensor) -> torch.Tensor:
        return torch.cat([maps_buhw[:, :1].tanh().clamp(max=0.1), maps_buhw[:, 1:]], dim=1)


def test_a_picture_on_a_plateau_makes_room_for_the_next(settings):
    settings = settings.model_copy(update={"steps": 200, "batch_size": 2})
    target = SmallTarget(_Ceiling())
    flat, *steep = visualise(target, [Request("second", unit, 0) for unit in (0, 1, 2, 3)], settings)
    assert flat.steps < 150
    assert all(picture.steps > flat.steps for picture in steep)
    assert len(target.seen) < 2 * 200 + 10


def test_progress_reaches_the_total_and_parameters_get_no_gradient(settings):
    told: list[tuple[int, int]] = []
    target = SmallTarget()
    requests = [Request("second", unit, 0) for unit in range(6)]
    visualise(target, requests, settings, progress=lambda done, total: told.append((done, total)))
    assert told == [(count, 6) for count in range(1, 7)]
    assert all(parameter.grad is None for parameter in target.network.parameters())


def test_an_error_of_the_target_leaves_nothing_behind(settings):
    class Broken(nn.Module):
        calls = 0

        def forward(self, maps_buhw: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            if self.calls == 6:  # after the trial of the size, two of the lean pass, the first step
                raise RuntimeError("out of memory")
            return torch.relu(maps_buhw - 9)

    with pytest.raises(RuntimeError, match="out of memory"):
        visualise(SmallTarget(Broken()), [Request("second", 0, 0)], settings)
    inputs = torch.tensor([[-1.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(-torch.relu(inputs).sum(), inputs)
    assert gradient.item() == 0


def test_nothing_asked_nothing_done(settings):
    assert visualise(SmallTarget(), [], settings) == []


def _likeness(target, pictures):
    from labeler.visualise.objectives import likeness

    images = torch.stack([torch.from_numpy(p.image).permute(2, 0, 1) for p in pictures]) / 255
    maps = target.maps(target.normalise(images), ["second"])["second"]
    return likeness(maps, [range(len(pictures))]).mean().item()


def test_diversity_keeps_the_pictures_of_a_unit_apart_and_depends_on_no_other_unit(settings):
    target = SmallTarget()
    requests = [Request("second", 3, seed) for seed in range(4)]
    plain = visualise(target, requests, settings)
    diverse = settings.model_copy(update={"diversity": 2.0, "batch_size": 8})
    kept_apart = visualise(target, requests, diverse)
    assert _likeness(target, kept_apart) < _likeness(target, plain) - 0.1
    others = [Request("second", unit, seed) for seed in range(3) for unit in (0, 1)]
    again = [p for p in visualise(target, [*others, *requests], diverse) if p.request.unit == 3]
    assert [p.image.tobytes() for p in again] == [p.image.tobytes() for p in kept_apart]


def _colour(*rgb):
    return Crop(np.broadcast_to(np.array(rgb, np.uint8), (40, 40, 3)).copy())


@pytest.mark.parametrize("parametrisation", ["fourier", "maco", "pixel"])
def test_pictures_of_facets_go_to_their_own_photographs(settings, parametrisation):
    settings = settings.model_copy(update={"parametrisation": parametrisation, "facet_pull": 5.0})
    red, blue = [_colour(220, 40, 40)], [_colour(40, 40, 220)]
    pictures = visualise(
        SmallTarget(),
        [
            Request("first", 2, 0, facet=0, crops=lambda: FacetCrops(red, blue)),
            Request("first", 2, 0, facet=1, crops=lambda: FacetCrops(blue, red)),
        ],
        settings,
    )
    redder, bluer = (p.image.astype(float).mean(axis=(0, 1)) for p in pictures)
    assert redder[0] - redder[2] > bluer[0] - bluer[2] + 10


@pytest.mark.parametrize("parametrisation", ["maco", "pixel"])
def test_every_parametrisation_drives_the_unit(settings, parametrisation):
    settings = settings.model_copy(update={"parametrisation": parametrisation})
    requests = [Request("second", unit, 0) for unit in range(4)]
    before = visualise(SmallTarget(), requests, _start(settings))
    after = visualise(SmallTarget(), requests, settings)
    for start, end in zip(before, after, strict=True):
        assert end.activation > start.activation + 0.2
        assert (end.opacity is not None) == (parametrisation == "maco")


def test_opacity_shows_where_the_unit_looked(settings):
    class LeftOnly(nn.Module):
        def forward(self, maps_buhw: torch.Tensor) -> torch.Tensor:
            return maps_buhw * (torch.arange(maps_buhw.shape[3]) < maps_buhw.shape[3] // 2)

    settings = settings.model_copy(update={"parametrisation": "maco"})
    (picture,) = visualise(SmallTarget(LeftOnly()), [Request("second", 1, 0)], settings)
    assert picture.opacity.shape == picture.image.shape[:2]
    assert picture.opacity[:, :8].mean() > 2 * picture.opacity[:, 16:].mean()


def test_the_neuron_objective_draws_at_the_centre(settings):
    settings = settings.model_copy(update={"objective": "neuron"})
    (picture,) = visualise(SmallTarget(), [Request("second", 3, 0)], settings)
    image = torch.from_numpy(picture.image).float().std(dim=2)
    assert image[9:15, 9:15].mean() > 2 * torch.cat([image[:4].flatten(), image[-4:].flatten()]).mean()


def test_half_precision_reports_the_activation_in_full(settings):
    target = SmallTarget()
    half = settings.model_copy(update={"precision": "bfloat16"})
    (picture,) = visualise(target, [Request("second", 3, 0)], half)
    (full,) = visualise(target, [Request("second", 3, 0)], settings)
    image_bchw = torch.from_numpy(picture.image).permute(2, 0, 1)[None] / 255
    maps = target.maps(target.normalise(image_bchw), ["second"])["second"]
    assert picture.activation == pytest.approx(maps[0, 3].max().item(), rel=1e-5)
    assert picture.activation == pytest.approx(full.activation, rel=0.1)
