"""Where the trainings of a study keep their checkpoints; all paths start in its folder."""

from pathlib import Path

from kge.fitting import BEST

TRIALS, REPLICATES = "trials", "replicates"


def trial_folder(arm: str, number: int) -> Path:
    """Of a trial."""
    return Path(TRIALS, arm, str(number))


def replicate_folder(arm: str, index: int) -> Path:
    """Of a replicate."""
    return Path(REPLICATES, arm, str(index))


def best_checkpoint(folder: Path) -> Path:
    """The checkpoint of the best validation in a folder."""
    return folder / BEST
