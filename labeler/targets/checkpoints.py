"""Local weight files: safetensors, or a checkpoint of plain tensors. Nothing in a file is ever executed."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labeler.errors import TargetError

_WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema")
_PREFIXES = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, or of a PyTorch checkpoint read with ``weights_only=True``.

    Common wrappers (``{"state_dict": …}``, ``module.`` before every name) are taken off.

    Raises:
        TargetError: when the file is missing, is no checkpoint, or would run code when loaded.
    """
    if not path.is_file():
        raise TargetError(f"There is no weight file at {path}; correct target.weights.")
    data = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    for wrapper in _WRAPPERS:
        if isinstance(data, Mapping) and isinstance(data.get(wrapper), Mapping):
            data = data[wrapper]
            break
    if not isinstance(data, Mapping) or not data or not all(_is_weight(*item) for item in data.items()):
        raise TargetError(f"{path} holds no state dict; save model.state_dict() as safetensors.")
    state = dict(data)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def load_strictly(network: nn.Module, state: Mapping[str, torch.Tensor], file: str, model: str) -> None:
    """Put `state` into `network`; every tensor must be there and fit.

    Raises:
        TargetError: naming what is missing, unexpected or of another shape.
    """
    own = network.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # absent from old files
    missing = [name for name in own if name not in state and name not in counters]
    unexpected = [name for name in state if name not in own]
    shapes = [name for name in own if name in state and own[name].shape != state[name].shape]
    problems = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    found = [f"{len(names)} {what}, first {names[0]}" for what, names in problems if names]
    if found:
        raise TargetError(f"{file} does not fit {model}: tensors {'; '.join(found)}.")
    network.load_state_dict({**{name: own[name] for name in counters}, **state})


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise TargetError(f"{path} is not a safetensors file: {_one_line(error)}.") from None


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "nsupported" in str(error) or "global" in str(error).lower():
            raise TargetError(
                f"{path} was refused, because it wants to run code when it is loaded; "
                "convert its state dict to safetensors."
            ) from None
        raise TargetError(f"{path} is not a PyTorch checkpoint; give safetensors.") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError):
        raise TargetError(f"{path} is damaged or not a PyTorch checkpoint; give safetensors.") from None


def _is_weight(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, torch.Tensor)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
