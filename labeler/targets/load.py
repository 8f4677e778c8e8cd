"""From the config to a target: device, network, units."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from labeler.config import TargetConfig, parse_units
from labeler.errors import ConfigError, UnknownNameError
from labeler.seams import Target
from labeler.storage import file_sha256, fingerprint
from labeler.targets.derived import Derived, DerivedTarget, negative_side
from labeler.targets.directions import read_directions, read_names
from labeler.targets.sae import read_sae
from labeler.targets.sources import open_source
from labeler.targets.target import ModuleTarget


def load_target(
    config: TargetConfig, *, seed: int, device: str = "auto", trust_code: Path | None = None
) -> Target:
    """The network that `config` names, ready to give maps; SAE latents, directions, negative sides included.

    Args:
        config: model, layers, units, weights, and what is derived from the layers.
        seed: draws the weights where ``config.weights`` is ``random``.
        device: ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:N``.
        trust_code: the one Python file whose code a ``file:`` model may run.

    Raises:
        ConfigError: for a device that is not there, or units that a layer does not have.
        TargetError: when the network, its weights or a layer's output cannot be used.
        UnknownNameError: for a model, weights or layer that does not exist.
        MissingExtraError: when a builtin's package is not installed.
    """
    where = resolve_device(device)
    for layer in (*config.units, *config.negative):
        if layer not in config.every_layer:
            raise UnknownNameError("layer in target.layers", layer, config.every_layer)
    source = open_source(config, seed=seed, trust_code=trust_code)
    name = config.model if config.weights is None else f"{config.model} ({Path(config.weights).name} weights)"
    paths = list(dict.fromkeys((*config.modules, *config.sae, *config.directions)))
    network = ModuleTarget(name, source.architecture, source.network, source.transform, paths, where)
    target = _with_derived(network, config)
    counts = [len(chosen_units(target, config.units_by_side, layer)) for layer in target.layers]
    if not sum(counts):
        raise ConfigError("The config asks for no unit; name some in target.units or target.negative.")
    return target


def unit_names(config: TargetConfig) -> dict[str, tuple[str, ...]]:
    """The names of named units by layer; layers without names are not there.

    Raises:
        TargetError: when a file of names does not fit its directions.
    """
    found = {f"{layer}.directions": read_names(Path(file)) for layer, file in config.directions.items()}
    return {layer: names for layer, names in found.items() if names}


def _with_derived(network: ModuleTarget, config: TargetConfig) -> Target:
    derived: list[Derived] = []
    for layer, file in config.sae.items():
        sae = read_sae(Path(file), network.unit_count(layer), layer).to(network.device)
        key = fingerprint("sae", 1, file_sha256(Path(file)))
        derived.append(Derived(f"{layer}.sae", layer, sae.units, key, sae))
    for layer, file in config.directions.items():
        directions = read_directions(Path(file), network.unit_count(layer), layer).to(network.device)
        key = fingerprint("directions", 1, file_sha256(Path(file)), read_names(Path(file)))
        derived.append(Derived(f"{layer}.directions", layer, directions.units, key, directions))
    counts = {item.name: item.units for item in derived}
    derived += [
        negative_side(layer, counts.get(layer) or network.unit_count(layer)) for layer in config.negative
    ]
    return DerivedTarget(network, config.modules, derived) if derived else network


def resolve_device(device: str) -> torch.device:
    """The torch device that `device` names; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: when the name is unknown or this machine has no such device.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise ConfigError(f"executor.device is auto, cpu, mps, cuda or cuda:N, not {device!r}.")
    there = {"cpu": 1, "cuda": torch.cuda.device_count() if cuda else 0, "mps": int(mps)}[kind]
    if int(index or 0) >= there:
        raise ConfigError(f"This machine has no device {device}; set executor.device to auto.")
    return torch.device(device)


def chosen_units(target: Target, units: Mapping[str, str], layer: str) -> tuple[int, ...]:
    """The units of `layer` that `units` asks for, ascending; all where it does not name the layer.

    Raises:
        UnknownNameError: when the target has no such layer.
        ConfigError: when the units are written wrongly or do not exist.
    """
    count = target.unit_count(layer)
    return parse_units(units[layer], count, layer) if layer in units else tuple(range(count))
