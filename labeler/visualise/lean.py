"""A forward pass of the same network with less to do, for a gradient that only its input needs.

Batch normalisation in evaluation mode is folded into the convolution before it, the rectifier after it works
in place, zeros around an input are not written, and nothing is kept for gradients that nobody asks for. All
this is done by taking over function calls inside a `with` block; no module is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from labeler.visualise.chains import Chain, Learner, Norm
from labeler.visualise.rectifier import rectifier_range

Forward = Callable[[torch.Tensor], torch.Tensor]

_AGREEMENT = 1e-3  # of two float32 passes, as a share of the size of the maps


def learn(forward: Forward, images_bchw: torch.Tensor, dtype: torch.dtype = torch.float32) -> LeanPass | None:
    """A lean way to run `forward`, or None where there is nothing to gain or the results would differ.

    Args:
        forward: images to maps; it is called a few times.
        images_bchw: images to look on with; their values do not matter.
        dtype: of the convolutions.
    """
    learner = Learner()
    with torch.no_grad(), learner:
        expected = forward(images_bchw)
    chains = {key: chain for key, chain in learner.chains.items() if not chain.broken}
    if not chains:
        return None
    with torch.no_grad():
        full = LeanPass({key: _Plan(chain, torch.float32) for key, chain in chains.items()})
        with full:
            found = forward(images_bchw)
        if not torch.allclose(found, expected, rtol=0, atol=_AGREEMENT * float(expected.abs().amax())):
            return None
        if dtype == torch.float32:
            return full
        return LeanPass({key: _Plan(chain, dtype) for key, chain in chains.items()})


class LeanPass(TorchFunctionMode):
    """Within it, the convolutions of the plans are done together with what is next to them."""

    def __init__(self, plans: Mapping[int, _Plan]) -> None:
        super().__init__()
        self._plans = plans
        self._not_padded = {plan.chain.padding for plan in plans.values()}
        self._paddings = 0
        self._waiting: dict[int, tuple[torch.Tensor, _Plan, bool]] = {}

    def __enter__(self) -> LeanPass:
        """Begin a pass."""
        self._paddings = 0
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        """Let go of the pass's tensors."""
        self._waiting.clear()
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Do what was planned and call everything else as it is."""
        kwargs = kwargs or {}
        if func is torch.conv2d and id(args[1]) in self._plans:
            plan = self._plans[id(args[1])]
            outputs = _Convolution.apply(args[0], plan)
            self._waiting[id(outputs)] = (outputs, plan, plan.chain.norm is not None)
            return outputs
        if func is functional.pad:
            self._paddings += 1
            return args[0] if self._paddings - 1 in self._not_padded else func(*args, **kwargs)
        waiting = self._waiting.get(id(args[0])) if args else None
        if waiting is not None:
            outputs, plan, normed = waiting
            if normed and func is functional.batch_norm:
                self._waiting[id(outputs)] = (outputs, plan, False)
                return outputs
            clamp = plan.chain.clamp
            if not normed and clamp is not None and rectifier_range(func, kwargs) == clamp:
                del self._waiting[id(outputs)]
                return outputs
        return func(*args, **kwargs)


class _Plan:
    """A convolution with what is next to it, ready to be computed."""

    def __init__(self, chain: Chain, dtype: torch.dtype) -> None:
        call, weight, bias = chain.call, chain.weight.float(), chain.call.bias
        if chain.norm is not None:
            weight, bias = _folded(weight, bias, chain.norm)
        on_cpu = weight.device.type == "cpu"
        self.chain, self.call = chain, call
        self.layout = torch.channels_last if _is_last(chain.weight) else torch.contiguous_format
        self.weight = weight.to(dtype).contiguous(memory_format=self.layout)
        self.bias = None if bias is None else bias.to(dtype)
        self.padding, self.skip = zip(*(_even_padding(chain, axis) for axis in (0, 1)), strict=True)
        # oneDNN's backward kernels of depthwise and pointwise convolutions are slower than its forward ones.
        # With stride 1, the gradient is such a convolution itself.
        depthwise = call.groups == weight.shape[0] and weight.shape[1] == 1
        pointwise = call.groups == 1 and weight.shape[2:] == (1, 1)
        self.back: torch.Tensor | None = None
        if on_cpu and {*call.stride, *call.dilation} == {1} and (depthwise or pointwise):
            back = weight.flip(2, 3) if depthwise else weight.transpose(0, 1)
            self.back = back.to(dtype).contiguous(memory_format=self.layout)
        self.back_padding = [side - 1 - pad for side, pad in zip(weight.shape[2:], self.padding, strict=True)]
        # And it has none for a depthwise one of a greater stride in bfloat16.
        slow = on_cpu and dtype == torch.bfloat16 and call.groups > 1
        self.strided_back = weight.contiguous(memory_format=self.layout) if slow else self.weight


def _even_padding(chain: Chain, axis: int) -> tuple[int, int]:
    """Padding that is equal on both sides, and how many of the first outputs it has too many.

    TensorFlow pads more at the end. Outputs that are cut off cost less than zeros that are written: with a
    stride of 2, an output has a quarter of its input's positions.
    """
    call = chain.call
    before, after = (chain.pad[2 - 2 * axis + end] + call.padding[axis] for end in (0, 1))
    skip = -(-max(after - before, 0) // call.stride[axis])
    return before + skip * call.stride[axis], skip


def _folded(weight: torch.Tensor, bias: torch.Tensor | None, norm: Norm) -> tuple[torch.Tensor, torch.Tensor]:
    scale_c = torch.rsqrt(norm.variance + norm.epsilon)
    if norm.weight is not None:
        scale_c = scale_c * norm.weight
    shift_c = (-norm.mean if bias is None else bias - norm.mean) * scale_c
    if norm.bias is not None:
        shift_c = shift_c + norm.bias
    return weight * scale_c.view(-1, 1, 1, 1), shift_c


def _is_last(tensor: torch.Tensor) -> bool:
    return tensor.is_contiguous(memory_format=torch.channels_last)


class _Convolution(torch.autograd.Function):
    """Keeps its output where that is clamped, and nothing else."""

    @staticmethod
    def forward(ctx: Any, inputs_bchw: torch.Tensor, plan: _Plan) -> torch.Tensor:
        call, clamp = plan.call, plan.chain.clamp
        outputs_bkhw = torch.conv2d(
            inputs_bchw.to(plan.weight.dtype), plan.weight, plan.bias, call.stride, plan.padding,
            call.dilation, call.groups,
        )  # fmt: skip
        ctx.plan, ctx.shape, ctx.dtype = plan, inputs_bchw.shape, inputs_bchw.dtype
        ctx.cut = [
            (skip, whole - skip - size)
            for skip, whole, size in zip(
                plan.skip, outputs_bkhw.shape[2:], _output_size(plan.chain, inputs_bchw), strict=True
            )
        ]
        for axis, (first, last) in enumerate(ctx.cut):
            size = outputs_bkhw.shape[2 + axis] - first - last
            outputs_bkhw = outputs_bkhw.narrow(2 + axis, first, size)
        if clamp is not None:
            outputs_bkhw.clamp_(*clamp)
            ctx.save_for_backward(outputs_bkhw)
        return outputs_bkhw

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        plan, call, gradient = ctx.plan, ctx.plan.call, gradients[0]
        if plan.chain.clamp is not None:
            (outputs_bkhw,) = ctx.saved_tensors
            gradient = torch.ops.aten.hardtanh_backward(gradient, outputs_bkhw, *plan.chain.clamp)
        (top, bottom), (left, right) = ctx.cut
        if top or bottom or left or right:
            gradient = functional.pad(gradient, (left, right, top, bottom))
        if plan.back is not None:
            back = torch.conv2d(gradient, plan.back, None, 1, plan.back_padding, 1, call.groups)
            return back.to(ctx.dtype), None
        weight = plan.strided_back
        gradient = gradient.to(weight.dtype)
        shaped = torch.empty(  # only its shape and layout are read
            ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=plan.layout
        )
        back = torch.ops.aten.convolution_backward(
            gradient, shaped, weight, None, call.stride, plan.padding, call.dilation, False, [0, 0],
            call.groups, [True, False, False],
        )[0]  # fmt: skip
        return back.to(ctx.dtype), None


def _output_size(chain: Chain, inputs_bchw: torch.Tensor) -> list[int]:
    """(h, w) of what the convolution gives with its own padding."""
    call, pad = chain.call, chain.pad
    sizes = []
    for axis, side in enumerate(inputs_bchw.shape[2:]):
        padded = side + sum(pad[2 - 2 * axis : 4 - 2 * axis]) + 2 * call.padding[axis]
        reach = call.dilation[axis] * (chain.weight.shape[2 + axis] - 1) + 1
        sizes.append((padded - reach) // call.stride[axis] + 1)
    return sizes
