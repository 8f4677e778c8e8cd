"""A way out for units that are silent at the start: gradients through closed rectifiers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

RECTIFIERS: Final[dict[Callable[..., Any], float]] = {
    functional.relu: math.inf,
    functional.relu6: 6.0,
    torch.relu: math.inf,
    torch.relu_: math.inf,
    torch.Tensor.relu: math.inf,
    torch.Tensor.relu_: math.inf,
}
"""Functions that clamp between 0 and a ceiling, and their ceilings."""


def rectifier_range(func: Callable[..., Any], kwargs: Any) -> tuple[float, float] | None:
    """What a call clamps its first argument to, if it is a ReLU or one with a ceiling."""
    if func is functional.hardtanh and kwargs.get("min_val") == 0:  # how nn.ReLU6 calls it
        return 0.0, float(kwargs["max_val"])
    return (0.0, RECTIFIERS[func]) if func in RECTIFIERS else None


class OpenRectifiers(TorchFunctionMode):
    """Within it, a ReLU or ReLU6 that would stop a picture's whole gradient lets through what would open it.

    Source: lucid's `redirected_relu_grad`. A unit whose map is zero everywhere on the starting picture would
    otherwise never leave it. The gradient must be that of a loss (smaller is better).
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Replace the rectifiers and call everything else as it is."""
        kwargs = kwargs or {}
        limits = rectifier_range(func, kwargs)
        if limits is not None and args:
            return _OpenRectifier.apply(args[0], limits[1])
        return func(*args, **kwargs)


class _OpenRectifier(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, ceiling: float) -> torch.Tensor:
        outputs = inputs.clamp(min=0, max=ceiling)
        ctx.save_for_backward(outputs)
        ctx.ceiling = ceiling
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (outputs,) = ctx.saved_tensors
        gradient = gradients[0]
        low, high = outputs <= 0, outputs >= ctx.ceiling
        usual = gradient.masked_fill(low | high, 0)
        silent_b = (usual.flatten(1) == 0).all(dim=1).view(-1, *[1] * (gradient.dim() - 1))
        opening = (low & (gradient < 0)) | (high & (gradient > 0))
        return torch.where(silent_b & opening, gradient, usual), None
