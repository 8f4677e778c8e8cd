"""Weights of a file into a network, every tensor or none."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from labeler.errors import TargetError


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
