"""In which precision a device multiplies matrices: float32 or TF32 on CUDA, and whether it knows bfloat16.

Tensor cores take float32 factors as TF32, with 10 bits of mantissa in place of 23, and sum in float32. torch begins
without it in matrix products and with it in cuDNN's convolutions, and a program may have changed either: training
steps and rankings say what they need, and give back what was set. What has no TF32, a CPU above all, computes in
float32 whatever is said; so does what has no bfloat16, where torch would go through loops that are many times slower.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")  # instructions for its products: two of x86, one of ARM


@contextmanager
def products(*, tf32: bool) -> Iterator[None]:
    """Matrix products and convolutions in TF32 inside or, without `tf32`, in float32."""
    settings = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [each.fp32_precision for each in settings]
    for each in settings:
        each.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        for each, was in zip(settings, before, strict=True):
            each.fp32_precision = was


def in_bfloat16(precision: str, device: str) -> bool:
    """Whether `training.precision` makes the device multiply in bfloat16."""
    return precision == "bfloat16" and has_bfloat16(device)


@cache
def has_bfloat16(device: str) -> bool:
    """Whether the device has instructions for products of bfloat16: not every AVX-512 has; NVIDIA's from Ampere on."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    processor = torch.cpu.get_capabilities()
    return torch.backends.mkldnn.is_available() and any(processor.get(name, False) for name in _BFLOAT16)
