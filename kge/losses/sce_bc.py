"""Softmax cross-entropy with backward correction.

    loss(row) = - (#x / #y) log p(y|x)

Kamigaito & Hayashi, ACL 2021, after Patrini et al., CVPR 2017. Objective p_d(y|x) / p_d(y), normalised: the
one of ns_freq. The weight is the inverse transition of their theory up to a factor of x alone, unnormalised.
"""

from typing import final

from jaxtyping import Float, Int
from torch import Tensor

from kge.losses.base import AbstractSoftmaxLoss


@final
class SCEBackwardCorrection(AbstractSoftmaxLoss):
    """Softmax cross-entropy weighted by query count over answer count, each slot with its own counts."""

    objective = "p_d/p_y"

    def row_weights(
        self, *, queries: Int[Tensor, " N"], answers: Int[Tensor, " N"], degrees: Int[Tensor, " N"]
    ) -> Float[Tensor, " N"]:
        return queries / answers
