"""Configuration documents: YAML with line numbers, validated records, and errors that name both.

The only reader of YAML. It is YAML 1.2, so `1e-4` is a number and `no` is a string. A mapping is
validated as if it were JSON, because strict JSON still turns mappings into records and lists into
tuples while it refuses "3" for 3 and true for 1. A problem is one sentence:

    studies/x.yaml:12: loss.normalize: must be one of 'sum', 'mean', got 'avg' (did you mean ...?)
"""

import dataclasses
import inspect
import json
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean
from torch import nn

from kge.building import build_loss, check_combination, training_type
from kge.config import LossConfig, ModelConfig, TrainingConfig, Value
from kge.errors import ConfigError, first_line
from kge.losses import LOSSES
from kge.models import MODELS
from kge.models.base import ModelSpec
from kge.names import spelled, unknown
from kge.options import defaults, options
from kge.switches import MATTERS, OPTIONS_MATTER, REGULARIZER_WEIGHTS, TOGETHER

Location = tuple[str | int, ...]
Where = Callable[[Location], str]
T = TypeVar("T")

_LARGEST = 2**31  # no count of anything is as large

_USUAL = TrainingConfig(dataset="", model=ModelConfig(name=""), loss=LossConfig(name=""))
_UNKNOWN = "unexpected_keyword_argument"
_MUST = {
    "missing": "given",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a string",
    "none_required": "null",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "dataclass_type": "a mapping",
}


@dataclass(frozen=True)
class Document:
    """A YAML file as plain data that still knows the line of every key and item."""

    path: str
    data: dict[str, Any]
    lines: Mapping[Location, int] = field(default_factory=dict)
    text: str = ""

    def where(self, loc: Location) -> str:
        """`file.yaml:12: arms.losses[2]`; the line is that of the nearest enclosing key that exists."""
        known = next((loc[:size] for size in range(len(loc), -1, -1) if loc[:size] in self.lines), None)
        file = self.path if known is None else f"{self.path}:{self.lines[known]}"
        return f"{file}: {key_path(loc)}" if loc else file


def key_path(loc: Location) -> str:
    """`arms.losses[2]` for ("arms", "losses", 2)."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".")


def read(path: str | Path) -> Document:
    """Read a YAML file whose top is a mapping; ConfigError names the file and line of what is wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    return read_text(text, str(path))


def read_text(text: str, path: str) -> Document:
    """As `read`, for text that came from elsewhere; `path` only names it in errors."""
    try:
        loaded = YAML(typ="rt").load(text)
        plain, lines = _plain(loaded), {(): 1} | dict(_lines(loaded, ()))
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1
        problem = str(error.problem).split(" with value")[0].removeprefix("found ")
        raise ConfigError(f"{path}:{line}: {problem}: every key must be given once") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise ConfigError(f"{path}:{mark.line + 1 if mark else 1}: must be YAML: {problem}") from None
    except (YAMLError, ValueError, KeyError, RecursionError) as error:  # ruamel lets Python's own through
        raise ConfigError(f"{path}: must be YAML: {first_line(error)}") from None
    if not isinstance(plain, dict):
        raise ConfigError(f"{path}:1: must be a mapping of keys to values, got {spelled(plain)}")
    return Document(path, plain, lines, text)


def _plain(node: object) -> object:
    """The loaded tree without ruamel's own types."""
    if isinstance(node, Mapping):
        return {key if isinstance(key, str) else str(_plain(key)): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if isinstance(node, ScalarBoolean):  # an int to Python, where it has an anchor
        return bool(node)
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node if node is None else str(node)


def _lines(node: Any, loc: Location) -> Iterator[tuple[Location, int]]:
    """The 1-based line of every key and item below a node of the round-trip loader."""
    keys: Iterable[Any] = node if isinstance(node, Mapping) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        here = (*loc, key if isinstance(node, list) else str(key))
        if key in (node.lc.data or ()):  # keys merged from an anchor have no line of their own
            yield here, node.lc.data[key][0] + 1
        yield from _lines(node[key], here)


def parse(type_: type[T], document: Document, data: Mapping[str, Any] | None = None) -> T:
    """Validate a mapping (the whole document unless given) into a record; the first problem is a ConfigError."""
    valid: T = _validate(type_, document.data if data is None else data, document.where)
    return valid


def schema(type_: type[Any]) -> dict[str, Any]:
    """The JSON schema of a record, for editors."""
    return TypeAdapter(type_).json_schema()


def parse_config(mapping: Mapping[str, Any], where: Where | None = None) -> TrainingConfig:
    """A whole TrainingConfig from nested plain values, checked down to the constructors of its model and loss.

    Options of a model or loss stand flat beside the common keys (`loss: {name: sans, margin: 9.0}`);
    those left out get the constructor's defaults, so the record is complete. A model that has to be
    reciprocal is so unless it is told otherwise.
    """
    where = where or key_path
    folded = dict(mapping)
    folded["model"] = _fold(mapping, "model", ModelConfig, MODELS, where)
    if MODELS[folded["model"]["name"]].reciprocal_only:
        folded["model"].setdefault("reciprocal", True)
    folded["loss"] = _fold(mapping, "loss", LossConfig, LOSSES, where)
    config: TrainingConfig = _validate(TrainingConfig, folded, where)
    _construct(config, where)
    return config


def check_size(config: TrainingConfig, where: Where, *, num_entities: int) -> None:
    """ConfigError for an option that has no meaning with so many entities."""
    with _located(where, TrainingConfig):
        build_loss(config).check_size(num_entities)


def refuse_idle(mapping: Mapping[str, Any], config: TrainingConfig, where: Where) -> None:
    """ConfigError for a key of a file that means nothing beside the other values, unless it is the key's default."""
    actual, usual = flatten(to_mapping(config)), flatten(dataclasses.asdict(_USUAL))
    usual |= {f"loss.{name}": value for name, value in defaults(LOSSES[config.loss.name]).items()}
    actual["training.type"] = training_type(config)
    given = flatten(mapping)
    for path, (switch, values) in {**MATTERS, **OPTIONS_MATTER}.items():
        if path in given and given[path] != usual[path] and actual[switch] not in values:
            must = f"must be left out, or {switch} must be {' or '.join(map(str, values))}"
            raise ConfigError(f"{where(tuple(path.split('.')))}: {must}: with {actual[switch]} it means nothing")
    for pair in TOGETHER:
        for path, other in (pair, pair[::-1]):
            if actual[path] != usual[path] and actual[other] == usual[other]:
                must = f"must have {other} beside it: alone it means nothing"
                raise ConfigError(f"{where(tuple(path.split('.')))}: {must}")
    weights = REGULARIZER_WEIGHTS[config.regularizer.name]
    if weights and not any(path in given for path in weights):
        must = f"must have {' or '.join(weights)} beside it, or it is no penalty"
        raise ConfigError(f"{where(('regularizer', 'name'))}: {config.regularizer.name} {must}")


def to_mapping(config: TrainingConfig) -> dict[str, Any]:
    """The inverse of `parse_config`: nested plain values with the options flat."""
    mapping = dataclasses.asdict(config)
    for part in ("model", "loss"):
        mapping[part] |= mapping[part].pop("options")
    return mapping


def set_path(mapping: dict[str, Any], path: str, value: object) -> None:
    """Set `a.b.c` in nested mappings, making those that are missing."""
    *parents, last = path.split(".")
    for parent in parents:
        mapping = mapping.setdefault(parent, {})
        if not isinstance(mapping, dict):
            raise ConfigError(f"{path}: {parent} must be a mapping, got {spelled(mapping)}")
    mapping[last] = value


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Value]:
    """The leaves of nested mappings by dotted path."""
    leaves: dict[str, Value] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            leaves |= flatten(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def _refuse_unknown(mapping: Mapping[str, Any], where: Where) -> None:
    """ConfigError for a key that is no key, before one is missed that it may be a misspelling of."""
    for part, record, registry in (("model", ModelConfig, MODELS), ("loss", LossConfig, LOSSES)):
        given = mapping.get(part)
        if isinstance(given, Mapping) and given.get("name") is None:  # whose options these are is not known
            common, own = _common(record), set().union(*map(options, registry.values()))
            for key in given:
                if key not in common and key not in own:
                    raise ConfigError(f"{where((part, key))}: {unknown('key', key, common)}")
    for loc in _keys(mapping, ()):
        known = [] if loc[0] in {"model", "loss"} and len(loc) > 1 else _keys_at(TrainingConfig, loc[:-1])
        if known and loc[-1] not in known:
            raise ConfigError(f"{where(loc)}: {unknown('key', loc[-1], known)}")


def _keys(mapping: Mapping[str, Any], above: Location) -> Iterator[Location]:
    """The location of every key of nested mappings."""
    for key, value in mapping.items():
        yield (*above, key)
        if isinstance(value, Mapping):
            yield from _keys(value, (*above, key))


def _common(record: type[Any]) -> list[str]:
    """The keys that every model or every loss has."""
    return [each.name for each in dataclasses.fields(record) if each.name != "options"]


def _fold(
    mapping: Mapping[str, Any], part: str, record: type[Any], registry: Mapping[str, type[Any]], where: Where
) -> dict[str, Any]:
    """The `model` or `loss` mapping with the class's own options gathered under `options`."""
    given = mapping.get(part)
    if not isinstance(given, Mapping) or given.get("name") is None:
        _refuse_unknown(mapping, where)
    if not isinstance(given, Mapping):
        came = "nothing" if part not in mapping else spelled(given)
        raise ConfigError(f"{where((part,))}: must be a mapping with a name, got {came}")
    if given.get("name") is None:
        raise ConfigError(f"{where((part, 'name'))}: must be given (known: {', '.join(registry)})")
    if not isinstance(given["name"], str) or given["name"] not in registry:
        raise ConfigError(f"{where((part, 'name'))}: {unknown(part, given['name'], registry)}")
    class_ = registry[given["name"]]
    own = options(class_)
    common = _common(record)
    for key in given:
        if key not in common and key not in own:
            sentence = unknown(f"option of {part} {given['name']}:", key, [*common, *own])
            raise ConfigError(f"{where((part, key))}: {sentence}")
    chosen = {name: _option(each, given, (part, name), where) for name, each in own.items()}
    return {key: given[key] for key in given if key in common} | {"options": chosen}


def _option(parameter: inspect.Parameter, given: Mapping[str, Any], loc: Location, where: Where) -> object:
    """One option, checked against its annotation, or its default."""
    if parameter.name in given:
        value = _validate(parameter.annotation, given[parameter.name], lambda inner: where(loc + inner))
        if isinstance(value, int) and abs(value) >= _LARGEST:
            raise ConfigError(f"{where(loc)}: must be < 2^31, got {value}")
        return value
    if parameter.default is inspect.Parameter.empty:
        raise ConfigError(f"{where(loc)}: must be given")
    return parameter.default


class _ChecksPassed(Exception):  # noqa: N818 (nothing is wrong)
    """A model's constructor has checked its arguments and now wants its first table."""


class _NoTables(ModelSpec):
    """Constructors check first and build then; a model of any size is checked without its memory."""

    def table(self, rows: int, width: int) -> nn.Parameter:
        raise _ChecksPassed


def _construct(config: TrainingConfig, where: Where) -> None:
    """Let the constructors of the loss and the model check what only they know, and then whether all fits."""
    loss, model = LOSSES[config.loss.name], config.model
    with _located(where, TrainingConfig, ("loss",)):
        loss(**config.loss.options)
    spec = _NoTables(num_entities=1, num_relations=1, dim=model.dim, reciprocal=model.reciprocal)
    with _located(where, TrainingConfig, ("model",)), suppress(_ChecksPassed):
        MODELS[model.name](spec, **model.options)
    with _located(where, TrainingConfig):
        check_combination(config)


@lru_cache(maxsize=256)
def _adapter(type_: Any) -> Any:
    """A TypeAdapter; a record brings its own rules, an option has none of its own."""
    return TypeAdapter(type_, config=None if dataclasses.is_dataclass(type_) else ConfigDict(allow_inf_nan=False))


def _validate(type_: Any, data: object, where: Where) -> Any:
    with _located(where, type_):
        try:
            return _adapter(type_).validate_json(json.dumps(data, default=str), strict=True)
        except ValidationError as error:
            loc, sentence = _first_problem(type_, data, error)
    raise ConfigError(f"{where(loc)}: {sentence}")


@contextmanager
def _located(where: Where, root: Any, otherwise: Location = ()) -> Iterator[None]:
    """Put file and line before `a.b: must be ...`, the form in which records and constructors complain."""
    try:
        yield
    except (ConfigError, ValueError) as error:
        head, colon, rest = str(error).partition(": ")
        loc: Location = tuple(head.split("."))
        if colon and dataclasses.is_dataclass(root) and loc[0] in _field_types(root):
            raise ConfigError(f"{where(loc)}: {rest}") from None
        raise ConfigError(f"{where(otherwise)}: {error}" if otherwise else str(error)) from None


def _first_problem(type_: Any, data: object, error: ValidationError) -> tuple[Location, str]:
    """The deepest of the problems at the first bad place; those of a union's branches are joined by `or`.

    Unknown keys come first: what is missing may be what one of them was meant for.
    """
    problems = [(_real(each, data), each) for each in error.errors(include_url=False)]
    problems.sort(key=lambda each: each[1]["type"] != _UNKNOWN)
    first = problems[0][0]
    deepest = max((loc for loc, _ in problems if loc[: len(first)] == first), key=len)
    here = [each for loc, each in problems if loc == deepest]
    if here[0]["type"] == _UNKNOWN:
        return deepest, unknown("key", deepest[-1], _keys_at(type_, deepest[:-1]))
    musts = dict.fromkeys(_must(each) for each in here)
    came = "nothing" if here[0]["type"] == "missing" else spelled(here[0]["input"])
    return deepest, f"must be {' or '.join(musts)}, got {came}"


def _real(problem: ErrorDetails, data: Any) -> Location:
    """The part of pydantic's location that is in the data; it also names the branches of unions."""
    real: list[str | int] = []
    for part in problem["loc"]:
        inside = isinstance(data, Mapping) and part in data
        inside |= isinstance(data, list) and isinstance(part, int) and part < len(data)
        if inside:
            data = data[part]
        if inside or (problem["type"] == "missing" and part == problem["loc"][-1]):
            real.append(part)
    return tuple(real)


def _must(problem: ErrorDetails) -> str:
    if problem["type"] == "literal_error":
        return f"one of {problem['ctx']['expected'].replace(' or ', ', ')}"
    return _MUST.get(problem["type"], problem["msg"].removeprefix("Input should be "))


def _keys_at(type_: Any, loc: Location) -> list[str]:
    """The keys of the record that stands at a location of a type."""
    for part in loc:
        type_ = _record_in(type_)
        type_ = _field_types(type_).get(str(part)) if dataclasses.is_dataclass(type_) else type_
    type_ = _record_in(type_)
    return list(_field_types(type_)) if dataclasses.is_dataclass(type_) else []


def _record_in(type_: Any) -> Any:
    """The record inside `Record | None`, `tuple[Record, ...]`, `Mapping[str, Record]` and their likes."""
    while not dataclasses.is_dataclass(type_) and (inner := typing.get_args(type_)):
        type_ = next((each for each in inner if dataclasses.is_dataclass(each)), inner[-1 if len(inner) > 1 else 0])
    return type_


def _field_types(record: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(record)
    return {each.name: hints[each.name] for each in dataclasses.fields(record) if each.init}
