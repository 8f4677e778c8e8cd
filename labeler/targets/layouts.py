"""From whatever a layer gives to activation maps (b, u, h, w).

The order of a layer's axes is found once, from a traced pass of `TRACE_BATCH` images, and then kept: at run
time a batch of 50 images and 50 tokens could not be told apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from labeler.errors import TargetError
from labeler.targets.hooks import Trace

TRACE_BATCH = 2
"""Images in the traced pass; two, so that (b, n, d) and (n, b, d) differ."""

MAX_PREFIX = 16
"""Most class and register tokens in front of the patches (DINOv2 with registers has 5)."""

_REDUCTIONS = (1, 2, 4, 8, 16)
"""By how much later stages may merge the patches of the convolution that made them (Swin, PVT: 8)."""

Axes = Literal["bchw", "bhwc", "bnd", "nbd", "bd"]


@dataclass(frozen=True)
class Layout:
    """How to read a layer's output.

    Token layers drop `prefix` tokens in front; the others lie row by row on the grid of the convolution
    `patches` divided by `reduction`, rounded up.
    """

    axes: Axes
    units: int
    prefix: int = 0
    patches: str = ""
    reduction: int = 1


def find_layout(
    traced: Trace, input_size: tuple[int, int], wider: Callable[[], tuple[int, ...] | None]
) -> Layout:
    """The layout of a traced layer.

    Args:
        traced: the layer in a pass over `TRACE_BATCH` images.
        input_size: (h, w) of those images.
        wider: gives the layer's shape for images of the same height and greater width, or None where the
            network takes one size only; asked for when the shape alone is ambiguous.

    Raises:
        TargetError: when the output is not a batch of maps, tokens or vectors.
    """
    shape = traced.shape
    if len(shape) == 2 and shape[0] == TRACE_BATCH:
        return Layout("bd", shape[1])
    if len(shape) == 4 and shape[0] == TRACE_BATCH:
        return _map_layout(traced, input_size, wider)
    if len(shape) == 3 and TRACE_BATCH in shape[:2]:
        return _token_layout(traced)
    raise _unreadable(traced.path, shape)


def to_maps(raw: torch.Tensor, layout: Layout, layer: str, patches: torch.Tensor | None) -> torch.Tensor:
    """Activation maps ``(b, u, h, w)``, float32, a view of `raw` where that is possible.

    `patches` is the output of the convolution that `layout.patches` names.

    Raises:
        TargetError: when `raw` does not fit the layout.
    """
    if layout.axes == "bd" and raw.ndim == 2:
        return raw[:, :, None, None].float()  # (b, u, 1, 1)
    if layout.axes == "bchw" and raw.ndim == 4:
        return raw.float()
    if layout.axes == "bhwc" and raw.ndim == 4:
        return raw.permute(0, 3, 1, 2).float()
    if raw.ndim != 3:
        raise _unreadable(layer, tuple(raw.shape))
    tokens = (raw.transpose(0, 1) if layout.axes == "nbd" else raw)[:, layout.prefix :]  # (b, n, u)
    if patches is None:
        height = width = 1
    else:
        height, width = _reduced(tuple(patches.shape[-2:]), layout.reduction)
    if tokens.shape[1] != height * width:
        raise _unreadable(layer, tuple(raw.shape))
    batch, _, units = tokens.shape
    return tokens.reshape(batch, height, width, units).permute(0, 3, 1, 2).float()


def _map_layout(
    traced: Trace, input_size: tuple[int, int], wider: Callable[[], tuple[int, ...] | None]
) -> Layout:
    _, second, third, fourth = traced.shape
    channels_first = Layout("bchw", second)
    channels_last = Layout("bhwc", fourth)
    first_fits = _has_aspect(third, fourth, input_size)
    last_fits = _has_aspect(second, third, input_size)
    if first_fits and last_fits and second * third * fourth > 1:
        other = wider()  # the axis that grows with the width of the image is w
        if other is not None and len(other) == 4:
            first_fits, last_fits = other[3] != fourth, other[2] != third
        if first_fits == last_fits:
            raise TargetError(
                f"Layer {traced.path} gives a tensor of shape {list(traced.shape)}, of which labeler cannot "
                "tell which axis holds the units; choose another layer."
            )
    if first_fits == last_fits and second * third * fourth > 1:
        raise _unreadable(traced.path, traced.shape)
    return channels_first if first_fits else channels_last


def _token_layout(traced: Trace) -> Layout:
    batch_first = traced.shape[0] == TRACE_BATCH
    axes: Axes = "bnd" if batch_first else "nbd"
    count, units = traced.shape[1 if batch_first else 0], traced.shape[2]
    if count == 1:  # a class token alone, as in class attention
        return Layout(axes, units)
    for reduction in _REDUCTIONS:
        # Merged stages have no tokens in front except, in some, one class token.
        allowed = MAX_PREFIX if reduction == 1 else 1
        for path, shape in reversed(traced.convolutions):
            height, width = _reduced(shape[-2:], reduction)
            if height * width > 1 and 0 <= count - height * width <= allowed:
                return Layout(axes, units, count - height * width, path, reduction)
    raise TargetError(
        f"Layer {traced.path} gives {count} tokens, which lie on no grid of patches that a convolution made "
        f"(shape {list(traced.shape)}); choose another layer."
    )


def _reduced(size: tuple[int, ...], reduction: int) -> tuple[int, int]:
    return -(-size[0] // reduction), -(-size[1] // reduction)


def _has_aspect(height: int, width: int, input_size: tuple[int, int]) -> bool:
    """Whether height × width is the input's shape made smaller, up to the rounding of one cell."""
    return abs(height * input_size[1] - width * input_size[0]) < max(input_size)


def _unreadable(layer: str, shape: tuple[int, ...]) -> TargetError:
    return TargetError(
        f"Layer {layer} gives a tensor of shape {list(shape)}, which is no batch of maps, tokens or vectors; "
        "choose another layer."
    )
