"""ConvE: a convolution over head and relation, laid out as one image.

    image       = [ head ; relation ]                               2 height x width
    score       = relu( W vec( relu( image * filters ) ) ) . tail + bias(tail)

Dettmers, Minervini, Stenetorp, Riedel: Convolutional 2D Knowledge Graph Embeddings. AAAI 2018.
https://arxiv.org/abs/1707.01476

The last of an entity's D numbers is its bias: a query ends in 1, so the score is an inner product like any
other, and `dim` still counts all that an entity stores. In the image that place is zero.

The head cannot be asked for except as the tail of a reciprocal relation, so `reciprocal` must be true.

Batch normalisation stands where the paper has it: before the convolution, after it and after W. It is on
because it makes training indifferent to the scale that the tables start from (built-in graph, dim 32, Adam, 20
epochs, four settings: MRR 0.63 to 0.67 with it, 0.33 to 0.65 without). Its price is that the query of a row
depends on the other rows of its side of the batch, though never on sub-batches. A batch of one row has no
variance and is normalised by the running statistics, as in ranking.
"""

import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv2d, linear, pad

from kge.config import require
from kge.data import Side
from kge.models.base import AbstractBilinear, Ids, ModelSpec, RelationVectors, Vectors
from kge.models.dropout import Dropout


@final
class ConvE(AbstractBilinear):
    """ConvE; a relation has `dim` numbers.

    height           rows of an entity's image; None takes the largest divisor of `dim` up to its root
    filters, kernel  how many convolutions, and the height and width of each
    padding          zeros around the image; the paper has 0, and small images need more
    batch_norm       normalise, as the paper does
    feature_dropout  probability that a whole feature map is zeroed
    hidden_dropout   the same of a number behind W
    """

    reciprocal_only = True

    def __init__(
        self,
        spec: ModelSpec,
        *,
        height: int | None = None,
        filters: int = 32,
        kernel: int = 3,
        padding: int = 1,
        batch_norm: bool = True,
        feature_dropout: float = 0.2,
        hidden_dropout: float = 0.3,
    ) -> None:
        rows = _divisor(spec.dim) if height is None else height
        require(rows >= 1 and spec.dim % rows == 0, "model.height", f"a divisor of model.dim ({spec.dim})", height)
        require(spec.dim >= 2, "model.dim", ">= 2 for conve (a bias and at least one more)", spec.dim)
        require(filters >= 1, "model.filters", ">= 1", filters)
        widest = max(2 * rows, spec.dim // rows)
        require(0 <= padding <= widest, "model.padding", f"in 0..{widest} (a side of the image)", padding)
        maps = (2 * rows + 2 * padding - kernel + 1, spec.dim // rows + 2 * padding - kernel + 1)
        padded = f"in 1..{min(maps) + kernel - 1} (the padded image is {maps[0] + kernel - 1} x {maps[1] + kernel - 1})"
        require(1 <= kernel and min(maps) >= 1, "model.kernel", padded, kernel)
        for name, rate in (("feature_dropout", feature_dropout), ("hidden_dropout", hidden_dropout)):
            require(0 <= rate < 1, f"model.{name}", "in [0, 1)", rate)
        super().__init__(spec)
        self.image = (2 * rows, spec.dim // rows)
        self.padding = padding
        self.feature_dropout = Dropout(feature_dropout)
        self.hidden_dropout = Dropout(hidden_dropout)
        self.entities = spec.table(spec.num_entities, spec.dim)
        self.relations = spec.table(spec.relation_rows, spec.dim)
        self.filters = _layer(spec, filters, 1, kernel, kernel)
        self.filter_bias = nn.Parameter(torch.zeros(filters))
        self.weight = _layer(spec, spec.dim - 1, filters * maps[0] * maps[1])
        self.bias = nn.Parameter(torch.zeros(spec.dim - 1))
        sizes = (1, filters, spec.dim - 1) if batch_norm else ()
        self.norms = nn.ModuleList(_BatchNorm(size) for size in sizes)

    def embed_relation(self, r: Ids) -> RelationVectors:
        return self.relations[r]

    def tail_query(self, head: Vectors, relation: RelationVectors) -> Vectors:
        without_bias = pad(head[:, :-1], (0, 1))
        image = torch.cat([without_bias, relation], dim=1).view(-1, 1, *self.image)
        maps = conv2d(self._normalised(0, image), self.filters, self.filter_bias, padding=self.padding)
        maps = self._normalised(1, maps).relu()
        maps = maps * self.feature_dropout(maps.new_ones(*maps.shape[:2], 1, 1))
        hidden = self.hidden_dropout(linear(maps.flatten(1), self.weight, self.bias))
        return pad(self._normalised(2, hidden).relu(), (0, 1), value=1.0)

    def queries(self, side: Side, anchors: Ids, r: Ids) -> Vectors:
        query = super().queries(side, anchors, r)
        # The 1 that a candidate's bias is multiplied with stays, whatever is dropped.
        return pad(query[:, :-1], (0, 1), value=1.0) if self.query_dropout.is_active else query

    def head_query(self, relation: RelationVectors, tail: Vectors) -> Vectors:
        raise AssertionError("conve is built with reciprocal relations only, and they ask for tails alone")

    def _normalised(self, layer: int, values: Tensor) -> Tensor:
        result: Tensor = self.norms[layer](values) if self.norms else values
        return result


@final
class _BatchNorm(nn.Module):
    """Batch normalisation with the paper's settings; a single row takes the running statistics."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(size))
        self.shift = nn.Parameter(torch.zeros(size))
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_var", torch.ones(size))

    def forward(self, values: Float[Tensor, "B C *rest"]) -> Float[Tensor, "B C *rest"]:
        """Mean 0 and variance 1 of each channel, then scale and shift."""
        training = self.training and len(values) > 1
        return batch_norm(values, self.running_mean, self.running_var, self.scale, self.shift, training=training)


def _layer(spec: ModelSpec, *shape: int) -> nn.Parameter:
    """Xavier-uniform weights: `init` is for the tables."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(*shape), generator=spec.generator))


def _divisor(dim: int) -> int:
    return next(rows for rows in range(math.isqrt(dim), 0, -1) if dim % rows == 0)
