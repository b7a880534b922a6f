"""What every model promises: a score compares a query vector with an entity vector.

Names   one letter is a vector of ids (h, r, t); a word is a matrix of embeddings (head, relation, tail).
Shapes  B queries, K candidates, E entities, R relations, D real numbers per entity, W numbers per relation.
Scores  higher is more plausible, in every model; a distance is negated in its model and nowhere else.

Reciprocal relations (Lacroix, Usunier, Obozinski: Canonical Tensor Decomposition, ICML 2018): relation
r + R asks for the head of r, so every query is a tail query. They double the relation table of any model.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kge.config import DropoutConfig, InitConfig, require
from kge.data import Side
from kge.kernels import inner_products
from kge.models.dropout import Dropout
from kge.models.lookups import lookup

Ids = Int[Tensor, " B"]
Vectors = Float[Tensor, "B D"]
RelationVectors = Float[Tensor, "B W"]
Candidates = Int[Tensor, " K"] | Int[Tensor, "B K"]  # shared by the batch | one row per query
CandidateVectors = Float[Tensor, "K D"] | Float[Tensor, "B K D"]
Scores = Float[Tensor, "B K"]
Comparison = Literal["product", "l1", "l2", "moduli"]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What all models are built from; their own options are further keyword arguments."""

    num_entities: int
    num_relations: int
    dim: int
    reciprocal: bool = False
    init: InitConfig = field(default_factory=InitConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    generator: torch.Generator = field(default_factory=torch.Generator)

    @property
    def relation_rows(self) -> int:
        """R, or 2 R with reciprocal relations."""
        return self.num_relations * (2 if self.reciprocal else 1)

    def table(self, rows: int, width: int) -> nn.Parameter:
        """A (rows, width) table drawn as `init` says."""
        values = torch.empty(rows, width)
        match self.init.name:
            case "xavier_normal":
                nn.init.xavier_normal_(values, generator=self.generator)
            case "xavier_uniform":
                nn.init.xavier_uniform_(values, generator=self.generator)
            case "normal":
                nn.init.normal_(values, std=self.init.std, generator=self.generator)
            case "uniform":
                nn.init.uniform_(values, self.init.low, self.init.high, generator=self.generator)
        return nn.Parameter(values)


class AbstractModel(nn.Module, ABC):
    """Scores of triples. A final class sets both tables and writes the four abstract methods."""

    reciprocal_only: ClassVar[bool] = False  # the head can be asked for only as the tail of a reciprocal relation

    comparison: Comparison | None = None  # what compare() does, where kge.gathered may do it without it
    entities: nn.Parameter  # (E, D)
    relations: nn.Parameter  # (R or 2 R, as many numbers as the model needs)

    def __init__(self, spec: ModelSpec) -> None:
        if self.reciprocal_only:
            require(spec.reciprocal, "model.reciprocal", "true: this model predicts tails alone", spec.reciprocal)
        super().__init__()
        self.num_entities = spec.num_entities
        self.num_relations = spec.num_relations
        self.reciprocal = spec.reciprocal
        self.fused = True  # False: every value by the plain formula
        self.entity_dropout = Dropout(spec.dropout.entity)
        self.relation_dropout = Dropout(spec.dropout.relation)
        self.query_dropout = Dropout(spec.dropout.query)

    @abstractmethod
    def embed_relation(self, r: Ids) -> RelationVectors:
        """What stands for a relation in a query, before dropout: mostly its row of the table."""

    @abstractmethod
    def tail_query(self, head: Vectors, relation: RelationVectors) -> Vectors:
        """The vector that the tail of (h, r, ?) is compared with."""

    @abstractmethod
    def head_query(self, relation: RelationVectors, tail: Vectors) -> Vectors:
        """The vector that the head of (?, r, t) is compared with."""

    @abstractmethod
    def compare(self, query: Vectors, candidates: CandidateVectors) -> Scores:
        """Scores of candidates: the same K for all queries, or K for each."""

    def use_generator(self, generator: torch.Generator) -> None:
        """Draw all dropout masks from this generator, which lives on the model's device."""
        for module in self.modules():
            if isinstance(module, Dropout):
                module.generator = generator

    def queries(self, side: Side, anchors: Ids, r: Ids) -> Vectors:
        """Query vectors of (anchor, r, ?) or (?, r, anchor), with the dropouts of training."""
        anchor = self.entity_dropout(lookup(self.entities, anchors))
        reversed_ = side is Side.HEAD and self.reciprocal
        rows = r + self.num_relations if reversed_ else r
        as_tails = side is Side.TAIL or reversed_
        dropped: Tensor = self.query_dropout(
            self.relate(anchor, rows, as_tails=as_tails, dropout=self.relation_dropout)
        )
        return dropped

    def relate(self, anchor: Vectors, r: Ids, *, as_tails: bool, dropout: Dropout) -> Vectors:
        """Queries for tails or for heads, with this dropout of relations and none of queries.

        A model with a fused path for this puts it here.
        """
        relation = dropout(self.embed_relation(r))
        return self.tail_query(anchor, relation) if as_tails else self.head_query(relation, anchor)

    def candidates(self) -> Float[Tensor, "E D"]:
        """All entities as answers; in training one dropout mask over the table serves the whole step."""
        dropped: Tensor = self.entity_dropout(self.entities)
        return dropped

    def score(self, side: Side, anchors: Ids, r: Ids, candidates: Candidates | None = None) -> Scores:
        """Scores of candidates as answers of each query; all entities when none are named."""
        vectors = self.candidates() if candidates is None else self.entity_dropout(self.entities[candidates])
        return self.compare(self.queries(side, anchors, r), vectors)

    def score_tails(self, h: Ids, r: Ids, candidates: Candidates | None = None) -> Scores:
        """Scores of candidates as tail of (h, r, ?)."""
        return self.score(Side.TAIL, h, r, candidates)

    def score_heads(self, r: Ids, t: Ids, candidates: Candidates | None = None) -> Scores:
        """Scores of candidates as head of (?, r, t)."""
        return self.score(Side.HEAD, t, r, candidates)

    def score_hrt(self, h: Ids, r: Ids, t: Ids) -> Float[Tensor, " B"]:
        """Scores of triples, read as tail queries."""
        return self.score_tails(h, r, t[:, None])[:, 0]


class AbstractBilinear(AbstractModel):
    """Models whose score is the inner product of query and candidate."""

    comparison = "product"

    def compare(self, query: Vectors, candidates: CandidateVectors) -> Scores:
        """Inner products."""
        if candidates.dim() == 2:
            return inner_products(query, candidates) if self.fused else query @ candidates.T
        return torch.bmm(candidates, query.unsqueeze(2)).squeeze(2)
