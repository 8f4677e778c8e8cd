"""Forward hooks: what a forward pass does to chosen modules, and their outputs without the rest of the pass.

Hooks are removed on every way out, exceptions included.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from labeler.errors import TargetError

_WEIGHTED = (nn.Conv2d, nn.Linear)


class _StopForwardError(Exception):
    """Raised inside a hook once nothing further is needed; never leaves this module."""


@dataclass(frozen=True)
class Trace:
    """What one complete forward pass did to a module.

    `calls`: how often it ran (a shared ReLU runs several times; its last output counts). `mutated`: whether
    a later operation overwrote its output in place. `convolutions`: path and output shape of the
    convolutions that ran before its last call, in order.
    """

    path: str
    shape: tuple[int, ...]
    calls: int
    mutated: bool
    convolutions: tuple[tuple[str, tuple[int, ...]], ...]


def trace(network: nn.Module, images_bchw: torch.Tensor, paths: Sequence[str]) -> list[Trace]:
    """Run the whole network once and describe `paths`, in the order in which the pass last reaches them.

    Raises:
        TargetError: when a module never runs, or gives no tensor.
    """
    convolutions: list[tuple[str, tuple[int, ...]]] = []
    calls = dict.fromkeys(paths, 0)
    seen: dict[str, tuple[torch.Tensor, int, int]] = {}  # output, its version, convolutions so far

    def note_convolution(path: str, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            convolutions.append((path, tuple(output.shape)))

    def note_layer(path: str, output: Any) -> None:
        tensor = first_tensor(output, path)
        calls[path] += 1
        seen.pop(path, None)  # so that the order of `seen` is that of the last calls
        seen[path] = (tensor, tensor._version, len(convolutions))

    hooks = [(p, note_convolution) for p, m in network.named_modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad(), _hooked(network, [*hooks, *((path, note_layer) for path in paths)]):
        network(images_bchw)
    for path in paths:
        if path not in seen:
            raise TargetError(f"Layer {path} never runs in a forward pass; choose another layer.")
    return [
        Trace(path, tuple(tensor.shape), calls[path], tensor._version != version, tuple(convolutions[:count]))
        for path, (tensor, version, count) in seen.items()
    ]


def weighted_before(network: nn.Module, images_bchw: torch.Tensor, path: str) -> list[str]:
    """Convolutions and linear maps by the order in which they last ran before the one that computes `path`.

    That is `path` itself, or the last that runs before its output.
    """
    ran: list[str] = []
    before: list[str] = []

    def note(module: str, _output: Any) -> None:
        nonlocal before
        if module == path:
            before = ran[:] if isinstance(network.get_submodule(path), _WEIGHTED) else ran[:-1]
        if isinstance(network.get_submodule(module), _WEIGHTED):
            if module in ran:
                ran.remove(module)
            ran.append(module)

    paths = [name for name, module in network.named_modules() if isinstance(module, _WEIGHTED)]
    with torch.no_grad(), _hooked(network, [(name, note) for name in dict.fromkeys((*paths, path))]):
        network(images_bchw)
    return before


def capture(
    network: nn.Module, images_bchw: torch.Tensor, calls: Mapping[str, int], mutated: Collection[str] = ()
) -> dict[str, torch.Tensor]:
    """Outputs of the modules in `calls`, each from its `calls[path]`-th run; the pass stops after the last.

    Outputs in `mutated` are copied when the pass goes on, since it will overwrite them. Gradients flow when
    the caller's context allows them.

    Raises:
        TargetError: when a module did not run that often, or gives no tensor.
    """
    outputs: dict[str, torch.Tensor] = {}
    left = dict(calls)
    waiting = len(left)

    def keep(path: str, output: Any) -> None:
        nonlocal waiting
        left[path] -= 1
        if left[path] != 0:
            return
        waiting -= 1
        tensor = first_tensor(output, path)
        outputs[path] = tensor.clone() if waiting and path in mutated else tensor
        if not waiting:
            raise _StopForwardError

    with contextlib.suppress(_StopForwardError), _hooked(network, [(path, keep) for path in calls]):
        network(images_bchw)
    if waiting:
        missing = ", ".join(path for path in calls if path not in outputs)
        raise TargetError(f"Layer {missing} did not run for these images; choose another layer.")
    return outputs


def first_tensor(output: Any, layer: str) -> torch.Tensor:
    """The tensor that a module gives: itself, or the first one in a tuple, list or mapping.

    Raises:
        TargetError: when there is none.
    """
    if isinstance(output, torch.Tensor):
        return output
    parts = output.values() if isinstance(output, Mapping) else output
    if isinstance(output, Mapping | tuple | list):
        for part in parts:
            if isinstance(part, torch.Tensor):
                return part
    raise TargetError(
        f"Layer {layer} gives a {type(output).__name__} without a tensor; choose another layer."
    )


@contextlib.contextmanager
def _hooked(network: nn.Module, hooks: Sequence[tuple[str, Callable[[str, Any], None]]]) -> Iterator[None]:
    handles = []

    def register(path: str, note: Callable[[str, Any], None]) -> None:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            note(path, output)

        handles.append(network.get_submodule(path).register_forward_hook(hook))

    try:
        for path, note in hooks:
            register(path, note)
        yield
    finally:
        for handle in handles:
            handle.remove()
