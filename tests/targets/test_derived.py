"""Derived layers through `load_target`: their order, units, maps, fingerprints and gradients."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from labeler.activations import run_pass
from labeler.config import ActivationsConfig, TargetConfig, VisualiseConfig
from labeler.errors import ConfigError, TargetError, UnknownNameError
from labeler.targets import ModuleTarget, load_target, unit_names
from labeler.testing import fake_probe
from labeler.visualise import Request, visualise

CODE = """
import torch
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor
def build():
    torch.manual_seed(5)
    first, last = torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 6, 2, stride=2)
    network = torch.nn.Sequential(first, torch.nn.GELU(), last)
    return network, Compose([Resize(32), CenterCrop(32), ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])
"""


@pytest.fixture
def files(tmp_path):
    """A network with layers 0, 1, 2; an SAE and directions for layer 2."""
    (tmp_path / "net.py").write_text(CODE)
    weights = {
        "W_enc": torch.randn(6, 9, generator=torch.Generator().manual_seed(1)),
        "b_enc": torch.zeros(9),
    }
    save_file(weights, tmp_path / "sae.safetensors")
    np.save(tmp_path / "d.npy", np.random.default_rng(0).normal(size=(3, 6)))
    return tmp_path


def load(files, **target):
    config = TargetConfig(model=f"file:{files / 'net.py'}:build", **target)
    return load_target(config, seed=0, device="cpu", trust_code=files / "net.py")


def everything(files):
    return {
        "layers": ["0", "2"],
        "sae": {"2": str(files / "sae.safetensors")},
        "directions": {"2": str(files / "d.npy")},
        "negative": {"0": "1", "2": "3", "2.directions": "0"},
    }


def test_derived_layers_come_after_the_layer_that_they_are_taken_from(files):
    target = load(files, **everything(files))
    assert target.layers == ("0", "0-", "2", "2.sae", "2.directions", "2-", "2.directions-")
    assert [target.unit_count(layer) for layer in target.layers] == [4, 4, 6, 9, 3, 6, 3]
    images = torch.randn(2, 3, 32, 32)
    maps = target.maps(images, target.layers)
    assert list(maps) == list(target.layers)
    plain = load(files, layers=["0", "2"]).maps(images, ["0", "2"])
    torch.testing.assert_close(maps["2"], plain["2"], rtol=0, atol=0)
    torch.testing.assert_close(maps["0-"], -plain["0"], rtol=0, atol=0)
    torch.testing.assert_close(maps["2.directions-"], -maps["2.directions"], rtol=0, atol=0)
    for layer in target.layers:
        torch.testing.assert_close(target.maps(images, [layer])[layer], maps[layer], rtol=0, atol=0)


def test_a_layer_that_is_only_read_is_no_layer_of_the_target(files):
    target = load(files, sae={"2": str(files / "sae.safetensors")})
    assert target.layers == ("2.sae",)
    for ask in (lambda: target.unit_count("2"), lambda: target.maps(torch.zeros(1, 3, 32, 32), ["2"])):
        with pytest.raises(UnknownNameError, match="layer"):
            ask()
    named = load(files, sae={"2": str(files / "sae.safetensors")}, layers=["2.sae"], units={"2.sae": "0-2"})
    assert named.layers == ("2.sae",)
    assert named.fingerprint == target.fingerprint  # units do not change what the pass computes


def test_a_target_without_derived_layers_is_the_network_itself(files):
    assert isinstance(load(files, layers=["0"]), ModuleTarget)


def test_the_fingerprint_covers_every_byte_that_the_maps_depend_on(files):
    seen = {load(files, **everything(files)).fingerprint, load(files, layers=["0", "2"]).fingerprint}
    weights = {"W_enc": torch.ones(6, 9), "b_enc": torch.zeros(9)}
    save_file(weights, files / "sae.safetensors")
    seen.add(load(files, **everything(files)).fingerprint)
    np.save(files / "d.npy", np.eye(6)[:3])
    seen.add(load(files, **everything(files)).fingerprint)
    (files / "d.json").write_text(json.dumps(["a", "b", "c"]))
    seen.add(load(files, **everything(files)).fingerprint)
    seen.add(load(files, **{**everything(files), "negative": {"0": "1"}}).fingerprint)
    assert len(seen) == 6
    config = TargetConfig(model="x", **everything(files))
    assert unit_names(config) == {"2.directions": ("a", "b", "c")}


def test_units_are_checked_by_layer_and_side(files):
    sae = {"2": str(files / "sae.safetensors")}
    load(files, layers=["2"], sae=sae, units={"2": "none", "2.sae": "8"}, negative={"2": "5"})
    with pytest.raises(ConfigError, match=r"2\.sae has units 0 to 8"):
        load(files, sae=sae, units={"2.sae": "9"})
    with pytest.raises(ConfigError, match="2- has units 0 to 5"):
        load(files, layers=["2"], negative={"2": "6"})
    with pytest.raises(UnknownNameError, match="layer"):
        load(files, layers=["2"], negative={"0": "1"})
    with pytest.raises(ConfigError, match="asks for no unit"):
        load(files, layers=["2"], units={"2": "none"})
    with pytest.raises(TargetError, match="layer 0 has 4 channels"):
        load(files, sae={"0": str(files / "sae.safetensors")})


def test_the_pass_ranks_the_negative_side_by_the_least_activations(files):
    target = load(files, layers=["2"], negative={"2": "3"})
    found = run_pass(target, fake_probe(20), {}, ActivationsConfig(batch_size=8, top_k=5), workers=0)
    prepared = [target.prepare(fake_probe(20).image(i)) for i in range(20)]
    lowest = -target.maps(torch.stack(prepared), ["2"])["2"].amin(dim=(2, 3)).numpy()  # (n, u)
    side = found.layers["2-"]
    for unit in range(6):
        order = np.lexsort((np.arange(20), -side.maxima[:, unit]))[:5]
        assert side.topk_ids[unit].tolist() == order.tolist()
    np.testing.assert_allclose(side.maxima, lowest, atol=1e-5)
    assert (side.topk_ids != found.layers["2"].topk_ids).any()


KINDS = {"relu": {}, "topk": {"k": torch.tensor(3)}, "jumprelu": {"threshold": torch.full((9,), 0.1)}}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_raise_derived_units_and_open_latents_that_are_silent_at_the_start(files, kind):
    weight = torch.randn(6, 9, generator=torch.Generator().manual_seed(2))
    save_file({"W_enc": weight, "b_enc": torch.full((9,), -0.3), **KINDS[kind]}, files / "sae.safetensors")
    target = load(files, **everything(files))
    grey = target.maps(target.normalise(torch.full((1, 3, 32, 32), 0.5)), target.layers)
    silent = (grey["2.sae"].amax(dim=(0, 2, 3)) == 0).nonzero().flatten().tolist()
    assert silent
    directions = [Request("2.directions", 1, 0), Request("2.directions", 1, 0, negative=True)]
    made = visualise(
        target,
        [*directions, Request("2-", 3, 0), *(Request("2.sae", unit, 0) for unit in silent)],
        VisualiseConfig(size=32, steps=64, batch_size=7, precision="float32"),
    )
    at_start = [grey["2.directions"][0, 1].max(), grey["2.directions-"][0, 1].max(), grey["2-"][0, 3].max()]
    for picture, before in zip(made, at_start, strict=False):
        assert picture.activation > before
    # A latent that loses against others everywhere may stay at 0; not all of them do.
    assert max(picture.activation for picture in made[3:]) > 0
