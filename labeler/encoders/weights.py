"""Reading weights without running anything that they contain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import EncoderError

if TYPE_CHECKING:
    import torch


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The named tensors of a safetensors file or of a PyTorch checkpoint (``weights_only``, no fallback).

    A checkpoint may keep its tensors under ``state_dict``, each with the prefix ``module.``, as open_clip's
    training writes them.

    Raises:
        EncoderError: when the file is missing, or is anything but named tensors.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise EncoderError(f"There is no weights file at {path}; give the path of a safetensors file.")
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise EncoderError(f"{path} is not a whole safetensors file ({error}); copy it again.") from None
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError):
        raise EncoderError(
            f"{path} holds more than plain tensors or is torn; convert it to safetensors."
        ) from None
    tensors = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(tensors, dict) or not all(
        isinstance(value, torch.Tensor) for value in tensors.values()
    ):
        raise EncoderError(f"{path} is not a state dict; save model.state_dict() to a safetensors file.")
    return {str(name).removeprefix("module."): value for name, value in tensors.items()}


def copy_in_order(model: torch.nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Load tensors into a model whose own tensors have other names but the same shapes in the same order.

    Raises:
        EncoderError: when a shape or the number of tensors differs.
    """
    own = model.state_dict()
    shapes = [tuple(value.shape) for value in own.values()]
    if shapes != [tuple(value.shape) for value in tensors.values()]:
        raise EncoderError(f"{path} does not hold the weights of this architecture; reinstall its package.")
    model.load_state_dict(dict(zip(own, tensors.values(), strict=True)))
