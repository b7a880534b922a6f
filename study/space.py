"""The search space of an arm: which values are tuned within which bounds, and which are held fixed.

    search_spaces/base.yaml, then models/<model>.yaml, then losses/<loss>.yaml     later wins on a path
    then the study's `spaces`, then what the arm and the study hold fixed

A path is a key of TrainingConfig (`optimizer.lr`, `loss.margin`), its entry one of

    {float: [low, high], log: true}   {int: [low, high], step: 2}   {choices: [a, b]}   {value: x}

A draw maps one number of [0, 1) through each dimension's inverse distribution function, so arms that
share a dimension and its bounds draw the same value from the same number.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from kge.batches import has_kernel
from kge.documents import Location, check_size, key_path, parse_config, read, set_path, to_mapping
from kge.errors import ConfigError
from kge.losses import LOSSES
from kge.models import MODELS
from kge.names import spelled, unknown
from kge.options import defaults, options
from kge.switches import MATTERS
from study.config import StudyConfig, study_file_errors
from study.layout import best_checkpoint, trial_folder
from study.paths import DECIDED, paths, unknown_path
from study.records import Arm, Dimension, Params, SpaceCard, Value
from study.resources import resource_folder

_BFLOAT16 = ("training.precision", "bfloat16")  # for the arms that can, float32 in the others: a matter of speed
_SHAPE = ("model.dim", "model.reciprocal", "model.relation_dim")  # what decides the shape of a model's tables
_INIT = "model.init."  # decides the two tables of every model and nothing else
_KINDS = {"float": ("log", "step"), "int": ("log", "step"), "choices": (), "value": ()}
_LARGEST = {"float": 1e300, "int": 10**15}  # no range between such bounds overflows, each such integer is a float
_A_NUMBER = {"float": "a number", "int": "an integer"}
_FINEST = 10**7  # steps from zero to a bound of floats: on a finer grid Optuna does not find all its values again


@dataclass(frozen=True, kw_only=True)
class Space:
    """What an arm tunes and what it holds fixed; a card read from a database is as good as the files."""

    arm: Arm
    tuned: tuple[Dimension, ...]  # by path
    fixed: tuple[tuple[str, Value], ...]  # by path
    origins: Mapping[str, str] = field(default_factory=dict)  # path -> the file, line and key that decided it

    @classmethod
    def of(cls, arm: Arm, card: SpaceCard) -> "Space":
        """The space that a card describes."""
        return cls(arm=arm, tuned=card.tuned, fixed=card.fixed)

    def card(self) -> SpaceCard:
        """The space as a record."""
        switches = tuple((each.path, *MATTERS[each.path]) for each in self.tuned if each.path in MATTERS)
        return SpaceCard(arm=self.arm.name, tuned=self.tuned, fixed=self.fixed, switches=switches)

    def draw(self, uniform: Callable[[str], float]) -> Params:
        """One value for each dimension, from a number in [0, 1) for its path."""
        return {each.path: quantile(each, uniform(each.path)) for each in self.tuned}

    def config(self, params: Params, seed: int) -> dict[str, Any]:
        """The whole TrainingConfig of sampled params, nested; refused with the place that decided a bad value."""
        arm = self.arm
        mapping: dict[str, Any] = {"dataset": arm.dataset, "seed": seed}
        decided: dict[str, Value] = {"model.name": arm.model, "loss.name": arm.loss, "training.type": arm.training_type}
        decided["pretrain.checkpoint"] = arm.checkpoint
        for path, value in {**decided, **dict(self.fixed), **params}.items():
            set_path(mapping, path, value)
        return to_mapping(parse_config(mapping, self.where))

    def check_size(self, num_entities: int) -> None:
        """ConfigError where what is fixed, or an end of a range, has no meaning with so many entities."""
        for u in (0.0, 0.5, math.nextafter(1, 0)):
            params = {each.path: quantile(each, u) for each in self.tuned}
            try:
                config = parse_config(self.config(params, seed=0))
            except ConfigError:  # a draw that cannot be trained is a trial of its own, and fails
                continue
            check_size(config, self._named, num_entities=num_entities)

    def trial_config(self, params: Params, seed: int, *, epochs: int, source: int | None) -> dict[str, Any]:
        """That of a trial which was given so many epochs; it stops there where these are fewer than its own."""
        stop = {"training.stop_epoch": epochs} if 0 < epochs < self.epochs(params) else {}
        return self.config({**params, **stop, **self.start(source)}, seed)

    def start(self, source: int | None) -> dict[str, Value]:
        """What a training starts from: a trial of the arm's source, where it has one."""
        if self.arm.source is None or source is None:
            return {}
        return {"pretrain.checkpoint": str(best_checkpoint(trial_folder(self.arm.source, source)))}

    def epochs(self, params: Params) -> int:
        """The most that a training of sampled params may take."""
        epochs = {**dict(self.fixed), **params}["training.max_epochs"]
        assert isinstance(epochs, int), epochs
        return epochs

    def _named(self, loc: Location) -> str:
        """The place with its key, which an arm's own option has not in its."""
        place, path = self.where(loc), key_path(loc)
        return place if place.endswith(path) else f"{place}: {path}"

    def where(self, loc: Location) -> str:
        """The file, line and key that decided a value, or the arm and the key."""
        path = key_path(loc)
        return self.origins.get(path, f"arm {self.arm.name}: {path}")


def quantile(dimension: Dimension, u: float) -> Value:
    """The dimension's inverse distribution function at u in [0, 1)."""
    if dimension.kind == "categorical":
        return dimension.choices[int(u * len(dimension.choices))]
    assert dimension.low is not None and dimension.high is not None
    low, high, step = dimension.low, dimension.high, dimension.step
    if dimension.kind == "int":
        if dimension.log:
            return int(min(max(round(_between(low - 0.5, high + 0.5, u, log=True)), low), high))
        step = step or 1
    if step:
        value = low + int(u * (round((high - low) / step) + 1)) * step
    else:
        value = _between(low, high, u, log=dimension.log)
    return int(value) if dimension.kind == "int" else min(max(value, low), high)


def _between(low: float, high: float, u: float, *, log: bool) -> float:
    if log:
        return math.exp(_between(math.log(low), math.log(high), u, log=False))
    return low + u * (high - low)


def compose(config: StudyConfig, arm: Arm) -> Space:
    """The space of an arm, with its corners checked; StudyFileError names the file and line of what is wrong."""
    with study_file_errors():
        entries = dict(_entries(config, arm))
        dimensions = {path: _dimension(path, entry, origin) for path, (entry, origin) in entries.items()}
        fixed = {path: each.value for path, each in dimensions.items() if isinstance(each, _Fixed)}
        switches = fixed | {"training.type": arm.training_type}
        is_idle = partial(_is_idle, arm, switches)
        tuned = [each for each in dimensions.values() if isinstance(each, Dimension) and not is_idle(each.path)]
        space = Space(
            arm=arm,
            tuned=tuple(sorted(tuned, key=lambda each: each.path)),
            fixed=tuple(sorted((path, value) for path, value in fixed.items() if not is_idle(path))),
            origins={path: origin for path, (_, origin) in entries.items()} | _start_of(config, arm),
        )
        for params in _corners(space):
            _check_objective(space, space.config(params, seed=0))
    return space


def compose_all(config: StudyConfig) -> dict[str, Space]:
    """The space of every arm by its name; arms of which one starts from the other have tables of the same shape."""
    spaces = {arm.name: compose(config, arm) for arm in config.arms}
    with study_file_errors():
        _check_used(config, spaces.values())
        for space in spaces.values():
            _check_tables(space, spaces, partial(_start, config))
    return spaces


def _check_used(config: StudyConfig, spaces: Iterable[Space]) -> None:
    """A key of the study file that decides nothing in any arm says that something else was meant, as in `kge train`."""
    used = {path for space in spaces for path in (*(each.path for each in space.tuned), *dict(space.fixed))}
    for section, values in (("spaces", config.spaces), ("fixed", config.fixed)):
        for path in values:
            if path in used:
                continue
            must = "must be left out: all arms start from other tables"
            if path in MATTERS:
                switch, needed = MATTERS[path]
                must = f"must be left out, or {switch} must be {' or '.join(map(str, needed))} in an arm"
            raise ConfigError(f"{config.document.where((section, path))}: {must}: as it is it means nothing")


def _start_of(config: StudyConfig, arm: Arm) -> dict[str, str]:
    return {} if arm.checkpoint is None else {"pretrain.checkpoint": _start(config, arm)}


def _start(config: StudyConfig, arm: Arm) -> str:
    """Where the study file says what an arm starts from; its range may stand in a file that the user never saw."""
    label = arm.name.partition(".")[2]  # labels have no dots
    losses = enumerate(config.document.data["arms"]["losses"])
    index = next(at for at, loss in losses if isinstance(loss, dict) and loss.get("label", loss["name"]) == label)
    return config.document.where(("arms", "losses", index, "pretrain"))


def _check_tables(space: Space, spaces: Mapping[str, Space], where: Callable[[Arm], str]) -> None:
    arm = space.arm
    starts = [space] if arm.checkpoint is not None else [space, spaces[arm.source]] if arm.source is not None else []
    for path in _SHAPE if starts else ():
        for each in starts:
            tuned = next((dimension for dimension in each.tuned if dimension.path == path), None)
            if tuned is not None:
                must = f"must have {path} under `fixed`: {arm.name} starts from the tables"
                came = f"got a range in {each.arm.name} ({each.origins[path]})"
                raise ConfigError(f"{where(arm)}: {must} of {arm.source or arm.checkpoint}, {came}")
        values = [dict(each.fixed).get(path) for each in starts]
        if values[0] != values[-1]:
            must = f"must have {path} {values[-1]} as in {arm.source}, which {arm.name} starts from"
            raise ConfigError(f"{where(arm)}: {must}, got {values[0]} ({space.origins.get(path, 'its default')})")


def _corners(space: Space) -> Iterator[Params]:
    """All dimensions low, all high, and every choice and second integer with the rest in the middle."""
    yield space.draw(lambda _: 0.0)
    yield space.draw(lambda _: math.nextafter(1.0, 0.0))
    middle = space.draw(lambda _: 0.5)
    yield middle
    for each in space.tuned:
        for value in (*each.choices, *_second(each)):
            yield {**middle, each.path: value}


def _second(dimension: Dimension) -> tuple[Value, ...]:
    """The integer after the lowest: ends and middle may all be even."""
    if dimension.kind != "int" or dimension.low is None:
        return ()
    return (int(dimension.low + (dimension.step or 1)),)


def space_files(arm: Arm) -> list[Path]:
    """The files that an arm's space is composed from, the strongest last."""
    folder = resource_folder("search_spaces")
    return [folder / "base.yaml", folder / "models" / f"{arm.model}.yaml", folder / "losses" / f"{arm.loss}.yaml"]


@dataclass(frozen=True)
class _Fixed:
    """A value that is not tuned."""

    value: Value


def _entries(config: StudyConfig, arm: Arm) -> Iterator[tuple[str, tuple[Any, str]]]:
    """Path, entry and origin, the strongest last."""
    known = paths(arm.model, arm.loss)
    for file in space_files(arm):
        document = read(file)
        for path, entry in document.data.items():
            origin = document.where((path,))
            _check_path(path, entry, known, origin, section="spaces")
            yield path, (entry, origin)
    anywhere = set().union(*(paths(each.model, each.loss) for each in config.arms))
    # The fixed training type is that of the arms whose loss has none of its own.
    fixed = {path: arm.training_type if path == "training.type" else value for path, value in config.fixed.items()}
    for section, values in (("spaces", config.spaces), ("fixed", fixed)):
        for path, value in values.items():
            origin = config.document.where((section, path))
            _check_path(path, value, anywhere, origin, section=section)
            if section == "fixed" and path in dict(arm.fixed):
                raise ConfigError(f"{origin}: must not repeat what arm {arm.name} holds fixed")
            if (path, value) == _BFLOAT16 and not _computes_in_bfloat16(arm):
                if not any(map(_computes_in_bfloat16, config.arms)):
                    raise ConfigError(f"{origin}: must be float32 or tf32: no arm is a softmax loss of inner products")
                continue
            if path in known:
                yield path, (value if section == "spaces" else {"value": value}, origin)
    for path, value in arm.fixed:
        yield path, ({"value": value}, config.document.where(("arms",)))


def _computes_in_bfloat16(arm: Arm) -> bool:
    return has_kernel(MODELS[arm.model], LOSSES[arm.loss])


def _is_idle(arm: Arm, switches: Mapping[str, Value], path: str) -> bool:
    """Whether a path decides nothing in the arm: beside what is fixed, or as its own tables are replaced by others."""
    if path.startswith(_INIT) and arm.starts_elsewhere:
        return True
    if path not in MATTERS:
        return False
    switch, values = MATTERS[path]
    return switch in switches and switches[switch] not in values


def _check_path(path: str, entry: object, known: Set[str], origin: str, *, section: str) -> None:
    if path in DECIDED:
        raise ConfigError(f"{origin}: must be left to the study and its arms")
    if path not in known:
        raise ConfigError(f"{origin}: {unknown_path(path, entry, known)}")
    if path == "training.type" and section == "spaces":
        raise ConfigError(f"{origin}: must stand under `fixed`: arms differ by it, so no space decides it")


def _check_objective(space: Space, config: Mapping[str, Any]) -> None:
    """An option that changes what a loss aims at is an arm's, or the study's: tuned, it would mix two questions."""
    arm = space.arm
    class_ = LOSSES[arm.loss]
    chosen = {**{name: config["loss"][name] for name in options(class_)}, "filtered": config["negatives"]["filtered"]}

    def aim(*, filtered: bool, **choice: Any) -> str:
        return class_(**choice).objective_with(arm.training_type, filtered=filtered)

    objective = aim(**chosen)
    if objective != arm.objective:
        usual = {**defaults(class_), "filtered": False}
        deciding = next((name for name in chosen if aim(**{**chosen, name: usual[name]}) != objective), "name")
        path = "negatives.filtered" if deciding == "filtered" else f"loss.{deciding}"
        place = "under `fixed`" if deciding == "filtered" else "in an arm, or under `fixed`"
        must = f"must not change what the loss aims at ({arm.objective}): hold it {place}"
        raise ConfigError(f"{space.origins.get(path, path)}: {must}, got {objective}")


def _dimension(path: str, entry: object, origin: str) -> Dimension | _Fixed:
    """One entry of a space, checked."""
    kinds = [kind for kind in _KINDS if isinstance(entry, Mapping) and kind in entry]
    if not isinstance(entry, Mapping) or len(kinds) != 1:
        raise ConfigError(f"{origin}: must be a mapping with one of {', '.join(_KINDS)}, got {entry}")
    kind = kinds[0]
    for key in entry:
        if key not in (kind, *_KINDS[kind]):
            raise ConfigError(f"{origin}: {unknown('key', key, (kind, *_KINDS[kind]))}")
    if kind == "value":
        return _Fixed(entry["value"])
    if kind == "choices":
        return Dimension(path=path, kind="categorical", choices=_choices(entry["choices"], origin))
    return _numeric(path, kind, entry, origin)


def _choices(values: object, origin: str) -> tuple[Value, ...]:
    plain = isinstance(values, list) and all(isinstance(each, str | int | float | None) for each in values)
    if not isinstance(values, list) or not plain or not values or len(set(map(_identity, values))) != len(values):
        raise ConfigError(f"{origin}: must be a list of different values, got {values}")
    return tuple(values)


def _identity(value: Value) -> tuple[bool, Value]:
    """Values differ by it: 1 is 1.0 and, unlike in Python, not true."""
    return isinstance(value, bool), value


def _numeric(path: str, kind: str, entry: Mapping[str, Any], origin: str) -> Dimension:
    bounds, log, step = entry[kind], entry.get("log", False), entry.get("step")
    pair = isinstance(bounds, list) and len(bounds) == 2
    if not pair or not all(_is_number(each, kind) for each in bounds):
        numbers = _A_NUMBER[kind].split()[-1]
        raise ConfigError(f"{origin}: must be [low, high] of {numbers}s up to {_LARGEST[kind]:g} in size, got {bounds}")
    low, high = bounds
    if not low < high:
        raise ConfigError(f"{origin}: must have low < high, got {bounds}")
    if not isinstance(log, bool):  # `yes` is a string in YAML 1.2
        raise ConfigError(f"{origin}.log: must be true or false, got {spelled(log)}")
    if log and (low <= 0 or step is not None):
        raise ConfigError(f"{origin}: must have low > 0 and no step when log is true, got {dict(entry)}")
    if step is not None:
        if not _is_of(step, kind):
            raise ConfigError(f"{origin}.step: must be {_A_NUMBER[kind]}, got {spelled(step)}")
        if not _is_number(step, kind) or step <= 0:
            raise ConfigError(f"{origin}: step must be {_A_NUMBER[kind]} > 0 and up to {_LARGEST[kind]:g}, got {step}")
        _check_grid(kind, bounds, step, origin)
    return Dimension(path=path, kind=kind, low=float(low), high=float(high), log=log, step=step and float(step))


def _is_number(value: Any, kind: str) -> bool:
    return _is_of(value, kind) and abs(value) <= _LARGEST[kind]


def _is_of(value: Any, kind: str) -> bool:
    return isinstance(value, int if kind == "int" else int | float) and not isinstance(value, bool)


def _check_grid(kind: str, bounds: list[float], step: float, origin: str) -> None:
    """In the decimals of the file, exactly, as Optuna does, which would cut what is not a whole number of steps."""
    low, high, width = (Fraction(str(each)) for each in (*bounds, step))
    if kind == "float" and max(abs(low), abs(high)) > _FINEST * width:
        raise ConfigError(f"{origin}: step must be at least {1 / _FINEST:g} of the larger bound, got {step}")
    if (high - low) % width:
        raise ConfigError(f"{origin}: must be a whole number of steps wide, got {bounds} in steps of {step}")
