"""A sparse autoencoder's latents are those of a plain NumPy encoder, at the position that they read."""

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from labeler.errors import TargetError
from labeler.targets import ModuleTarget
from labeler.targets.derived import Derived, DerivedTarget
from labeler.targets.sae import read_sae

CHANNELS, LATENTS = 5, 7


def tensors(seed=0, channels=CHANNELS, latents=LATENTS):
    rng = np.random.default_rng(seed)
    shapes = {"W_enc": (channels, latents), "b_enc": (latents,), "b_dec": (channels,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def saved(path, arrays, **metadata):
    save_file({name: torch.tensor(array) for name, array in arrays.items()}, path, metadata or None)
    return path


def reference(maps_buhw, arrays, activation, *, threshold=None, k=None, centred=True):
    """Position by position, as the papers write it."""
    batch, _, height, width = maps_buhw.shape
    latents = np.zeros((batch, arrays["W_enc"].shape[1], height, width))
    for b, y, x in np.ndindex(batch, height, width):
        vector = maps_buhw[b, :, y, x].astype(np.float64) - (arrays["b_dec"] if centred else 0)
        raw = vector @ arrays["W_enc"].astype(np.float64) + arrays["b_enc"]
        if activation == "jumprelu":
            latents[b, :, y, x] = raw * (raw > threshold) * (raw > 0)
            continue
        raw = np.maximum(raw, 0)
        if activation == "topk":
            raw[np.argsort(-raw)[k:]] = 0
        latents[b, :, y, x] = raw
    return latents


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
       k=st.integers(1, LATENTS), scalar=st.booleans())  # fmt: skip
def test_latents_are_those_of_a_plain_encoder(tmp_path_factory, seed, size, k, scalar):
    folder = tmp_path_factory.mktemp("sae")
    arrays, rng = tensors(seed), np.random.default_rng(seed + 1)
    maps = rng.normal(size=(size[0], CHANNELS, *size[1:])).astype(np.float32)
    threshold = rng.normal(size=() if scalar else LATENTS).astype(np.float32)
    cases = {
        "relu": (arrays, {}, {}),
        "topk": ({**arrays, "k": np.array(k)}, {}, {"k": k}),
        "jumprelu": ({**arrays, "threshold": threshold}, {}, {"threshold": threshold, "centred": False}),
    }
    for activation, (held, metadata, options) in cases.items():
        sae = read_sae(saved(folder / f"{activation}.safetensors", held, **metadata), CHANNELS, "l")
        assert (sae.activation, sae.units) == (activation, LATENTS)
        np.testing.assert_allclose(
            sae(torch.from_numpy(maps)).numpy(), reference(maps, arrays, activation, **options), atol=1e-4
        )


def test_every_common_name_gives_the_same_encoder(tmp_path):
    arrays = tensors()
    maps = torch.randn(2, CHANNELS, 3, 3)
    weight, bias, centre = arrays["W_enc"], arrays["b_enc"], arrays["b_dec"]
    same = [
        arrays,
        {**arrays, "W_dec": weight.T.copy()},
        {"W_enc": weight.T.copy(), "b_enc": bias, "b_dec": centre},
        {"encoder.weight": weight.T.copy(), "encoder.bias": bias, "b_dec": centre},
        {"encoder.weight": weight.T.copy(), "encoder.bias": bias, "bias": centre, "decoder.weight": weight},
        {"encoder.weight": weight.T.copy(), "latent_bias": bias, "pre_bias": centre},
    ]
    first, *others = [
        read_sae(saved(tmp_path / f"{number}.safetensors", held), CHANNELS, "l")(maps)
        for number, held in enumerate(same)
    ]
    assert first.any()
    for other in others:
        torch.testing.assert_close(other, first)


def test_a_square_weight_is_read_as_its_name_says(tmp_path):
    arrays = tensors(channels=4, latents=4)
    maps = torch.randn(1, 4, 2, 2)
    linear = {
        "encoder.weight": arrays["W_enc"].T.copy(),
        "encoder.bias": arrays["b_enc"],
        "b_dec": arrays["b_dec"],
    }
    made = [
        read_sae(saved(tmp_path / f"{i}.safetensors", held), 4, "l")
        for i, held in enumerate((arrays, linear))
    ]
    torch.testing.assert_close(made[0](maps), made[1](maps))
    np.testing.assert_allclose(made[0](maps), reference(maps.numpy(), arrays, "relu"), atol=1e-5)


@pytest.mark.parametrize(("stated", "centred"), [("true", True), ("false", False)])
def test_the_metadata_decides_where_the_file_leaves_it_open(tmp_path, stated, centred):
    arrays, maps = tensors(), torch.randn(2, CHANNELS, 2, 2)
    both = {**arrays, "k": np.array(2), "threshold": np.full(LATENTS, 0.3, np.float32)}
    for number, (name, activation) in enumerate(
        [("TopK", "topk"), ("jump_relu", "jumprelu"), ("BatchTopK", "jumprelu"), ("ReLU", "relu")]
    ):
        path = saved(tmp_path / f"{number}.safetensors", both, activation=name, apply_b_dec_to_input=stated)
        expected = reference(maps.numpy(), arrays, activation, threshold=0.3, k=2, centred=centred)
        np.testing.assert_allclose(read_sae(path, CHANNELS, "l")(maps), expected, atol=1e-4)


def test_k_may_stand_in_the_metadata(tmp_path):
    sae = read_sae(saved(tmp_path / "s.safetensors", tensors(), k="3"), CHANNELS, "l")
    assert (sae.activation, sae.k) == ("topk", 3)


@pytest.mark.parametrize(
    ("change", "metadata", "says"),
    [
        ({"k": np.array(2), "threshold": np.ones(7, np.float32)}, {}, "both a threshold and k"),
        ({}, {"activation": "gelu"}, "'gelu'"),
        ({}, {"activation": "topk"}, "holds no k"),
        ({}, {"activation": "jumprelu"}, "holds no threshold"),
        ({"b_gate": np.ones(7, np.float32)}, {}, "b_gate"),
        ({"log_threshold": np.ones(7, np.float32)}, {}, "log_threshold"),
        ({"b_enc": np.ones(6, np.float32)}, {}, "shape|numbers in b_enc"),
        ({"b_dec": np.ones(4, np.float32)}, {}, "4 numbers in b_dec, not 5"),
        ({"bias": np.ones(5, np.float32)}, {}, "both b_dec and bias"),
        ({"W_enc": np.ones((9, 7), np.float32)}, {}, "layer blocks.1 has 5 channels"),
        ({"b_enc": np.full(7, np.nan, np.float32)}, {}, "not finite"),
        ({"k": np.array(8)}, {}, "from 1 to 7"),
        ({"k": np.array(0.5)}, {}, "from 1 to 7"),
        ({}, {"apply_b_dec_to_input": "yes"}, "true or false"),
    ],
)
def test_what_a_file_leaves_open_is_one_sentence(tmp_path, change, metadata, says):
    path = saved(tmp_path / "s.safetensors", {**tensors(), **change}, **metadata)
    with pytest.raises(TargetError, match=says) as caught:
        read_sae(path, CHANNELS, "blocks.1")
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(TargetError, match=r"no sparse autoencoder at .*none"):
        read_sae(tmp_path / "none.safetensors", CHANNELS, "l")
    (tmp_path / "bad.safetensors").write_bytes(b"PK\x03\x04 not one")
    with pytest.raises(TargetError, match=r"bad\.safetensors"):
        read_sae(tmp_path / "bad.safetensors", CHANNELS, "l")
    with pytest.raises(TargetError, match="no sparse autoencoder"):
        read_sae(saved(tmp_path / "o.safetensors", {"b_enc": np.ones(3, np.float32)}), CHANNELS, "l")


def base(network, layers, size):
    transform = Compose([Resize(size), CenterCrop(size), ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])
    return ModuleTarget("n", "n", network, transform, layers, torch.device("cpu"))


def vit():
    return timm.models.VisionTransformer(
        img_size=64, patch_size=16, embed_dim=24, depth=2, num_heads=2, num_classes=6, reg_tokens=3
    )


def convolutions():
    return nn.Sequential(
        nn.Conv2d(3, 8, 16, stride=16), nn.Conv2d(8, 16, 1, groups=4), nn.Conv2d(16, 12, 1), nn.Flatten(2)
    )


@pytest.mark.parametrize(
    ("build", "layer"),
    [(vit, "blocks.0"), (vit, "patch_embed"), (convolutions, "1"), (convolutions, "2")],
    ids=["vit tokens", "vit patches", "grouped 1x1", "1x1"],
)
@pytest.mark.parametrize("activation", ["relu", "topk", "jumprelu"])
def test_a_planted_latent_lights_where_its_pattern_is(tmp_path, build, layer, activation):
    """The latent's direction is the change that one patch makes to the layer's vector at that patch."""
    torch.manual_seed(0)
    network = base(build(), [layer], (64, 64))
    plain, planted = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    planted[:, :, 32:48, 16:32] = 4 * torch.randn(3, 16, 16)  # cell (2, 1) of 4 × 4
    with torch.no_grad():
        before, after = (network.maps(images, [layer])[layer] for images in (plain, planted))
    direction = (after - before)[0, :, 2, 1]
    units = network.unit_count(layer)
    rng = np.random.default_rng(3)
    arrays = {
        "W_enc": rng.normal(scale=1e-3, size=(units, 9)).astype(np.float32),
        "b_enc": np.full(9, 1e-3, np.float32),
        "b_dec": before[0, :, 2, 1].numpy(),
    }
    arrays["W_enc"][:, 4] = direction.numpy()
    arrays["b_enc"][4] = -0.7 * float(direction @ direction)
    extra = {"relu": {}, "topk": {"k": np.array(2)}, "jumprelu": {"threshold": np.zeros(9, np.float32)}}
    path = saved(tmp_path / "s.safetensors", {**arrays, **extra[activation]}, apply_b_dec_to_input="true")
    sae = read_sae(path, units, layer)
    target = DerivedTarget(network, (), [Derived(f"{layer}.sae", layer, sae.units, "s", sae)])
    assert target.layers == (f"{layer}.sae",)
    assert target.unit_count(f"{layer}.sae") == 9
    with torch.no_grad():
        latents = target.maps(torch.cat([plain, planted]), target.layers)[f"{layer}.sae"]
    assert latents.shape == (2, 9, 4, 4)
    assert latents[0, 4].max() == 0
    assert divmod(int(latents[1, 4].argmax()), 4) == (2, 1)
    assert int((latents[1, 4] > 0).sum()) == 1


def test_latents_of_logits_are_flat(tmp_path):
    torch.manual_seed(0)
    network = base(vit(), ["head"], (64, 64))
    arrays = tensors(channels=6)
    sae = read_sae(saved(tmp_path / "s.safetensors", arrays), 6, "head")
    target = DerivedTarget(network, ("head",), [Derived("head.sae", "head", sae.units, "s", sae)])
    assert target.layers == ("head", "head.sae")
    maps = target.maps(torch.randn(3, 3, 64, 64), ["head.sae", "head"])
    assert maps["head.sae"].shape == (3, LATENTS, 1, 1)
    np.testing.assert_allclose(maps["head.sae"], reference(maps["head"].numpy(), arrays, "relu"), atol=1e-4)
