import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from labeler.config import VisualiseConfig
from labeler.visualise import Request, visualise


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
    return VisualiseConfig(size=32, steps=24, batch_size=4)


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


def test_small_views_are_used_where_the_target_takes_them_and_whole_ones_elsewhere(settings):
    requests = [Request("second", 0, 0)]
    for fixed in (False, True):
        target = SmallTarget(fixed=fixed)
        target.input_size = (48, 48)
        visualise(target, requests, settings)
        sizes = {shape[2:] for shape in target.seen[:-1]}
        assert sizes == ({(48, 48)} if fixed else {(32, 32)})
        assert target.seen[-1] == (4, 3, 48, 48)


def test_a_plateau_ends_the_batch_early(settings):
    class Ceiling(nn.Module):
        def forward(self, maps_buhw: torch.Tensor) -> torch.Tensor:
            return maps_buhw.tanh().clamp(max=0.1)

    target = SmallTarget(Ceiling())
    visualise(target, [Request("second", 0, 0)], settings.model_copy(update={"steps": 300}))
    assert len(target.seen) < 150


def test_progress_reaches_the_total_and_parameters_get_no_gradient(settings):
    told: list[tuple[int, int]] = []
    target = SmallTarget()
    requests = [Request("second", unit, 0) for unit in range(6)]
    visualise(target, requests, settings, progress=lambda done, total: told.append((done, total)))
    assert told == [(4, 6), (6, 6)]
    assert all(parameter.grad is None for parameter in target.network.parameters())


def test_an_error_of_the_target_leaves_nothing_behind(settings):
    class Broken(nn.Module):
        calls = 0

        def forward(self, maps_buhw: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            if self.calls == 3:  # the trial, the first pass, then the one with open rectifiers
                raise RuntimeError("out of memory")
            return torch.relu(maps_buhw - 9)

    with pytest.raises(RuntimeError, match="out of memory"):
        visualise(SmallTarget(Broken()), [Request("second", 0, 0)], settings)
    inputs = torch.tensor([[-1.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(-torch.relu(inputs).sum(), inputs)
    assert gradient.item() == 0


def test_nothing_asked_nothing_done(settings):
    assert visualise(SmallTarget(), [], settings) == []
