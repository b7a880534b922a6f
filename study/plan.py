"""What a study is going to do, in words: arms, spaces, what differs between arms, budget, trainings and their cost."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from study.budget import UNIT_NAMES, amount, most_epochs, most_repeated
from study.config import StudyConfig
from study.pretraining import most_paid, start_text, trials_paid
from study.price import ArmHours, Case, Largest, Price, Prices, hours, middle, total
from study.records import Arm, Dimension, Value
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
    yield from _starts(config)
    yield from _cards(spaces)
    yield from _budget(config, spaces)


def memory_lines(spaces: Mapping[str, Space], sizes: Iterable[Largest], *, process: int) -> Iterator[str]:
    """How much memory the largest training of each arm takes, beside what a process holds without one."""
    yield ""
    yield f"Memory of the largest training of each arm, by formula, beside a process of {process / 1e6:.0f} MB:"
    header = ("arm", "CPU", "GPU", "where")
    rows = ((each.arm, _mb(each.cpu), _mb(each.cuda), _differing(spaces[each.arm], each)) for each in sizes)
    yield from _table([header, *rows])


def price_lines(
    config: StudyConfig, spaces: Mapping[str, Space], cases: Sequence[tuple[Case, Case]], prices: Prices
) -> Iterator[str]:
    """Device-hours of the study on each kind of device that has prices."""
    for device, known in prices.items():
        programs = {_program(price) for pair in cases for case in pair if (price := known.get(case.sha256))}
        if not programs:
            continue
        arms = [[hours(config, spaces[case.arm], case, known) for case in pair] for pair in cases]
        yield ""
        yield f"Device-hours on {device}, at most, each training alone on it ({'; '.join(sorted(programs))}):"
        columns = ("s/epoch", "search", "replicates")
        heads = [("", "middle", "", "", "dearest", "", ""), ("arm", *columns, *columns)]
        sums = [total(each) for each in zip(*arms, strict=True)]
        yield from _table([*heads, *(_hour_row(pair) for pair in [*arms, sums])])
        between, dearest = (f"{each.all:.3g} device-hours" for each in sums)
        yield f"All trainings in the middle of their spaces: {between}; all dearest: {dearest}."
        if unpriced := sum(any(one.seconds is None for one in pair) for pair in arms):
            yield f"{unpriced} of {len(arms)} arms have no price there: `study plan --measure` makes them."


def _program(price: Price) -> str:
    commit, _, changed = price.commit.partition(" ")
    return f"torch {price.torch}, commit {commit[:12] or 'unknown'}{' ' + changed if changed else ''}"


def _hour_row(pair: Sequence[ArmHours]) -> Sequence[str]:
    cells = ((_number(one.seconds), _number(one.search), _number(one.replicates)) for one in pair)
    return (pair[0].arm, *(cell for three in cells for cell in three))


def _differing(space: Space, big: Largest) -> str:
    """Where the largest training is off the middle of its space."""
    between = middle(space)
    return ", ".join(f"{path} {_shown(value)}" for path, value in big.params.items() if value != between[path])


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _objectives(config: StudyConfig) -> Iterator[str]:
    yield "By theory, arms of one model with the same objective answer the same question; others do not:"
    for objective in dict.fromkeys(arm.objective for arm in config.arms):
        yield f"  {objective:13} {', '.join(arm.name for arm in config.arms if arm.objective == objective)}"


def _starts(config: StudyConfig) -> Iterator[str]:
    starting = [arm for arm in config.arms if arm.starts_elsewhere]
    if starting:
        yield "Pretrained, and charged for it before the first trial:"
        yield from _table([(arm.name, f"starts from {start_text(arm, ())}") for arm in starting])
        yield ""


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
    """What an arm may spend, and what all of them come to; at least or at most, where trials decide it."""
    unit, arms, replicates = config.budget_unit, len(config.arms), config.replicates
    limit = amount(config.budget, unit)
    epochs = {name: most_epochs(space.card()) for name, space in spaces.items()}
    trials = {arm.name: _fewest_trials(config, arm, epochs) for arm in config.arms}
    trials_are = ", " if unit == "trials" else "; of its trials "
    yield f"Budget of each arm: {limit:g} {UNIT_NAMES[unit]}{trials_are}{_dice(config)}."
    if config.pruning is None:
        yield "Pruning: none."
    else:
        first, factor = config.pruning.min_epochs, config.pruning.reduction_factor
        longest = max(epochs.values())
        yield f"Pruning: within each arm, at {first}, {first * factor}, ... epochs the best 1/{factor} go on."
        if first >= longest:
            yield f"Caution: no training is longer than {longest} epochs, so none is pruned."
        elif unit == "trials":
            yield _pruned_trials(limit * longest)
    paid = trials_paid(config.arms) if unit == "trials" else 0
    total = sum(trials.values()) - paid + arms * replicates
    least, less = "" if unit == "trials" else "at least ", f" - {paid} that pay for pretraining" if paid else ""
    alike = len(set(trials.values())) == 1
    begun = f"{arms} arms x {min(trials.values())} trials" if alike else f"{sum(trials.values())} trials"
    yield f"Trainings: {least}{begun}{less} + {arms} arms x {replicates} replicates = {least}{total}."
    again = sum(most_repeated(each, config.budget, unit) for each in epochs.values()) * replicates
    if unit == "device_seconds":
        yield f"Device-seconds: {arms} arms x {limit:g} = {arms * limit:g}, and {again:g} epochs of replicates at most."
    else:
        searched = arms * limit if unit == "epochs" else sum(epochs[name] * trials[name] for name in spaces)
        yield f"Epochs: {searched + again:g} at most."


def _pruned_trials(epochs: float) -> str:
    """Why trials are no equal work where they are pruned, and what is."""
    return (
        "Caution: a pruned trial counts as a whole one, so an arm whose curves rise late, of which rungs prune what"
        f" would have become good, pays as much for less. `budget: {{epochs: {epochs:g}}}` costs no more and lets an"
        " arm start further trials with what pruned ones did not use; or leave `pruning` out."
    )


def _fewest_trials(config: StudyConfig, arm: Arm, epochs: Mapping[str, int]) -> int:
    """The trials that an arm has at least; in trials what pays for its start counts as one."""
    limit = amount(config.budget, config.budget_unit)
    if config.budget_unit == "trials":
        return int(limit)
    if config.budget_unit == "device_seconds":
        return int(not arm.starts_elsewhere)
    paid = most_paid(arm, {each.name: each for each in config.arms}, epochs)
    return 0 if paid >= limit else math.ceil((limit - paid) / epochs[arm.name])


def _dice(config: StudyConfig) -> str:
    sampler, first = config.search.sampler, config.search.first
    if sampler == "random" or 0 < config.budget.trials <= first:
        return "all drawn alike in all arms"
    return f"the first {first} drawn alike in all arms, then {sampler}"


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
