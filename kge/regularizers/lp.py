"""Powers of the Lp norm, for p in 1, 2, 3.

Shapes  B triples that the batch counts for.

    whole tables:        (weight / p) sum |theta|^p, the entity term twice (as head and as tail)
    batch, `weighted`:   (weight / p) (1 / B) sum over occurrences in the batch of |theta|^p

These are the conventions of the published settings, so their weights carry over.
"""

from typing import final

from jaxtyping import Float
from torch import Tensor

from kge.data import Triples
from kge.models.base import AbstractModel
from kge.models.lookups import lookup
from kge.regularizers.base import AbstractRegularizer


@final
class Lp(AbstractRegularizer):
    """Powers of the Lp norm, with a weight for entities and one for relations."""

    applies_to = AbstractModel

    def __init__(self, *, p: int, weighted: bool, entity_weight: float, relation_weight: float) -> None:
        self._p = p
        self.by_triple = weighted
        self._entity_weight = entity_weight
        self._relation_weight = relation_weight

    def penalty(self, model: AbstractModel, triples: Triples, count: float) -> Float[Tensor, ""]:
        total = model.entities.new_zeros(())
        if self._entity_weight:
            total = total + self._entity_weight * self._entities(model, triples, count)
        if self._relation_weight:
            total = total + self._relation_weight * self._relations(model, triples, count)
        return total / self._p

    def _entities(self, model: AbstractModel, triples: Triples, count: float) -> Tensor:
        if not self.by_triple:
            return 2 * self._power(model.entities)
        return self._power(lookup(model.entities, triples[:, ::2])) / count

    def _relations(self, model: AbstractModel, triples: Triples, count: float) -> Tensor:
        if not self.by_triple:
            return self._power(model.relations)
        total = self._power(lookup(model.relations, triples[:, 1]))
        if model.reciprocal:
            total = total + self._power(lookup(model.relations, triples[:, 1] + model.num_relations))
        return total / count

    def _power(self, values: Tensor) -> Tensor:
        return values.abs().pow(self._p).sum()
