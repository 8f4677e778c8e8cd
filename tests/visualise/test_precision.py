import pytest
import torch

from labeler.visualise.precision import resolved

CPU = torch.device("cpu")


@pytest.mark.parametrize("asked", ["float32", "bfloat16"])
def test_what_is_asked_for_is_taken(asked):
    assert resolved(asked, CPU) == asked


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True, "avx512_bf16": False}, "bfloat16"),
        ({"avx512_f": True, "avx512_bf16": False}, "float32"),
        ({"architecture": "aarch64"}, "float32"),
    ],
)
def test_auto_is_what_the_processor_computes_in(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolved("auto", CPU) == expected


def test_elsewhere_auto_is_float32():
    assert resolved("auto", torch.device("mps")) == "float32"
