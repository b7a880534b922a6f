"""The models by name. A new model is one file and one line here; tests and spaces are checked from this table."""

from collections.abc import Mapping

from kge.models.base import AbstractModel
from kge.models.complex import ComplEx
from kge.models.conve import ConvE
from kge.models.cp import CP
from kge.models.distmult import DistMult
from kge.models.rescal import RESCAL
from kge.models.rotate import RotatE
from kge.models.simple import SimplE
from kge.models.transe import TransE
from kge.models.tucker import TuckER

MODELS: Mapping[str, type[AbstractModel]] = {
    "rescal": RESCAL,
    "tucker": TuckER,
    "distmult": DistMult,
    "complex": ComplEx,
    "cp": CP,
    "simple": SimplE,
    "conve": ConvE,
    "transe": TransE,
    "rotate": RotatE,
}

__all__ = ["MODELS", "AbstractModel"]
