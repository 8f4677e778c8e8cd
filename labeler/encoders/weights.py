"""Weights that another code base saved, into the same architecture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import EncoderError

if TYPE_CHECKING:
    import torch


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
