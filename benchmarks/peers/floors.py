"""The least work of each case, as kernels whose time is measured beside it.

Shapes  N rows of a batch, E entities, D real numbers per entity, K negatives of a row, P parameters.

A floor is a sum over stages that need each other's results. A stage takes at least as long as each of its bounds:

    gemm (m, k, n)      a matrix product, by the fastest library call there is here; 2 m k n FLOPs
    softmax (m, n)      over rows, in place; about 5 m n FLOPs, a read and a write
    moved (bytes, set)  bytes read and written, at the speed of a copy within so many bytes
    flops (number)      at the speed of the largest float32 product here, be they roots: no library's are fast enough

Softmax over all entities is three products, the softmax, and a pass of Adagrad over the parameters (gradient,
parameter, state: three read, two written). With negatives each row's K + 1 vectors are read for the scores, read
for the query's gradient, and their gradients are read and written. RESCAL and TuckER have the products that make
queries, and their gradients, beside; ConvE has a convolution and a product of its maps, with batches of queries only.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.cases import Case

Bound = dict[str, Any]  # of JSON: kind, sizes, times; flops and bytes to be shown
Stage = list[Bound]

FLOAT = 4  # bytes


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The sizes that decide the work."""

    entities: int
    relations: int
    triples: int
    valid_queries: int  # distinct, of both sides


def floor_of(case: Case, graph: Graph, precision: str) -> list[Stage]:
    """Of one batch of ours; a ranking is of the whole split."""
    if case.kind == "warm":
        return []
    if case.kind == "ranking":
        return list(_ranking(case, graph))
    if case.kind == "negative_sampling":
        return list(_sampling(case, graph))
    if case.model == "transe":
        return list(_distances(case, graph))
    return list(_softmax(case, graph, precision))


def gemm(m: int, k: int, n: int, *, precision: str = "float32", times: float = 1) -> Bound:
    """A product."""
    size = 2 if precision == "bfloat16" else FLOAT
    work = {"flops": 2 * m * k * n * times, "bytes": size * (m * k + k * n + m * n) * times}
    return {"kind": "gemm", "shape": [m, k, n], "precision": precision, "times": times, **work}


def moved(number: float, within: float) -> Bound:
    """Bytes read and written, of memory of some size."""
    return {"kind": "moved", "bytes": number, "within": within, "flops": 0}


def flops(number: float) -> Bound:
    """Arithmetic."""
    return {"kind": "flops", "flops": number, "bytes": 0}


def parameters(case: Case, graph: Graph) -> int:
    """Of the model, relations of all models but RESCAL being as long as entities at most."""
    dim = case.dim
    width = {"rescal": dim * dim, "rotate": dim // 2, "conve": 2 * dim}.get(case.model, dim)
    core = {"tucker": dim**3, "conve": maps(dim) * dim}.get(case.model, 0)
    return graph.entities * dim + graph.relations * width + core


def maps(dim: int) -> int:
    """Numbers behind the convolution of a query: 32 filters of 3 x 3 over the largest image that `dim` makes."""
    height = max(each for each in range(1, math.isqrt(dim) + 1) if dim % each == 0)
    return 32 * (2 * height - 2) * (dim // height - 2)


def _optimizer(case: Case, graph: Graph) -> Stage:
    number = parameters(case, graph) * FLOAT
    return [moved(5 * number, 3 * number)]


def _queries(case: Case, graph: Graph, rows: int) -> Iterator[Stage]:
    """Forward and both gradients."""
    if case.model in ("rescal", "tucker"):
        yield [gemm(rows, case.dim, case.dim, times=3)]
    if case.model == "conve":
        yield [flops(3 * rows * 2 * 9 * maps(case.dim))]
        yield [gemm(rows, maps(case.dim), case.dim, times=3)]
    if case.model == "tucker":
        yield [gemm(min(rows, graph.relations), case.dim, case.dim**2, times=3)]


def _softmax(case: Case, graph: Graph, precision: str) -> Iterator[Stage]:
    rows, e, d = case.batch_size * (1 if case.kind == "k_vs_all" else 2), graph.entities, case.dim
    yield from _queries(case, graph, rows)
    yield [gemm(rows, d, e, precision=precision)]
    size = 2 if precision == "bfloat16" else FLOAT
    work = {"flops": 5 * rows * e, "bytes": 2 * size * rows * e}
    yield [{"kind": "softmax", "shape": [rows, e], "precision": precision, **work}]
    yield [gemm(rows, e, d, precision=precision)]
    yield [gemm(e, rows, d, precision=precision)]
    yield _optimizer(case, graph)


def _distances(case: Case, graph: Graph) -> Iterator[Stage]:
    """L1 of all pairs: difference, modulus, sum; backwards a sign and its sum for the query and for the candidate."""
    rows, e = 2 * case.batch_size, graph.entities
    yield [flops(3 * rows * e * case.dim)]
    yield [
        {"kind": "softmax", "shape": [rows, e], "precision": "float32", "flops": 5 * rows * e, "bytes": 8 * rows * e}
    ]
    yield [flops(4 * rows * e * case.dim)]
    yield _optimizer(case, graph)


def _sampling(case: Case, graph: Graph) -> Iterator[Stage]:
    vectors = 2 * case.batch_size * (1 + case.negatives)
    number, table = vectors * case.dim, graph.entities * case.dim * FLOAT
    each = {"transe": 3, "rotate": 3.5}.get(case.model, 2)
    yield [moved(number * FLOAT, table), flops(each * number)]
    yield [moved(3 * number * FLOAT, table), flops(4 * number)]
    yield _optimizer(case, graph)


def _ranking(case: Case, graph: Graph) -> Iterator[Stage]:
    pairs, block = graph.valid_queries * graph.entities, 256
    if case.model in ("transe", "rotate"):
        yield [flops((3 if case.model == "transe" else 3.5) * pairs * case.dim)]
    else:
        yield [gemm(block, case.dim, graph.entities, times=graph.valid_queries / block)]
    yield [moved(pairs * FLOAT, block * graph.entities * FLOAT)]
