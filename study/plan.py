"""What a study is going to do, in words: arms, spaces, what differs between arms, budget and trainings."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from study.config import StudyConfig
from study.records import Dimension, Value
from study.space import Space


def plan_lines(config: StudyConfig, spaces: Mapping[str, Space]) -> Iterator[str]:
    """The plan, line by line."""
    yield f"study {config.name}: data set {config.dataset}, seed {config.seed}, sha256 {config.sha256[:12]}"
    yield ""
    header = ("arm", "model", "loss", "training type", "objective", "tuned")
    rows = (
        (arm.name, arm.model, arm.loss, arm.training_type, arm.objective, str(len(spaces[arm.name].tuned)))
        for arm in config.arms
    )
    yield from _table([header, *rows])
    yield ""
    yield from _objectives(config)
    yield ""
    yield from _cards(spaces)
    yield from _budget(config, spaces)


def _objectives(config: StudyConfig) -> Iterator[str]:
    yield "By theory, arms of one model with the same objective answer the same question; others do not:"
    for objective in dict.fromkeys(arm.objective for arm in config.arms):
        yield f"  {objective:13} {', '.join(arm.name for arm in config.arms if arm.objective == objective)}"


def _cards(spaces: Mapping[str, Space]) -> Iterator[str]:
    """What all arms share, then what each has of its own."""
    entries = {name: _entries(space) for name, space in spaces.items()}
    shared = set.intersection(*(set(each.items()) for each in entries.values()))
    yield "In every arm:"
    yield from _table(sorted(shared))
    yield ""
    for name, own in entries.items():
        different = sorted(set(own.items()) - shared)
        if different:
            yield f"Only in {name}:"
            yield from _table(different)
            yield ""
    if all(set(own.items()) == shared for own in entries.values()):
        yield "No arm differs."
        yield ""


def _entries(space: Space) -> dict[str, str]:
    """Path -> what is done about it."""
    tuned = {each.path: describe(each) for each in space.tuned}
    return tuned | {path: f"fixed at {_shown(value)}" for path, value in space.fixed}


def describe(dimension: Dimension) -> str:
    """A tuned dimension in words: `float in [0.001, 1], log`."""
    if dimension.kind == "categorical":
        return f"one of {', '.join(map(_shown, dimension.choices))}"
    step = f", step {dimension.step:g}" if dimension.step else ""
    return f"{dimension.kind} in [{dimension.low:g}, {dimension.high:g}]{', log' if dimension.log else ''}{step}"


def _budget(config: StudyConfig, spaces: Mapping[str, Space]) -> Iterator[str]:
    trials, arms = config.budget.trials, len(config.arms)
    random = trials if config.search.sampler == "random" else min(trials, config.search.first)
    then = f", then {config.search.sampler}" if random < trials else ""
    yield f"Budget of each arm: {trials} trials, the first {random} drawn alike in all arms{then}."
    if config.pruning is None:
        yield "Pruning: none."
    else:
        first, factor = config.pruning.min_epochs, config.pruning.reduction_factor
        yield f"Pruning: within each arm, at {first}, {first * factor}, ... epochs the best 1/{factor} go on."
    replicates = arms * config.replicates
    total = arms * trials + replicates
    yield f"Trainings: {arms} arms x {trials} trials + {arms} arms x {config.replicates} replicates = {total}."
    epochs = sum(_max_epochs(space) * (trials + config.replicates) for space in spaces.values())
    yield f"Epochs: {epochs} at most."


def _max_epochs(space: Space) -> int:
    highest = {each.path: each.high or max(each.choices, default=0) for each in space.tuned}  # type: ignore[type-var]
    bound = (dict(space.fixed) | highest)["training.max_epochs"]
    assert isinstance(bound, int | float)
    return int(bound)


def _shown(value: Value) -> str:
    """A value as YAML spells it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Rows in aligned columns."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
