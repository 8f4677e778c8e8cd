"""From the config to a target: device, network, units."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from labeler.config import TargetConfig, parse_units
from labeler.errors import ConfigError, UnknownNameError
from labeler.seams import Target
from labeler.targets.sources import open_source
from labeler.targets.target import ModuleTarget


def load_target(
    config: TargetConfig, *, seed: int, device: str = "auto", trust_code: Path | None = None
) -> ModuleTarget:
    """The network that `config` names, ready to give maps.

    Args:
        config: model, layers, units and weights.
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
    for layer in config.units:
        if layer not in config.layers:
            raise UnknownNameError("layer in target.layers", layer, config.layers)
    source = open_source(config, seed=seed, trust_code=trust_code)
    name = config.model if config.weights is None else f"{config.model} ({Path(config.weights).name} weights)"
    target = ModuleTarget(name, source.architecture, source.network, source.transform, config.layers, where)
    for layer in target.layers:
        chosen_units(target, config.units, layer)
    return target


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
    """The units of `layer` that the config asks for, ascending; all where it does not name the layer.

    Raises:
        UnknownNameError: when the target has no such layer.
        ConfigError: when the units are written wrongly or do not exist.
    """
    count = target.unit_count(layer)
    return parse_units(units[layer], count, layer) if layer in units else tuple(range(count))
