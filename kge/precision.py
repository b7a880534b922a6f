"""In which precision CUDA multiplies float32 matrices: said where it matters, and given back afterwards.

Tensor cores take float32 factors as TF32, with 10 bits of mantissa in place of 23, and sum in float32. torch begins
without it in matrix products and with it in cuDNN's convolutions, and a program may have changed either: training
steps and rankings say what they need. What has no TF32, a CPU above all, computes in float32 whatever is said.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
