"""The losses by name. A new loss is one file and one line here; tests and spaces are checked from this table."""

from collections.abc import Mapping

from kge.losses.base import AbstractLoss
from kge.losses.bce import BCE
from kge.losses.margin_ranking import MarginRanking
from kge.losses.ns import NS
from kge.losses.ns_freq import NSFreq
from kge.losses.sans import SANS
from kge.losses.sce import SCE
from kge.losses.sce_bc import SCEBackwardCorrection
from kge.losses.sce_cw import SCEClassWeights
from kge.losses.sce_ls import SCELabelSmoothing
from kge.losses.tans import TANS

LOSSES: Mapping[str, type[AbstractLoss]] = {
    "ns": NS,
    "ns_freq": NSFreq,
    "sans": SANS,
    "sce": SCE,
    "sce_ls": SCELabelSmoothing,
    "sce_bc": SCEBackwardCorrection,
    "sce_cw": SCEClassWeights,
    "tans": TANS,
    "bce": BCE,
    "margin_ranking": MarginRanking,
}

__all__ = ["LOSSES", "AbstractLoss"]
