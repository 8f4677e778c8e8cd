import pytest
import torch
from torch import nn
from torch.nn import functional

from labeler.visualise.lean import learn


def _block(inside, outside, kernel=3, stride=1, groups=1, end=None, bias=False):
    norm = nn.BatchNorm2d(outside)
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.uniform_(norm.bias, -0.5, 0.5)
    nn.init.uniform_(norm.running_mean, -0.5, 0.5)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=bias)
    return nn.Sequential(convolution, norm, end or nn.ReLU())


class _Residual(nn.Module):
    """A mobile block with a shortcut, as in MobileNet and EfficientNet."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _block(8, 24, 1, end=nn.ReLU6(inplace=True)),
            _block(24, 24, 5, groups=24, end=nn.ReLU6()),
            _block(24, 8, 1, end=nn.Identity(), bias=True),
        )

    def forward(self, maps):
        return maps + self.body(maps)


def _network(*modules):
    torch.manual_seed(0)
    return nn.Sequential(*modules).eval().requires_grad_(False)


def _gradient(forward, images_bchw, mode=None):
    images_bchw = images_bchw.clone().requires_grad_()
    if mode is None:
        maps = forward(images_bchw)
    else:
        with mode:
            maps = forward(images_bchw)
    (gradient,) = torch.autograd.grad((maps.float() ** 2).sum(), images_bchw)
    return maps.detach(), gradient


def _same(forward, images_bchw, tolerance=1e-4):
    lean = learn(forward, images_bchw)
    assert lean is not None
    for wanted, found in zip(
        _gradient(forward, images_bchw), _gradient(forward, images_bchw, lean), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance * float(wanted.abs().max()))
    return lean


IMAGES = torch.randn(4, 3, 18, 18, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_maps_and_gradients_are_those_of_the_plain_pass(layout):
    torch.manual_seed(0)
    network = _network(
        _block(3, 8, 3, 2), _Residual(), _block(8, 8, 3, 2, groups=8), _block(8, 6, 3, groups=2), _Padded()
    ).to(memory_format=layout)
    _same(network, IMAGES.contiguous(memory_format=layout))


class _Padded(nn.Module):
    """Padding that is not symmetrical, as TensorFlow's, and a rectifier called as a function."""

    def __init__(self, pad=(0, 1, 0, 1)) -> None:
        super().__init__()
        self.convolution, self.pad = nn.Conv2d(6, 6, 3, 2, groups=6), pad

    def forward(self, maps):
        return functional.relu(self.convolution(functional.pad(maps, self.pad)))


class _Spy(torch.overrides.TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.called = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.called.append(func)
        return func(*args, **(kwargs or {}))


def _called(forward, lean):
    with _Spy() as spy, lean, torch.no_grad():
        forward(IMAGES)
    return spy.called


def test_norms_and_rectifiers_after_a_convolution_are_not_computed():
    network = _network(_block(3, 8), _block(8, 8, groups=8))
    lean = learn(network, IMAGES)
    assert functional.batch_norm not in _called(network, lean)
    assert functional.relu not in _called(network, lean)


def test_zeros_around_an_input_are_not_written_where_only_a_convolution_needs_them():
    network = _network(_block(3, 6), _Padded())
    assert functional.pad not in _called(network, _same(network, IMAGES))


@pytest.mark.parametrize("side", [17, 18, 21])
@pytest.mark.parametrize("pad", [(0, 1, 0, 1), (1, 2, 0, 3), (2, 1, 3, 0)])
def test_any_zeros_around_an_input_are_the_same(pad, side):
    network = _network(_block(3, 6), _Padded(pad))
    _same(network, torch.randn(2, 3, side, side + 1, generator=torch.Generator().manual_seed(2)))


class _Forked(nn.Module):
    """What is before the norm has a second use."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        nn.init.constant_(self.norm.running_mean, 0.3)

    def forward(self, images):
        raw = self.convolution(images)
        return torch.relu(self.norm(raw)) + raw


def test_what_has_a_second_use_is_left_alone():
    network = _network(_Forked(), _block(8, 4))
    lean = _same(network, IMAGES)
    assert _called(network, lean).count(functional.batch_norm) == 1


def test_a_convolution_that_runs_twice_is_left_alone():
    shared = nn.Conv2d(3, 3, 3, padding=1)
    network = _network(shared, nn.ReLU(), shared, nn.BatchNorm2d(3))
    assert learn(network, IMAGES) is None


def test_there_is_nothing_to_learn_without_convolutions():
    network = _network(nn.Flatten(), nn.Linear(3 * 18 * 18, 4), nn.ReLU())
    assert learn(network, IMAGES) is None


def test_training_statistics_are_left_alone():
    network = _network(_block(3, 8))
    network[0][1].train()
    lean = learn(network, IMAGES)
    assert functional.batch_norm in _called(network, lean)


def test_half_precision_is_near():
    network = _network(_block(3, 8), _Residual(), _block(8, 8, 3, 2, groups=8))
    lean = learn(network, IMAGES, torch.bfloat16)
    maps, gradient = _gradient(network, IMAGES)
    with torch.autocast("cpu", torch.bfloat16):
        near_maps, near_gradient = _gradient(network, IMAGES, lean)
    assert near_maps.dtype == torch.bfloat16
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(maps.flatten(), near_maps.float().flatten(), dim=0) > 0.999
    assert cosine(gradient.flatten(), near_gradient.flatten(), dim=0) > 0.99


def test_nothing_of_the_network_is_changed_and_nothing_stays_after_an_error():
    network = _network(_block(3, 8), _Residual())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    lean = learn(network, IMAGES)

    def broken(images):
        network[0](images)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"), lean:
        broken(IMAGES)
    assert functional.batch_norm in _called(network, torch.no_grad())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
