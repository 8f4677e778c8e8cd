"""In which precision pictures are made where none is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16"]


def resolved(precision: Literal["auto", "float32", "bfloat16"], device: torch.device) -> Precision:
    """``auto`` is bfloat16 where the processor computes in it, and float32 elsewhere.

    Args:
        precision: what the config asks for.
        device: where the pictures are made.
    """
    if precision != "auto":
        return precision
    return "bfloat16" if _has_bfloat16(device) else "float32"


def _has_bfloat16(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":  # without instructions of its own it is emulated, slower than float32
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False
