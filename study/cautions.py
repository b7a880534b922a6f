"""What a study file says that is allowed, and is likely not what was meant: one sentence each, for `study plan`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from study.budget import most_epochs
from study.config import StudyConfig
from study.pretraining import most_paid
from study.records import Value
from study.rungs import levels
from study.space import Space

_NAMED = 4  # a sentence names this many arms and counts more


def cautions(config: StudyConfig, spaces: Mapping[str, Space]) -> Iterator[str]:
    """All that is to be said of a study without its data set and machine."""
    epochs = {name: most_epochs(space.card()) for name, space in spaces.items()}
    yield from _alike(spaces)
    yield from _of_epochs(config, epochs)
    yield from _late_validations(config, spaces, epochs)
    yield from _long_warmups(spaces, epochs)
    if config.replicates < 2:
        yield "with fewer than two replicates no pair of arms is decided"


def _alike(spaces: Mapping[str, Space]) -> Iterator[str]:
    """Arms that differ by their names alone: the difference between them is luck."""
    names = list(spaces)
    first = {name: next(other for other in names if _is_same(spaces[other], spaces[name])) for name in names}
    for name, other in first.items():
        if name != other:
            yield f"{name} and {other} are the same arm under two names"


def _is_same(one: Space, other: Space) -> bool:
    nameless = (replace(each.arm, name="", fixed=()) for each in (one, other))
    return len(set(nameless)) == 1 and (one.tuned, one.fixed) == (other.tuned, other.fixed)


def _of_epochs(config: StudyConfig, epochs: Mapping[str, int]) -> Iterator[str]:
    """Epochs buy so many whole trainings, after what an arm starts from is paid; more only where some end early."""
    if config.budget_unit != "epochs":
        return
    arms = {arm.name: arm for arm in config.arms}
    left = {name: config.budget.epochs - most_paid(arms[name], arms, epochs) for name in epochs}
    if nothing := [name for name in epochs if left[name] <= 0]:
        yield f"what it starts from may take the whole budget, and leave no trial: {_some(nothing)}"
    if short := [name for name, longest in epochs.items() if 0 < left[name] < longest]:
        yield f"a training may be longer than the budget, which then ends it: {_some(short)}"
    sampler, first = config.search.sampler, config.search.first
    few = [name for name, longest in epochs.items() if longest <= left[name] <= first * longest]
    if few and sampler != "random":
        yield f"after {first} random trials of full length nothing of the budget is left for {sampler}: {_some(few)}"


def _late_validations(config: StudyConfig, spaces: Mapping[str, Space], epochs: Mapping[str, int]) -> Iterator[str]:
    """A rung is asked at the first validation that is not before it, and none at the end of a training."""
    if config.pruning is None:
        return
    first, factor = config.pruning.min_epochs, config.pruning.reduction_factor
    arms = dict[str, list[str]]()
    for name, space in spaces.items():
        every = _largest(space, "validation.every") or 1
        late = [str(rung) for rung in levels(first, factor, until=epochs[name] - 1) if rung < every]
        if late and every >= epochs[name]:
            arms.setdefault("a training may be validated at its end alone, and is not pruned then", []).append(name)
        elif late:
            said = f"rungs at {', '.join(late)} epochs wait for the first validation, after {every:g}"
            arms.setdefault(said, []).append(name)
    for said, names in arms.items():
        yield f"{said}: {_some(names)}"


def _long_warmups(spaces: Mapping[str, Space], epochs: Mapping[str, int]) -> Iterator[str]:
    long = [name for name, space in spaces.items() if (_largest(space, "schedule.warmup") or 0) >= epochs[name]]
    if long:
        yield f"schedule.warmup may be as long as a training, whose rate then never comes to its height: {_some(long)}"


def _largest(space: Space, path: str) -> float | None:
    """The largest number that a path may have in an arm; None where the space leaves it to its default."""
    values: list[Value] = [value for name, value in space.fixed if name == path]
    for each in space.tuned:
        if each.path == path:
            values += [*each.choices, each.high]
    return max((float(value) for value in values if isinstance(value, int | float)), default=None)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _NAMED else f"{len(names)} arms"
