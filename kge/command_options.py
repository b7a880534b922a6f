"""Options that several commands share: device, threads, and the data set of a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kge.data import Dataset


def _threads(context: click.Context, _: click.Parameter, count: int | None) -> int | None:
    if count is not None and not context.resilient_parsing:
        import torch

        torch.set_num_threads(count)
    return count


def _device(context: click.Context, _: click.Parameter, name: str | None) -> str:
    import torch

    if name is None or context.resilient_parsing:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if torch.device(name).type not in ("cpu", "cuda"):
            raise RuntimeError("neither cpu nor cuda")
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise click.BadParameter(f"must be a device of this machine, got {name!r} ({reason})") from None
    return name


on_device = click.option("--device", callback=_device, help="cpu or cuda[:N]; the GPU when there is one.")
with_threads = click.option(
    "--threads", type=click.IntRange(1), callback=_threads, expose_value=False, help="CPU threads."
)
of_dataset = click.option("--dataset", help="Folder or name, when it is not where the training found it.")


def name_of_dataset(checkpoint: Path, named: str | None) -> str:
    """The data set that is named, or that the checkpoint was trained on."""
    from kge import checkpoint as checkpoints

    return named or checkpoints.config_of(checkpoints.load(checkpoint)).dataset


def dataset_of(checkpoint: Path, named: str | None) -> "Dataset":
    """The same, loaded."""
    from kge.catalog import load

    return load(name_of_dataset(checkpoint, named))
