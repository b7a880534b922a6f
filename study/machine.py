"""Whether a trial fits on this machine, and what is done in another way there, as far as Ray need not be asked."""

import os
from collections.abc import Iterator

import torch

from kge.precision import has_bfloat16
from study.config import StudyConfig
from study.errors import StudyFileError

_RAYS_OWN = ("accelerator_type:", "node:")  # how resources begin that Ray gives to a node by itself


def check_fits(config: StudyConfig) -> None:
    """StudyFileError where no trial could ever start in a cluster of this machine alone."""
    for sentence in lacking(config):
        raise StudyFileError(f"{sentence}; --address names another cluster")


def lacking(config: StudyConfig) -> Iterator[str]:
    """What a trial needs and this machine has not, by file, line and key."""
    needs = config.resources
    for key, need, most in (
        ("cpus_per_trial", needs.cpus_per_trial, os.cpu_count() or 1),
        ("gpus_per_trial", needs.gpus_per_trial, torch.cuda.device_count()),
    ):
        if need > most:
            where = config.document.where(("resources", key))
            yield f"{where}: must be at most {most} where the cluster is this machine, got {need:g}"
    for name in needs.custom:
        if not name.startswith(_RAYS_OWN):
            where = config.document.where(("resources", "custom", name))
            yield f"{where}: must be left out where the cluster is this machine, which has CPUs and GPUs"


def substituted(config: StudyConfig) -> Iterator[str]:
    """What a trial asks for and this machine does in another way, by file, line and key."""
    device = "cuda" if config.resources.gpus_per_trial else "cpu"
    asked = config.fixed.get("training.precision") == "bfloat16"
    is_here = device == "cpu" or torch.cuda.is_available()
    if asked and is_here and not has_bfloat16(device):
        where = config.document.where(("fixed", "training.precision"))
        yield f"{where}: bfloat16 is not multiplied by this machine's processor, which computes in float32 instead"
