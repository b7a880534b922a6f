"""Complex vectors as real ones: D real numbers hold D/2 complex numbers, first half real, second imaginary."""

import torch
from jaxtyping import Float
from torch import Tensor

Reals = Float[Tensor, "*batch D"]


def complex_mul(a: Reals, b: Reals) -> Reals:
    """Elementwise complex product."""
    a_re, a_im = a.chunk(2, dim=-1)
    b_re, b_im = b.chunk(2, dim=-1)
    return torch.cat([a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re], dim=-1)


def conj(a: Reals) -> Reals:
    """Complex conjugate."""
    re, im = a.chunk(2, dim=-1)
    return torch.cat([re, -im], dim=-1)


def squared_moduli(a: Reals) -> Float[Tensor, "*batch D/2"]:
    """|z|^2 of each complex number."""
    re, im = a.chunk(2, dim=-1)
    return re * re + im * im


def modulus_sum(a: Reals) -> Float[Tensor, "*batch"]:
    """Sum of the moduli; zero differences have gradient zero, not NaN."""
    re, im = a.chunk(2, dim=-1)
    return (re * re + im * im).clamp_min(1e-30).sqrt().sum(dim=-1)
