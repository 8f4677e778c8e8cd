"""Local weight files: safetensors, or a checkpoint of plain tensors. Nothing in a file is ever executed."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

    from labeler.errors import LabelerError

_WRAPPERS: Final = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema")
_PREFIXES: Final = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile


def read_weights(path: Path, failure: type[LabelerError]) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, or of a PyTorch checkpoint read with ``weights_only=True``.

    Common wrappers (``{"state_dict": …}``, ``module.`` before every name) are taken off.

    Args:
        path: the file.
        failure: the kind of error to raise: what the weights are for.

    Raises:
        LabelerError: a `failure`, when the file is missing, is no checkpoint, or would run code when loaded.
    """
    if not path.is_file():
        raise failure(f"There is no weight file at {path}; give the path of a safetensors file.")
    data = _safetensors(path, failure) if path.suffix == ".safetensors" else _checkpoint(path, failure)
    for wrapper in _WRAPPERS:
        if isinstance(data, Mapping) and isinstance(data.get(wrapper), Mapping):
            data = data[wrapper]
            break
    if not isinstance(data, Mapping) or not data or not all(_is_weight(*item) for item in data.items()):
        raise failure(f"{path} holds no state dict; save model.state_dict() as safetensors.")
    state = dict(data)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def read_array(path: Path) -> Any:
    """What `numpy.load` makes of a file: an array or an archive of some; None of all else, pickles too."""
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except Exception:  # beside ValueError: BadZipFile, TokenError, TypeError, MemoryError, as the bytes will
        return None


def _safetensors(path: Path, failure: type[LabelerError]) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise failure(f"{path} is not a whole safetensors file: {_one_line(error)}.") from None


def _checkpoint(path: Path, failure: type[LabelerError]) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what the unpickler's steps raise on bytes that nobody wrote
        if _wants_code(error):
            raise failure(
                f"{path} was refused, because it wants to run code when it is loaded; "
                "convert its state dict to safetensors."
            ) from None
        raise failure(f"{path} is damaged or not a PyTorch checkpoint; give safetensors.") from None


def _wants_code(error: Exception) -> bool:
    """Whether torch refused a checkpoint for what is in it: a global, or a form that always carries code."""
    if isinstance(error, pickle.UnpicklingError):
        return "nsupported" in str(error) or "global" in str(error).lower()
    return isinstance(error, RuntimeError) and "weights_only" in str(error)  # TorchScript, the oldest tar


def _is_weight(name: object, value: object) -> bool:
    import torch

    return isinstance(name, str) and isinstance(value, torch.Tensor)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
