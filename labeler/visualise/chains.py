"""What a forward pass does right before and after its convolutions, learnt by looking on.

A convolution's own forward pass is a call of `torch.conv2d`, whatever module it is in; so no module has to be
known, and none is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from labeler.visualise.rectifier import rectifier_range


@dataclass(frozen=True)
class Call:
    """The arguments of a convolution beside its input and weight."""

    bias: torch.Tensor | None
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


@dataclass(frozen=True)
class Norm:
    """Batch normalisation by fixed statistics."""

    mean: torch.Tensor
    variance: torch.Tensor
    weight: torch.Tensor | None
    bias: torch.Tensor | None
    epsilon: float


@dataclass
class Chain:
    """A convolution, and what is next to it and has no other use.

    Attributes:
        weight: of the convolution.
        call: how it is called.
        pad: zeros put around its input before it: (left, right, top, bottom).
        padding: the place of that among the pass's calls of `pad`.
        norm: what follows it.
        clamp: the range of the rectifier that follows that.
        broken: something between has another use, or the convolution runs twice.
    """

    weight: torch.Tensor
    call: Call
    pad: tuple[int, ...] = (0, 0, 0, 0)
    padding: int | None = None
    norm: Norm | None = None
    clamp: tuple[float, float] | None = None
    broken: bool = False


@dataclass
class _Seen:
    """A tensor of the pass; it is kept, so that its identity stays its own."""

    tensor: torch.Tensor
    chain: Chain | None = None
    pad: tuple[int, ...] = ()
    padding: int = 0
    followed: bool = False
    used: bool = False


class Learner(TorchFunctionMode):
    """Looks on at a pass. `chains` are by the identity of their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.chains: dict[int, Chain] = {}
        self._seen: dict[int, _Seen] = {}
        self._paddings = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call everything as it is, and take notes."""
        kwargs = kwargs or {}
        sources = [self._seen[id(item)] for item in _tensors((args, kwargs)) if id(item) in self._seen]
        result = func(*args, **kwargs)
        if isinstance(result, torch.Tensor):  # a shape or a type tells nothing of the values
            self._note(func, args, kwargs, sources, result)
        return result

    def _note(self, func: Any, args: Any, kwargs: Any, sources: list[_Seen], result: torch.Tensor) -> None:
        first = sources[0] if len(sources) == 1 and args and args[0] is sources[0].tensor else None
        call = convolution_call(func, args, kwargs)
        followed = first is not None and first.chain is not None and _follow(first.chain, func, args, kwargs)
        padded = call is not None and first is not None and bool(first.pad)
        for seen in sources:
            seen.followed |= followed or padded
            seen.used |= not (followed or padded)
            self._break_if_shared(seen)
        if followed and first is not None:
            self._seen[id(result)] = _Seen(result, first.chain)
        elif call is not None:
            chain = self._begin(args[1], call)
            if padded and first is not None:
                chain.pad, chain.padding = first.pad, first.padding
                first.chain = chain
                self._break_if_shared(first)
            self._seen[id(result)] = _Seen(result, chain)
        elif func is functional.pad:
            pad = _zeros_around(*args, **kwargs)
            self._seen[id(result)] = _Seen(result, pad=pad, padding=self._paddings)
            self._paddings += 1

    def _begin(self, weight: torch.Tensor, call: Call) -> Chain:
        again = id(weight) in self.chains
        chain = self.chains.setdefault(id(weight), Chain(weight, call))
        chain.broken |= again
        return chain

    def _break_if_shared(self, seen: _Seen) -> None:
        """What is done together must have no other use."""
        if seen.chain is not None and seen.followed and seen.used:
            seen.chain.broken = True


def _follow(chain: Chain, func: Any, args: Any, kwargs: Any) -> bool:
    """Note the function in the chain if it can be done together with its convolution."""
    if chain.clamp is not None:
        return False
    if func is functional.batch_norm and chain.norm is None:
        chain.norm = _norm(*args, **kwargs)
        return chain.norm is not None
    chain.clamp = rectifier_range(func, kwargs)
    return chain.clamp is not None


def _norm(
    inputs: Any, mean: Any, variance: Any, weight: Any = None, bias: Any = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Norm | None:  # fmt: skip
    """The arguments of `torch.nn.functional.batch_norm`, if it normalises by fixed statistics."""
    return None if training or mean is None else Norm(mean, variance, weight, bias, eps)


def _zeros_around(
    inputs: torch.Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> tuple[int, ...]:
    """The arguments of `torch.nn.functional.pad`, if it puts zeros around images; else nothing."""
    plain = mode == "constant" and not value and inputs.dim() == 4 and len(pad) == 4 and min(pad) >= 0
    return tuple(pad) if plain else ()


def convolution_call(func: Any, args: Any, kwargs: Any) -> Call | None:
    """The arguments of a convolution of images whose weight needs no gradient, if it is one."""
    if func is not torch.conv2d or len(args) < 2 or args[0].dim() != 4 or args[1].requires_grad:
        return None
    names = ("bias", "stride", "padding", "dilation", "groups")
    given = {**dict(zip(names, args[2:], strict=False)), **kwargs}
    if isinstance(given.get("padding"), str):
        return None
    return Call(
        given.get("bias"), _pair(given.get("stride", 1)), _pair(given.get("padding", 0)),
        _pair(given.get("dilation", 1)), given.get("groups", 1),
    )  # fmt: skip


def _pair(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _tensors(item: Any) -> Iterator[torch.Tensor]:
    """The tensors in nested arguments."""
    if isinstance(item, torch.Tensor):
        yield item
    elif isinstance(item, tuple | list):
        for part in item:
            yield from _tensors(part)
    elif isinstance(item, dict):
        yield from _tensors(tuple(item.values()))
