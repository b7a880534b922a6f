"""Queries against rows of a table named by ids, with gradients; no vector is made for a pair.

    score(b, k) = compare(query_b, table_ids(b,k))
    d/dx        = factor(b, k) direction(x, y)          y in a product, the slope of the distance of x from y elsewhere

Shapes  B queries, K ids of each, D numbers a vector, E rows of the table, N = B K pairs.

Pairs are taken in the order of their ids (`by_id`), so that a row of the table is fetched once for all of its
pairs, in the order of memory, and the queries stay in a near cache. Each row of a gradient is added up by one
thread, pair after pair.
"""

from typing import Any, no_type_check

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from kge.native import CACHED, FAST

PRODUCT, L1, L2, MODULI = range(4)
KINDS = {"product": PRODUCT, "l1": L1, "l2": L2, "moduli": MODULI}

_ZERO = np.float32(0)
_TINY = np.float32(1e-30)  # squared moduli below it count as zero (kge.models.algebra)
_DIGIT = 11  # bits: 2,048 counters stay in the nearest cache
_AHEAD = 16  # pairs between asking for a row and using it
_LINE = 64  # bytes of a line of cache
_PAIR = np.uint64(32)  # bits of a pair's number, below those of its id


@no_type_check
@njit(cache=CACHED, nogil=True)
def by_id(ids: Any, rows: int) -> Any:
    """Sorted: id 2^32 + number of each pair. A radix sort holds nothing of the size of the table."""
    flat = ids.ravel()
    pairs, spare = np.empty(len(flat), np.uint64), np.empty(len(flat), np.uint64)
    for pair in range(len(flat)):
        pairs[pair] = np.uint64(flat[pair]) << _PAIR | np.uint64(pair)
    bits = 0
    while rows - 1 >> bits > 0:
        bits += 1
    rounds = (bits + _DIGIT - 1) // _DIGIT
    digit = (bits + rounds - 1) // max(rounds, 1)
    mask = np.uint64((1 << digit) - 1)
    for number in range(rounds):
        shift = _PAIR + np.uint64(number * digit)
        place = np.zeros((1 << digit) + 1, np.int64)
        for pair in pairs:
            place[(pair >> shift & mask) + np.uint64(1)] += 1
        for value in range(1 << digit):
            place[value + 1] += place[value]
        for pair in pairs:
            value = pair >> shift & mask
            spare[place[value]] = pair
            place[value] += 1
        pairs, spare = spare, pairs
    return pairs


@no_type_check
@njit(cache=CACHED, nogil=True, fastmath=FAST)
def scores(first: int, last: int, kind: int, query: Any, table: Any, pairs: Any, out: Any) -> None:
    """Scores of a part of the pairs."""
    flat = out.ravel()
    for at in range(first, last):
        _, _, later = _pair(pairs, at + _AHEAD, out.shape[1])
        _fetch(table, later)
        pair, b, e = _pair(pairs, at, out.shape[1])
        flat[pair] = _score(kind, query, b, table, e)


@no_type_check
@njit(cache=CACHED, nogil=True, fastmath=FAST)
def add_to_queries(
    first: int, last: int, kind: int, query: Any, table: Any, pairs: Any, factors: Any, out: Any
) -> None:
    """Add the gradients of a part of the queries."""
    flat = factors.ravel()
    mine = pairs if last - first == len(query) else _of_queries(first, last, pairs, factors.shape[1])
    for at in range(len(mine)):
        _, _, later = _pair(mine, at + _AHEAD, factors.shape[1])
        _fetch(table, later)
        pair, b, e = _pair(mine, at, factors.shape[1])
        _add(kind, flat[pair], query, b, table, e, out)


@no_type_check
@njit(cache=CACHED, nogil=True, fastmath=FAST)
def add_to_table(first: int, last: int, kind: int, query: Any, table: Any, pairs: Any, factors: Any, out: Any) -> None:
    """Add the gradients of the rows of the table whose pairs begin in a part of the pairs."""
    flat = factors.ravel()
    for at in range(_begin(pairs, first), _begin(pairs, last)):
        _, _, later = _pair(pairs, at + _AHEAD, factors.shape[1])
        _fetch(out, later)
        if kind != PRODUCT:
            _fetch(table, later)
        pair, b, e = _pair(pairs, at, factors.shape[1])
        _add(kind, flat[pair], table, e, query, b, out)


@no_type_check
@njit(cache=CACHED, nogil=True)
def _of_queries(first: int, last: int, pairs: Any, ids: int) -> Any:
    """The pairs of a part of the queries, without a branch that half of them would mispredict."""
    kept, count = np.empty_like(pairs), 0
    for at in range(len(pairs)):
        kept[count] = pairs[at]
        count += first <= _pair(pairs, at, ids)[1] < last
    return kept[:count]


@no_type_check
@njit(cache=CACHED, nogil=True)
def _begin(pairs: Any, at: int) -> int:
    """The first place from `at` on where the pairs of an id begin."""
    while 0 < at < len(pairs) and pairs[at] >> _PAIR == pairs[at - 1] >> _PAIR:
        at += 1
    return at


@no_type_check
@njit(cache=CACHED, nogil=True)
def _pair(pairs: Any, at: int, ids: int) -> Any:
    """Its number, query and id, of queries with so many `ids`; behind the end the last one's."""
    packed = pairs[min(at, len(pairs) - 1)]
    pair = np.uint32(packed)
    return pair, np.int64(pair // np.uint32(ids)), np.int64(packed >> _PAIR)


@no_type_check
@njit(cache=CACHED, nogil=True)
def _fetch(table: Any, row: int) -> None:
    """Have a row brought near: neither a random row nor the next one is foreseen by the processor."""
    size = table.shape[1] * table.itemsize
    start = table.ctypes.data + row * size
    for byte in range(0, size, _LINE):
        _prefetch(start + byte)


@no_type_check
@intrinsic
def _prefetch(_: Any, address: Any) -> Any:
    """LLVM's prefetch for reading, into the nearest cache; a hint that changes no value."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer], function)
        where = builder.inttoptr(arguments[0], pointer)
        builder.call(prefetch, [where, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(types.uintp), code


@no_type_check
@njit(cache=CACHED, nogil=True, fastmath=FAST)
def _score(kind: int, query: Any, b: int, table: Any, e: int) -> Any:
    total = _ZERO
    if kind == PRODUCT:
        for d in range(query.shape[1]):
            total += query[b, d] * table[e, d]
        return total
    if kind == L1:
        for d in range(query.shape[1]):
            total += abs(query[b, d] - table[e, d])
        return -total
    if kind == L2:
        for d in range(query.shape[1]):
            total += (query[b, d] - table[e, d]) ** 2
        return -np.sqrt(total)
    half = query.shape[1] // 2
    for d in range(half):
        real, imaginary = query[b, d] - table[e, d], query[b, half + d] - table[e, half + d]
        square = real * real + imaginary * imaginary
        total += np.sqrt(_TINY if square < _TINY else square)  # noqa: FURB136 (max loses NaN)
    return -total


@no_type_check
@njit(cache=CACHED, nogil=True, fastmath=FAST)
def _add(kind: int, factor: Any, own: Any, i: int, other: Any, j: int, out: Any) -> None:
    """Add to out_i what own_i meets in other_j: that vector, or the slope of the distance, 0 where they are equal."""
    if kind == PRODUCT:
        for d in range(own.shape[1]):
            out[i, d] += factor * other[j, d]
    elif kind == L1:
        for d in range(own.shape[1]):
            difference = own[i, d] - other[j, d]
            out[i, d] += factor if difference > _ZERO else (-factor if difference < _ZERO else _ZERO)
    elif kind == L2:
        for d in range(own.shape[1]):
            out[i, d] += factor * (own[i, d] - other[j, d])
    else:
        half = own.shape[1] // 2
        for d in range(half):
            real, imaginary = own[i, d] - other[j, d], own[i, half + d] - other[j, half + d]
            square = real * real + imaginary * imaginary
            scale = _ZERO if square < _TINY else factor / np.sqrt(square)
            out[i, d] += scale * real
            out[i, half + d] += scale * imaginary
