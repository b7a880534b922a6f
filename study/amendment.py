"""A change of the study file after the study has begun: what may change, and in which words it is told.

    may grow        budget (in its unit), replicates, arms
    may change      resources (not what a trial holds, where device-seconds are the budget), failures, comments,
                    the order of arms
    must stay       name, dataset, seed, search, pruning, comparison, and every arm with its whole search space

Where arms start from others, what these have found must stay, and so must their budgets and failures.
So no trial that exists could have had other parameters or another seed, and an arm that is added disturbs none: its
draws and seeds are its own. Trials that the smaller budget had cut short stay as short, which the report says.
To give an arm whose test split was opened more trials or replicates is refused, unless it is said that the split
may be opened again.
"""

import dataclasses
import difflib
import json
from collections.abc import Iterable, Iterator, Mapping

from study.config import StudyConfig
from study.errors import StudyFileError
from study.plan import describe
from study.records import Dimension, SpaceCard
from study.space import Space

Flat = Mapping[str, object]  # key of the study file -> value

_GROW = ("budget", "replicates")
_FREE = ("resources", "failures", "fixed", "spaces")  # the last two as far as the spaces of old arms stay the same
_DEVICE = ("resources.cpus_per_trial", "resources.gpus_per_trial", "resources.custom")  # what a device-second is worth


def is_same(before: StudyConfig, after: StudyConfig) -> bool:
    """True when two study files declare the same study, however they are written."""
    return _flat(before) == _flat(after) and set(before.arms) == set(after.arms)


def difference(before: StudyConfig, after: StudyConfig) -> str:
    """The two files, line against line."""
    old, new = before.text.splitlines(), after.text.splitlines()
    return "\n".join(difflib.unified_diff(old, new, before.document.path, after.document.path, lineterm=""))


def changes(
    before: StudyConfig, after: StudyConfig, *, cards: Iterable[SpaceCard], spaces: Mapping[str, Space]
) -> tuple[str, ...]:
    """Each change in one line; StudyFileError names all that must not change.

    Args:
        before: the study as it is.
        after: the study as it is to be.
        cards: the search spaces of the arms that are there.
        spaces: the search spaces of the arms that are to be, by arm.
    """
    problems = list(_problems(before, after, cards=cards, spaces=spaces))
    if len(problems) > 1:
        path, lines = after.document.path, "\n".join(problems)
        raise StudyFileError(
            f"{path}: must be of the study that it is to amend, and differs in more than may:\n{lines}"
        )
    if problems:
        raise StudyFileError(problems[0])
    added = [arm.name for arm in after.arms if arm.name not in {each.name for each in before.arms}]
    return (*_changed_keys(before, after), *(f"arms: {name} added" for name in added))


def needs_reopening(before: StudyConfig, after: StudyConfig) -> bool:
    """True when arms that are there would go on: with more trials, or more replicates."""
    limits = (before.identical_errors, after.identical_errors)
    patience = [float("inf") if limit is None else limit for limit in limits]
    larger = before.budget != after.budget or before.replicates != after.replicates
    return larger or patience[1] > patience[0]


def _flat(config: StudyConfig) -> dict[str, object]:
    """Everything that a study file says but its arms."""
    pruning = dataclasses.asdict(config.pruning) if config.pruning else {}
    sections: Mapping[str, Mapping[str, object]] = {
        "search": {"sampler": config.search.sampler, "random_trials": config.search.first},
        "pruning": pruning,
        "budget": {config.budget_unit: getattr(config.budget, config.budget_unit)},
        "comparison": dataclasses.asdict(config.comparison),
        "failures": {"identical_errors": config.identical_errors},
        "fixed": config.fixed,
        "spaces": config.spaces,
        "resources": dataclasses.asdict(config.resources),
    }
    top = {"name": config.name, "dataset": config.dataset, "seed": config.seed, "replicates": config.replicates}
    return top | {f"{section}.{key}": value for section, each in sections.items() for key, value in each.items()}


def _changed_keys(before: StudyConfig, after: StudyConfig) -> Iterator[str]:
    old, new = _flat(before), _flat(after)
    yield from (f"{key}: {_shown(old, key)} -> {_shown(new, key)}" for key in _differing(old, new))


def _differing(old: Flat, new: Flat) -> list[str]:
    keys = sorted(old.keys() | new.keys(), key=lambda each: (each not in old, each))
    return [key for key in keys if key not in old or key not in new or old[key] != new[key]]


def _problems(
    before: StudyConfig, after: StudyConfig, *, cards: Iterable[SpaceCard], spaces: Mapping[str, Space]
) -> Iterator[str]:
    """What must not change and does, a sentence each."""
    arms = dict(_arm_problems(before, after))
    yield from arms.values()
    if any(arm.source is not None for arm in before.arms):
        yield from _source_problems(before, after)
    said = set[str]()  # what differs in several arms is said of the first
    for card in cards:
        if card.arm not in arms:
            yield from _space_problems(card, spaces[card.arm], after, said)
    yield from _key_problems(_flat(before), _flat(after), after)


def _key_problems(old: Flat, new: Flat, after: StudyConfig) -> Iterator[str]:
    units = [next(each for each in flat if each.startswith("budget.")) for flat in (old, new)]
    if units[0] != units[1]:
        place = after.document.where(("budget",))
        yield f"{place}: must stay in one unit in an amendment: {units[0]}, got {units[1]}"
    for key in _differing(old, new):
        section, _, rest = key.partition(".")
        place = after.document.where((section, rest) if rest else (section,))
        if section in _GROW:
            was, now = old.get(key), new.get(key)
            if isinstance(was, int | float) and isinstance(now, int | float) and now < was:
                yield f"{place}: must not shrink in an amendment: at least {_shown(old, key)}, got {now}"
        elif section not in _FREE or (key in _DEVICE and "budget.device_seconds" in new):
            yield f"{place}: must stay {_shown(old, key)} in an amendment, got {_shown(new, key)}"


def _arm_problems(before: StudyConfig, after: StudyConfig) -> Iterator[tuple[str, str]]:
    """The arms that are not there any more or are others, each with the first that differs."""
    arms, place = {arm.name: arm for arm in after.arms}, after.document.where(("arms",))
    for arm in before.arms:
        if arm.name not in arms:
            kept = ", ".join(arms)
            yield arm.name, f"{place}: must keep every arm in an amendment: {arm.name} is missing, got {kept}"
            continue
        now = arms[arm.name]
        for field in ("model", "loss", "training_type", "fixed", "objective", "source", "checkpoint"):
            if getattr(arm, field) != getattr(now, field):
                was, got = _words(getattr(arm, field)), _words(getattr(now, field))
                yield arm.name, f"{place}: arm {arm.name}: {field} must stay {was} in an amendment, got {got}"
                break


def _source_problems(before: StudyConfig, after: StudyConfig) -> Iterator[str]:
    """More trials of an arm could find another best than the one that an arm has started from."""
    old, new = _flat(before), _flat(after)
    for section in ("budget", "failures"):
        was, now = ({key: value for key, value in flat.items() if key.startswith(section)} for flat in (old, new))
        if was != now:
            starts = ", ".join(arm.name for arm in before.arms if arm.source is not None)
            place = after.document.where((section,))
            yield f"{place}: must stay in an amendment where arms start from the best of others ({starts})"


def _space_problems(card: SpaceCard, space: Space, after: StudyConfig, said: set[str]) -> Iterator[str]:
    old, new = _entries(card), _entries(space.card())
    for path in sorted(old.keys() | new.keys()):
        if path not in old or path not in new or old[path] != new[path]:
            place = space.origins.get(path, after.document.where(("arms",)))
            was, now = _shown(old, path), _shown(new, path)
            must = f"{path} must stay {was} in an amendment, got {now}"
            if must not in said:
                said.add(must)
                yield f"{place}: arm {card.arm}: {must}"


def _entries(card: SpaceCard) -> Flat:
    return {each.path: each for each in card.tuned} | dict(card.fixed)


def _shown(flat: Flat, key: str) -> str:
    return _words(flat[key]) if key in flat else "absent"


def _words(value: object) -> str:
    """A value as JSON spells it, a name as it is, a dimension or an arm's options in words."""
    if isinstance(value, str):
        return value
    if isinstance(value, Dimension):
        return describe(value)
    if isinstance(value, tuple):
        return ", ".join(f"{path} {_words(each)}" for path, each in value) or "no options"
    return json.dumps(value)
