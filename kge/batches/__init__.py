"""The training types: what the rows of a batch are, and what they are scored against."""

from kge.batches.base import AbstractTrainingType
from kge.batches.block import Block, has_kernel
from kge.batches.k_vs_all import KVsAll
from kge.batches.negative_sampling import NegativeSampling
from kge.batches.one_vs_all import OneVsAll

__all__ = ["AbstractTrainingType", "Block", "KVsAll", "NegativeSampling", "OneVsAll", "has_kernel"]
