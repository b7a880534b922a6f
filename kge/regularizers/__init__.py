"""The regularizers by name."""

from collections.abc import Mapping

from kge.config import RegularizerConfig
from kge.regularizers.base import AbstractRegularizer
from kge.regularizers.dura import DURA
from kge.regularizers.lp import Lp
from kge.regularizers.n3 import N3

REGULARIZERS: Mapping[str, type[AbstractRegularizer]] = {"lp": Lp, "n3": N3, "dura": DURA}


def build_regularizer(config: RegularizerConfig) -> AbstractRegularizer | None:
    """The penalty that a configuration asks for; None when its weights are zero."""
    match config.name:
        case "lp" if config.entity_weight or config.relation_weight:
            return Lp(
                p=config.p,
                weighted=config.weighted,
                entity_weight=config.entity_weight,
                relation_weight=config.relation_weight,
            )
        case "n3" if config.weight:
            return N3(weight=config.weight)
        case "dura" if config.weight:
            return DURA(weight=config.weight, entity_share=config.entity_share)
        case _:
            return None


__all__ = ["REGULARIZERS", "AbstractRegularizer", "build_regularizer"]
