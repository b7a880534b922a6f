"""Negated distances of every query to every entity, and their gradients; no vector is made for a pair.

    l1      s = - sum_d | x_d - y_d |                        ds/dx_d = - sign(x_d - y_d)
    l2      s = - ( sum_d (x_d - y_d)^2 )^(1/2)              ds/dx_d = (x_d - y_d) / s
    moduli  s = - sum_d ( u_d^2 + v_d^2 )^(1/2)              ds/dx_d = - (u_d, v_d) / (u_d^2 + v_d^2)^(1/2)
            with u and v the differences of real and of imaginary parts; ds/dy = - ds/dx

Where a difference is zero, so is its gradient. A tile of entities stays in the nearest cache while all queries meet it.

Shapes  query (B, D), table (E, D), scores and of_scores (B, E), of_table (E, D).
The gradients go through the entities in chunks of equal size. A chunk adds up its own part of the queries' gradients,
of_query (chunks, B, D), so that values depend on the chunks and not on who makes them. B is a multiple of ROWS there:
rows that share an entity share what is read and written of it.
"""

from typing import Any, no_type_check

import numpy as np
from numba import njit

from kge.native import CACHED, FAST

ROWS = 4

_HELD = 8192  # numbers of a tile: 32 KB
_ZERO = np.float32(0)
_TINY = np.float32(1e-30)  # squared moduli below it count as zero (kge.models.algebra)


@no_type_check
@njit(cache=CACHED, nogil=True, fastmath=FAST)
def l1(first: int, last: int, query: Any, table: Any, scores: Any) -> None:
    """Scores of a part of the queries."""
    tile = max(1, _HELD // query.shape[1])
    for start in range(0, len(table), tile):
        for b in range(first, last):
            x = query[b]
            for e in range(start, min(start + tile, len(table))):
                y, total = table[e], _ZERO
                for d in range(len(x)):
                    total += abs(x[d] - y[d])
                scores[b, e] = -total


@no_type_check
@njit(cache=CACHED, nogil=True, fastmath=FAST)
def l2(first: int, last: int, query: Any, table: Any, scores: Any) -> None:
    """Scores of a part of the queries."""
    tile = max(1, _HELD // query.shape[1])
    for start in range(0, len(table), tile):
        for b in range(first, last):
            x = query[b]
            for e in range(start, min(start + tile, len(table))):
                y, total = table[e], _ZERO
                for d in range(len(x)):
                    total += (x[d] - y[d]) * (x[d] - y[d])
                scores[b, e] = -np.sqrt(total)


@no_type_check
@njit(cache=CACHED, nogil=True, fastmath=FAST)
def moduli(first: int, last: int, query: Any, table: Any, scores: Any) -> None:
    """Scores of a part of the queries."""
    half = query.shape[1] // 2
    tile = max(1, _HELD // query.shape[1])
    for start in range(0, len(table), tile):
        for b in range(first, last):
            x_re, x_im = query[b, :half], query[b, half:]
            for e in range(start, min(start + tile, len(table))):
                y_re, y_im, total = table[e, :half], table[e, half:], _ZERO
                for d in range(half):
                    u, v = x_re[d] - y_re[d], x_im[d] - y_im[d]
                    total += np.sqrt(u * u + v * v)
                scores[b, e] = -total


@no_type_check
@njit(cache=CACHED, nogil=True, fastmath=FAST)
def l1_gradients(
    first: int, last: int, query: Any, table: Any, scores: Any, of_scores: Any, of_query: Any, of_table: Any
) -> None:
    """Add the gradients of a part of the chunks."""
    for chunk, start, stop, b in _blocks(first, last, query, table, len(of_query)):
        x0, x1, x2, x3 = query[b], query[b + 1], query[b + 2], query[b + 3]
        to0, to1, to2, to3 = of_query[chunk, b], of_query[chunk, b + 1], of_query[chunk, b + 2], of_query[chunk, b + 3]
        for e in range(start, stop):
            y, to = table[e], of_table[e]
            f0, f1, f2, f3 = of_scores[b, e], of_scores[b + 1, e], of_scores[b + 2, e], of_scores[b + 3, e]
            for d in range(len(y)):
                g0, g1 = _signed(x0[d] - y[d], f0), _signed(x1[d] - y[d], f1)
                g2, g3 = _signed(x2[d] - y[d], f2), _signed(x3[d] - y[d], f3)
                to0[d] -= g0
                to1[d] -= g1
                to2[d] -= g2
                to3[d] -= g3
                to[d] += g0 + g1 + g2 + g3


@no_type_check
@njit(cache=CACHED, nogil=True, fastmath=FAST, error_model="numpy")
def l2_gradients(
    first: int, last: int, query: Any, table: Any, scores: Any, of_scores: Any, of_query: Any, of_table: Any
) -> None:
    """Add the gradients of a part of the chunks."""
    for chunk, start, stop, b in _blocks(first, last, query, table, len(of_query)):
        x0, x1, x2, x3 = query[b], query[b + 1], query[b + 2], query[b + 3]
        to0, to1, to2, to3 = of_query[chunk, b], of_query[chunk, b + 1], of_query[chunk, b + 2], of_query[chunk, b + 3]
        for e in range(start, stop):
            y, to = table[e], of_table[e]
            f0, f1 = _over(of_scores[b, e], scores[b, e]), _over(of_scores[b + 1, e], scores[b + 1, e])
            f2, f3 = _over(of_scores[b + 2, e], scores[b + 2, e]), _over(of_scores[b + 3, e], scores[b + 3, e])
            for d in range(len(y)):
                g0, g1 = f0 * (x0[d] - y[d]), f1 * (x1[d] - y[d])
                g2, g3 = f2 * (x2[d] - y[d]), f3 * (x3[d] - y[d])
                to0[d] += g0
                to1[d] += g1
                to2[d] += g2
                to3[d] += g3
                to[d] -= g0 + g1 + g2 + g3


@no_type_check
@njit(cache=CACHED, nogil=True, fastmath=FAST, error_model="numpy")
def moduli_gradients(
    first: int, last: int, query: Any, table: Any, scores: Any, of_scores: Any, of_query: Any, of_table: Any
) -> None:
    """Add the gradients of a part of the chunks; two rows share an entity here, because each has two halves."""
    half = query.shape[1] // 2
    for chunk, start, stop, four in _blocks(first, last, query, table, len(of_query)):
        for b in range(four, four + ROWS, 2):
            x_re, x_im, z_re, z_im = query[b, :half], query[b, half:], query[b + 1, :half], query[b + 1, half:]
            of_x, of_z = of_query[chunk, b], of_query[chunk, b + 1]
            to_x_re, to_x_im, to_z_re, to_z_im = of_x[:half], of_x[half:], of_z[:half], of_z[half:]
            for e in range(start, stop):
                y_re, y_im, to_re, to_im = table[e, :half], table[e, half:], of_table[e, :half], of_table[e, half:]
                f, g = of_scores[b, e], of_scores[b + 1, e]
                for d in range(half):
                    u, v = x_re[d] - y_re[d], x_im[d] - y_im[d]
                    s, t = z_re[d] - y_re[d], z_im[d] - y_im[d]
                    of_uv, of_st = _over_root(f, u * u + v * v), _over_root(g, s * s + t * t)
                    to_x_re[d] -= of_uv * u
                    to_x_im[d] -= of_uv * v
                    to_z_re[d] -= of_st * s
                    to_z_im[d] -= of_st * t
                    to_re[d] += of_uv * u + of_st * s
                    to_im[d] += of_uv * v + of_st * t


@no_type_check
@njit(nogil=True)
def _blocks(first: int, last: int, query: Any, table: Any, chunks: int) -> Any:
    """(chunk, first and last entity of a tile, first of ROWS queries), chunk after chunk."""
    tile = max(1, _HELD // 2 // query.shape[1])  # beside it stand its gradients
    step = -(-len(table) // chunks)
    for chunk in range(first, last):
        end = min((chunk + 1) * step, len(table))
        for start in range(chunk * step, end, tile):
            for b in range(0, len(query), ROWS):
                yield chunk, start, min(start + tile, end), b


@no_type_check
@njit(nogil=True, fastmath=FAST)
def _signed(difference: Any, factor: Any) -> Any:
    return (factor if difference > _ZERO else _ZERO) - (factor if difference < _ZERO else _ZERO)


@no_type_check
@njit(nogil=True, fastmath=FAST, error_model="numpy")
def _over(factor: Any, score: Any) -> Any:
    return factor / score if score != _ZERO else _ZERO


@no_type_check
@njit(nogil=True, fastmath=FAST, error_model="numpy")
def _over_root(factor: Any, square: Any) -> Any:
    return factor / np.sqrt(square) if square > _TINY else _ZERO
