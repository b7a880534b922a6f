"""Training types: from a batch of triples to the sum of its rows' losses, with gradients.

Shapes  B triples of the batch, E entities, D real numbers per entity, K negatives.
Each triple gives two rows, a tail query and a head query.

A step embeds queries and candidates once, for the whole batch. The scores, which are what fills memory, are
made in slices of `sub_batch_size` rows against detached copies, and the copies' gradients flow back at the
end. So a sub-batch changes neither the value nor the random draws.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding

from kge.data import Side, Triples
from kge.frequencies import Frequencies
from kge.kernels import softmax_cross_entropy
from kge.losses.base import AbstractSamplingLoss, AbstractSoftmaxLoss
from kge.models.base import AbstractBilinear, AbstractModel
from kge.negatives import NegativeSampler


class AbstractTrainingType(ABC):
    """How a batch of training triples becomes gradients."""

    @abstractmethod
    def backward(self, model: AbstractModel, triples: Triples, rows: Int[Tensor, " B"], scale: float) -> Tensor:
        """Add the gradient of scale x (sum of row losses) to the model; return that value, detached.

        `rows` are the positions of the triples in the training split.
        """

    @abstractmethod
    def generators(self) -> dict[str, torch.Generator]:
        """The random streams to save with a checkpoint, by name."""


@final
class OneVsAll(AbstractTrainingType):
    """Every query is scored against all entities; its row is the triple (multiplicities are not merged)."""

    def __init__(
        self,
        *,
        loss: AbstractSoftmaxLoss,
        frequencies: Frequencies,
        sub_batch_size: int | None,
        bfloat16: bool,
        fused: bool,
    ) -> None:
        self._loss = loss
        self._frequencies = frequencies
        self._sub_batch_size = sub_batch_size
        self._bfloat16 = bfloat16
        self._fused = fused

    def backward(self, model: AbstractModel, triples: Triples, rows: Int[Tensor, " B"], scale: float) -> Tensor:
        query = torch.cat([model.queries(side, side.anchors(triples), triples[:, 1]) for side in Side])
        target = torch.cat([side.answers(triples) for side in Side])
        candidates = model.candidates()
        leaf, table = _leaf(query), _leaf(candidates)
        weight = self._weight(triples, rows)
        value = triples.new_zeros((), dtype=query.dtype)
        for part in _slices(len(query), self._sub_batch_size):
            part_weight = None if weight is None else weight[part]
            loss = scale * self._sum(model, leaf[part], table, target[part], part_weight)
            loss.backward()
            value += loss.detach()
        torch.autograd.backward([query, candidates], [leaf.grad, table.grad])
        return value

    def generators(self) -> dict[str, torch.Generator]:
        return {}

    def _weight(self, triples: Triples, rows: Int[Tensor, " B"]) -> Float[Tensor, " rows"] | None:
        weights = [
            self._loss.row_weight(
                self._frequencies.queries(side)[rows], self._frequencies.answers(side)[side.answers(triples)]
            )
            for side in Side
        ]
        present = [weight for weight in weights if weight is not None]
        return torch.cat(present) if present else None

    def _sum(
        self, model: AbstractModel, query: Tensor, candidates: Tensor, target: Tensor, weight: Tensor | None
    ) -> Tensor:
        if self._fused and isinstance(model, AbstractBilinear):
            return softmax_cross_entropy(
                query, candidates, target, weight, smoothing=self._loss.smoothing, bfloat16=self._bfloat16
            )
        losses = self._loss.rows(model.compare(query, candidates), target)
        return losses.sum() if weight is None else torch.dot(losses, weight)


@final
class NegativeSampling(AbstractTrainingType):
    """Every query is scored against its true answer and its own negatives."""

    def __init__(
        self,
        *,
        loss: AbstractSamplingLoss,
        sampler: NegativeSampler,
        negatives: tuple[int, int],
        sub_batch_size: int | None,
    ) -> None:
        self._loss = loss
        self._sampler = sampler
        self._count = dict(zip((Side.HEAD, Side.TAIL), negatives, strict=True))
        self._sub_batch_size = sub_batch_size

    def backward(self, model: AbstractModel, triples: Triples, rows: Int[Tensor, " B"], scale: float) -> Tensor:
        candidates = model.candidates()
        table = _leaf(candidates)
        value = triples.new_zeros((), dtype=candidates.dtype)
        queries, leaves = [], []
        for side in Side:
            anchors, relations = side.anchors(triples), triples[:, 1]
            query = model.queries(side, anchors, relations)
            leaf = _leaf(query)
            ids, weight = self._sampler.draw(side, anchors, relations, self._count[side])
            for part in _slices(len(query), self._sub_batch_size):
                positive = model.compare(leaf[part], embedding(side.answers(triples)[part, None], table))
                negative = model.compare(leaf[part], embedding(ids[part], table))
                part_weight = None if weight is None else weight[part]
                loss = scale * self._loss.rows(positive.squeeze(1), negative, part_weight).sum()
                loss.backward()
                value += loss.detach()
            queries.append(query)
            leaves.append(leaf)
        torch.autograd.backward([*queries, candidates], [*(leaf.grad for leaf in leaves), table.grad])
        return value

    def generators(self) -> dict[str, torch.Generator]:
        return {"negatives": self._sampler.generator}


def _leaf(values: Tensor) -> Tensor:
    return values.detach().requires_grad_()


def _slices(length: int, size: int | None) -> Iterator[slice]:
    step = length if size is None else size
    return (slice(start, start + step) for start in range(0, length, step))
