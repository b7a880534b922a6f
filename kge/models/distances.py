"""Distances of each query to each entity, without the differences of all of them in memory.

`distance_scores` is a compiled loop (formulas and order of the sums: kge.native.distances). Only the B x E scores are
held, and in going back as many parts of the queries' gradients as there are chunks of entities. `in_blocks` takes a
norm in torch: it makes differences a block at a time, and again for the gradient.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import Function, once_differentiable
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from kge.native import over_rows

Distance = Literal["l1", "l2", "moduli"]

DIFFERENCES = 16 * 2**20  # differences of a block

_CHUNKS = 32  # parts of the entities, each for one thread: values must not depend on the number of threads


def distance_scores(
    query: Float[Tensor, "B D"], candidates: Float[Tensor, "E D"], distance: Distance
) -> Float[Tensor, "B E"]:
    """Scores of tensors that `kge.native.can_run` takes; differentiable."""
    scores: Tensor = _DistanceScores.apply(query, candidates, distance)  # type: ignore[no-untyped-call]
    return scores


def in_blocks(
    norm: Callable[[Tensor], Tensor], query: Float[Tensor, "B D"], candidates: Float[Tensor, "E D"]
) -> Float[Tensor, "B E"]:
    """Distances by the norm of a vector for each pair; differentiable, if the norm draws nothing."""
    rows = max(1, DIFFERENCES // candidates.numel())
    return torch.cat(
        [
            checkpoint(
                lambda part: norm(part.unsqueeze(1) - candidates), part, use_reentrant=False, preserve_rng_state=False
            )
            for part in query.split(rows)
        ]
    )


class _DistanceScores(Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, candidates: Tensor, distance: Distance) -> Tensor:
        query, candidates = query.contiguous(), candidates.contiguous()
        scores = query.new_empty(len(query), len(candidates))
        over_rows(_loop(distance), len(query), *_arrays(query, candidates, scores))
        ctx.distance = distance
        ctx.save_for_backward(query, candidates, scores)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_scores: Tensor) -> tuple[Tensor | None, ...]:
        query, candidates, scores = ctx.saved_tensors
        return *_gradients(ctx.distance, query, candidates, scores, of_scores), None


def _gradients(
    distance: Distance, query: Tensor, candidates: Tensor, scores: Tensor, of_scores: Tensor
) -> tuple[Tensor, Tensor]:
    from kge.native.distances import ROWS  # noqa: PLC0415 (numba is not needed to start)

    rows, missing = len(query), -len(query) % ROWS
    if missing:
        query, scores, of_scores = (pad(each, (0, 0, 0, missing)) for each in (query, scores, of_scores))
    of_query, of_candidates = query.new_zeros(_CHUNKS, *query.shape), torch.zeros_like(candidates)
    arrays = _arrays(query, candidates, scores, of_scores.contiguous(), of_query, of_candidates)
    over_rows(_loop(f"{distance}_gradients"), _CHUNKS, *arrays)
    total = torch.zeros_like(query)
    for part in of_query:
        total += part
    return total[:rows], of_candidates


def _loop(name: str) -> Callable[..., None]:
    from kge.native import distances  # noqa: PLC0415 (numba is not needed to start)

    loop: Callable[..., None] = getattr(distances, name)
    return loop


def _arrays(*tensors: Tensor) -> tuple[Any, ...]:
    return tuple(each.detach().numpy() for each in tensors)
