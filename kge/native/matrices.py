"""Vectors by the matrices of their relations, with entries of each row's own matrix dropped; none is copied.

    y_b = x_b (kept_b * M_r(b))        or  (kept_b * M_r(b)) x_b  when transposed
    dM_r = sum over the rows b of r of  kept_b * (left_b right_b^T)

Shapes  B rows, R matrices of D x D numbers.
"""

from typing import Any, no_type_check

import numpy as np
from numba import njit

from kge.native import CACHED, FAST

_ZERO = np.float32(0)


@no_type_check
@njit(cache=CACHED, nogil=True, fastmath=FAST)
def products(first: int, last: int, vectors: Any, matrices: Any, r: Any, kept: Any, transposed: bool, out: Any) -> None:
    """Products of a part of the rows."""
    dim = vectors.shape[1]
    for b in range(first, last):
        x, matrix, mask, y = vectors[b], matrices[r[b]], kept[b], out[b]
        if transposed:
            for i in range(dim):
                total = _ZERO
                for j in range(dim):
                    total += x[j] * (matrix[i, j] if mask[i, j] else _ZERO)
                y[i] = total
        else:
            y[:] = _ZERO
            for i in range(dim):
                for j in range(dim):
                    y[j] += x[i] * (matrix[i, j] if mask[i, j] else _ZERO)


@no_type_check
@njit(cache=CACHED, nogil=True, fastmath=FAST)
def add_outer(first: int, last: int, left: Any, right: Any, order: Any, ends: Any, kept: Any, out: Any) -> None:
    """Add what a part of the relations has of rows; those of relation r are order[ends[r - 1] : ends[r]]."""
    dim = left.shape[1]
    for r in range(first, last):
        for at in range(ends[r - 1] if r else 0, ends[r]):
            b = order[at]
            x, y, mask, matrix = left[b], right[b], kept[b], out[r]
            for i in range(dim):
                for j in range(dim):
                    matrix[i, j] += x[i] * y[j] if mask[i, j] else _ZERO
