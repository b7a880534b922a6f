"""What a person sees while a study runs: one line per arm that moves, or plain lines where nothing can move."""

from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from study.budget import UNIT_NAMES
from study.work import ArmProgress

_REFRESHES = 4  # per second


class Display:
    """Shows the progress of a study on a console."""

    def __init__(self, console: Console, *, plain: bool = False) -> None:
        self._console = console
        self._arms: dict[tuple[str, str], ArmProgress] = {}
        # What others print goes to the study's log, not above the table.
        live = Live(console=console, refresh_per_second=_REFRESHES, redirect_stdout=False, redirect_stderr=False)
        self._live = live if console.is_terminal and not plain else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def progress(self, progress: ArmProgress) -> None:
        """Show an arm as it stands now."""
        self._arms[progress.stage, progress.arm] = progress
        if self._live is not None:
            self._live.start()  # not before: what is written while data sets are fetched must stay
            self._live.update(self._table())
        elif progress.said:
            self.say(f"{progress.stage} {progress.arm} {_share(progress)} {progress.said}")

    def say(self, sentence: str) -> None:
        """Print a line that stays."""
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Group:
        """Every stage, or the last alone where the terminal is too low."""
        stages = list(dict.fromkeys(stage for stage, _ in self._arms))
        fits = len(self._arms) + len(stages) < self._console.height
        return Group(*(self._stage(stage) for stage in (stages if fits else stages[-1:])))

    def _stage(self, stage: str) -> Table:
        table = Table(box=None, padding=(0, 1), show_edge=False, header_style="dim")
        for column in (stage, "", "done", "running", "best mrr", ""):
            table.add_column(column, justify="right" if column in ("done", "running", "best mrr") else "left")
        for (name, _), each in self._arms.items():
            if name == stage:
                table.add_row(*_row(each))
        return table


def _share(each: ArmProgress) -> str:
    """`3/20`, or `120/400 epochs`."""
    return f"{each.done:.0f}/{each.total:.0f}" + (f" {UNIT_NAMES[each.unit]}" if each.unit else "")


def _row(each: ArmProgress) -> tuple[Text | ProgressBar, ...]:
    best = f"{each.best_mrr:.4f}" if each.best_mrr is not None else "-"
    troubles = ((each.pruned, "pruned"), (each.failed, "failed"))
    return (
        Text(each.arm),
        ProgressBar(total=each.total, completed=each.done, width=24),
        Text(_share(each)),
        Text(str(each.running) if each.running else ""),
        Text(best),
        Text(", ".join(f"{count} {word}" for count, word in troubles if count), style="dim"),
    )
