"""The loss over the scores of all entities: fused where there is a kernel for it, by autograd elsewhere."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kge.batches.base import leaf, slices
from kge.data import Side, Triples
from kge.frequencies import Frequencies
from kge.kernels import LossAndGradients, softmax_cross_entropy
from kge.losses.base import AbstractBlockLoss, AbstractLoss, AbstractSoftmaxLoss, Answers
from kge.models.base import AbstractBilinear, AbstractModel
from kge.models.lookups import backward

Targets = Int[Tensor, " B"] | Answers  # one answer a row | all answers of each row


def has_kernel(model: type[AbstractModel], loss: type[AbstractLoss]) -> bool:
    """Whether this pair can be fused; the only place that decides it."""
    return issubclass(model, AbstractBilinear) and issubclass(loss, AbstractSoftmaxLoss)


def row_weights(
    loss: AbstractBlockLoss, train: Triples, frequencies: Frequencies
) -> dict[Side, Float[Tensor, " N"]] | None:
    """What the loss lets each triple's row weigh, by side; None for 1 each."""
    answers, degrees = {side: side.answers(train) for side in Side}, frequencies.degrees()
    weights = loss.row_weights(
        queries=torch.cat([frequencies.queries(side) for side in Side]),
        answers=torch.cat([frequencies.answers(side)[answers[side]] for side in Side]),
        degrees=torch.cat([degrees[answers[side]] for side in Side]),
    )
    return None if weights is None else dict(zip(Side, weights.chunk(2), strict=True))


@dataclass(frozen=True, kw_only=True)
class Block:
    """A loss over all entities and the way it is computed; without `fused` never by a kernel."""

    loss: AbstractBlockLoss
    sub_batch_size: int | None
    bfloat16: bool
    fused: bool

    def backward(
        self,
        model: AbstractModel,
        query: Float[Tensor, "B D"],
        targets: Targets,
        weight: Float[Tensor, " B"] | None,
        scale: float,
    ) -> Float[Tensor, ""]:
        """Add the gradient of scale x (weighted sum of row losses) to the model; return that value, detached."""
        weight = query.new_full((len(query),), scale) if weight is None else scale * weight
        candidates = model.candidates()
        rows, table = query.detach(), candidates.detach()
        value, of_query, of_table = query.new_zeros(()), list[Tensor](), None
        for part in slices(len(query), self.sub_batch_size):
            loss = self._gradients(model, rows[part], table, _part(targets, part), weight[part])
            value += loss.value
            of_query.append(loss.query)
            of_table = loss.candidates if of_table is None else of_table.add_(loss.candidates)
            del loss  # it would hold a table's gradient while the next part makes its own
        assert of_table is not None
        backward(candidates, of_table)  # first: what a lookup adds to it needs no pass over the table then
        query.backward(torch.cat(of_query))
        return value

    def _gradients(
        self, model: AbstractModel, query: Tensor, candidates: Tensor, targets: Targets, weight: Tensor
    ) -> LossAndGradients:
        if self.fused and has_kernel(type(model), type(self.loss)):
            return self._kernel(query, candidates, targets, weight)
        query, candidates = leaf(query), leaf(candidates)
        loss = torch.dot(self._rows(model.compare(query, candidates), targets), weight)
        loss.backward()
        assert query.grad is not None and candidates.grad is not None
        return LossAndGradients(loss.detach(), query.grad, candidates.grad)

    def _rows(self, scores: Tensor, targets: Targets) -> Float[Tensor, " B"]:
        if isinstance(targets, Answers):
            return self.loss.answer_rows(scores, targets)
        return self.loss.rows(scores, targets)

    def _kernel(self, query: Tensor, candidates: Tensor, targets: Targets, weight: Tensor) -> LossAndGradients:
        assert isinstance(self.loss, AbstractSoftmaxLoss)
        answer, row, share = (
            (targets.entity, targets.row, targets.share) if isinstance(targets, Answers) else (targets, None, None)
        )
        return softmax_cross_entropy(
            query,
            candidates,
            answer,
            weight,
            smoothing=self.loss.smoothing,
            bfloat16=self.bfloat16,
            row=row,
            share=share,
        )


def _part(targets: Targets, part: slice) -> Tensor | Answers:
    """The targets of consecutive rows, whose numbers start at 0 again."""
    if not isinstance(targets, Answers):
        return targets[part]
    counts = targets.counts[part]
    first = int(targets.counts[: part.start].sum())
    pairs = slice(first, first + int(counts.sum()))
    row, entity, share = targets.row[pairs] - part.start, targets.entity[pairs], targets.share[pairs]
    return Answers(row=row, entity=entity, share=share, counts=counts)
