"""negative_sampling: every query is scored against its true answer and its own negatives."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import embedding

from kge.batches.base import AbstractTrainingType, Positions, leaf, moved, slices
from kge.data import Side, Triples
from kge.frequencies import Frequencies
from kge.gathered import compared
from kge.losses.base import AbstractSamplingLoss
from kge.losses.logistic import AbstractLogisticLoss, Emphasis, query_weights
from kge.models.base import AbstractModel
from kge.negatives import NegativeSampler


@final
class NegativeSampling(AbstractTrainingType):
    """Both queries of each triple against the answer and negatives."""

    def __init__(
        self,
        *,
        train: Triples,
        frequencies: Frequencies,
        loss: AbstractSamplingLoss,
        sampler: NegativeSampler,
        negatives: tuple[int, int],
        sub_batch_size: int | None,
    ) -> None:
        self.size = len(train)
        self._train = train
        self._loss = loss
        self._sampler = sampler
        self._count = dict(zip((Side.HEAD, Side.TAIL), negatives, strict=True))
        self._sub_batch_size = sub_batch_size
        self._emphasis = {side: _emphasis(loss, frequencies, side) for side in Side}
        self._kept: Tensor | None = None

    def backward(self, model: AbstractModel, rows: Positions) -> Float[Tensor, ""]:
        rows = moved(rows, self._train.device)
        triples = self._train[rows]
        candidates = model.candidates()
        table, gradient = candidates.detach(), self._gradient(model, candidates)
        value, scale = candidates.new_zeros(()), 1 / len(rows)
        queries, of_queries = [], []
        for side in Side:
            anchors, relations, answers = side.anchors(triples), triples[:, 1], side.answers(triples)
            queries.append(model.queries(side, anchors, relations))
            query = queries[-1].detach()
            of_queries.append(query.new_zeros(query.shape))
            negatives, weight = self._sampler.draw(side, anchors, relations, self._count[side])
            ids = torch.cat([answers[:, None], negatives], dim=1)
            emphasis = self._row_emphasis(model, query, table, side, triples, rows)
            for part in slices(len(query), self._sub_batch_size):
                pairs = compared(model, query[part], table, ids[part])
                scores = leaf(pairs.scores)
                part_weight = None if weight is None else weight[part]
                part_emphasis = None if emphasis is None else (emphasis[0][part], emphasis[1][part])
                loss = scale * self._sum(scores[:, 0], scores[:, 1:], part_weight, part_emphasis)
                loss.backward()
                assert scores.grad is not None
                pairs.add_gradients(scores.grad, of_queries[-1][part], gradient)
                value += loss.detach()
        if candidates is not model.entities:
            candidates.backward(gradient)
        torch.autograd.backward(queries, of_queries)
        return value

    def _gradient(self, model: AbstractModel, candidates: Tensor) -> Tensor:
        """Where gradients of candidates are added, row by row: the entities' own, unless dropout stands between.

        The memory is kept from step to step: to be given fresh memory costs more than to clear what is there.
        """
        if candidates is model.entities and model.entities.grad is not None:
            return model.entities.grad
        self._kept = torch.zeros_like(candidates) if self._kept is None else self._kept.zero_()
        if candidates is model.entities:
            model.entities.grad = self._kept
        return self._kept

    def numbers(self, model: AbstractModel, rows: int) -> int:
        return rows * sum(1 + count for count in self._count.values()) * model.entities.shape[1]

    def triples(self, rows: Positions) -> Triples:
        return self._train[moved(rows, self._train.device)]

    def generators(self) -> dict[str, torch.Generator]:
        return {"negatives": self._sampler.generator}

    def _sum(self, positive: Tensor, negative: Tensor, weight: Tensor | None, emphasis: Emphasis | None) -> Tensor:
        if emphasis is None:
            return self._loss.rows(positive, negative, weight).sum()
        assert isinstance(self._loss, AbstractLogisticLoss)
        true, noise = self._loss.terms(positive, negative, weight)
        return torch.dot(true, emphasis[0]) + torch.dot(noise, emphasis[1])

    def _row_emphasis(
        self, model: AbstractModel, query: Tensor, table: Tensor, side: Side, triples: Triples, rows: Positions
    ) -> Emphasis | None:
        """What the positive and the negative term of each row of the batch count; None when all count 1."""
        kept = self._emphasis[side]
        emphasis = None if kept is None else (kept[0][rows], kept[1][rows])
        if not isinstance(self._loss, AbstractLogisticLoss) or self._loss.query_temperature == 0:
            return emphasis
        with torch.no_grad():
            positive = model.compare(query, embedding(side.answers(triples)[:, None], table)).squeeze(1)
        names = side.queries(triples, model.num_relations)
        weight = query_weights(positive, names, self._loss.query_temperature)
        return (weight, weight) if emphasis is None else (weight * emphasis[0], weight * emphasis[1])


def _emphasis(loss: AbstractSamplingLoss, frequencies: Frequencies, side: Side) -> Emphasis | None:
    """What the terms of every training row of a side count by their counts in train."""
    if not isinstance(loss, AbstractLogisticLoss):
        return None
    return loss.emphasis(frequencies.triples(), frequencies.queries(side))
