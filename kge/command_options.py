"""What options of several commands share: device, threads, data set; that numbers are finite and places writable."""

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kge.errors import first_line
from kge.files import is_writable

if TYPE_CHECKING:
    from kge.data import Dataset

THREADS = click.IntRange(1, 1024)  # torch takes any number, and starts so many
_DEVICE = re.compile(r"(cpu|cuda)(:\d+)?")


class FiniteRange(click.FloatRange):
    """The finite numbers of a range: to click nan is in every one, because it is neither below nor above a bound."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"must be a finite number, got {value}", param, ctx)
        return number


class PathTo(click.Path):
    """A path as pathlib has it; an empty one, which an unset variable of a shell leaves, would be the folder here."""

    def __init__(self, *, file: bool = True, folder: bool = True) -> None:
        super().__init__(file_okay=file, dir_okay=folder, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("must be a path, got ''", param, ctx)
        return super().convert(value, param, ctx)


def writable_folder(folder: Path, option: str) -> Path:
    """The folder, of which nothing is made yet: an hour of work should not end by finding no place."""
    if not is_writable(folder):
        raise click.UsageError(f"{option}: must be a folder that can be written, got {folder}")
    return folder


def writable_file(path: Path, option: str) -> Path:
    """The same of a file, whose folder need not be there yet."""
    if not path.name or not is_writable(path.parent):
        raise click.UsageError(f"{option}: must be a file in a folder that can be written, got {path}")
    return path


def _threads(context: click.Context, _: click.Parameter, count: int | None) -> int | None:
    if count is not None and not context.resilient_parsing:
        import torch

        torch.set_num_threads(count)
    return count


def _device(context: click.Context, _: click.Parameter, name: str | None) -> str:
    import torch

    if name is None or context.resilient_parsing:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if _DEVICE.fullmatch(name) is None:
        raise click.UsageError(f"--device: must be cpu or cuda (cuda:N), got {name!r}")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise click.UsageError(f"--device: must be a device of this machine, got {name!r} ({reason})") from None
    return name


def kind_of_device(_: click.Context, option: click.Parameter, name: str | None) -> str | None:
    """Where any device of a kind will do, and none is one that is found out later."""
    if name not in {None, "cpu", "cuda"}:
        raise click.UsageError(f"{option.opts[0]}: must be cpu or cuda, got {name!r}")
    return name


on_device = click.option("--device", callback=_device, help="cpu or cuda[:N]; the GPU when there is one.")
with_threads = click.option("--threads", type=THREADS, callback=_threads, expose_value=False, help="CPU threads.")
of_dataset = click.option("--dataset", help="Folder or name, when it is not where the training found it.")


def name_of_dataset(checkpoint: Path, named: str | None) -> str:
    """The data set that is named, or that the checkpoint was trained on; DataError where that is not here any more."""
    from kge import checkpoint as checkpoints
    from kge.catalog import NAMES, unknown_dataset
    from kge.errors import DataError

    name = named or checkpoints.config_of(checkpoints.load(checkpoint)).dataset
    if not named and name not in NAMES and not Path(name).exists():
        told = f"{checkpoint}: was trained on {name!r}, --dataset says where that is now"
        raise DataError(f"{told}: {unknown_dataset(name)}")
    return name


def dataset_of(checkpoint: Path, named: str | None) -> "Dataset":
    """The same, loaded."""
    from kge.catalog import load

    return load(name_of_dataset(checkpoint, named))
