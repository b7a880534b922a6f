"""Randomness as a function: every seed is a hash of the study's seed and what it is for.

Nothing depends on how many draws came before, so an arm, a trial or a dimension that is added or taken
away changes no other draw, and a resumed study draws what the undisturbed one would have drawn.
"""

import hashlib
import json

from study.records import Value


def derive(study_seed: int, *keys: Value) -> int:
    """64 bits that belong to these keys."""
    text = json.dumps([study_seed, *keys]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def uniform(study_seed: int, trial: int, path: str) -> float:
    """A draw from [0, 1) for a dimension of the n-th trial, the same in every arm (common random numbers)."""
    return (derive(study_seed, "uniform", trial, path) >> 11) * 2.0**-53


def training_seed(study_seed: int, arm: str, number: int, purpose: str = "training") -> int:
    """31 bits for the training of a trial, or, with another purpose, of a replicate."""
    return derive(study_seed, arm, number, purpose) & 0x7FFFFFFF
