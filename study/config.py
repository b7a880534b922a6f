"""A study file, and the study that it declares: arms, budget, search, replicates, resources.

The file's own form is StudyFile with its sections (`study schema` prints it); a
StudyConfig is what it resolves to. Every refusal names the file, the line and the key.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from kge.catalog import NAMES
from kge.config import Section, require
from kge.documents import Document, Location, Where, flatten, parse, parse_config, read, read_text
from kge.errors import ConfigError
from kge.losses import LOSSES
from kge.names import unknown
from kge.options import options
from study.errors import StudyFileError, UserError
from study.hypotheses import ComparisonSection, comparison_plan
from study.paths import all_paths, unknown_path
from study.records import Arm, Cost, Value
from study.resources import resource_folder

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NAME_RULE = "up to 100 letters, digits, ., _ and -, the first a letter or a digit"
_MLFLOWS = ("mlflow.db", "mlartifacts")  # what MLflow has in the folder of studies
_MOST = 10**15  # of a budget: sums of it stay exact
_RAYS_OWN = ("CPU", "GPU", "cpu", "gpu", "memory", "object_store_memory")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}")
_LABEL_RULE = "up to 50 letters, digits, _ and -, the first a letter or a digit"

Entry = str | dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ArmsSection(Section):
    """Every model meets every loss. An entry is a name, or a mapping with `name`, fixed options and a `label`.

    A loss may start from the tables of another training: `pretrain: LABEL` names another loss of the list (the best
    trial of the arm with the same model), `pretrain: {checkpoint: FILE}` a file. It may have a `training_type` of its
    own: without, it has that of `fixed`, or the loss's first.
    """

    models: tuple[Entry, ...]
    losses: tuple[Entry, ...]

    def __post_init__(self) -> None:
        require(bool(self.models), "arms.models", "a list of at least one model", [])
        require(bool(self.losses), "arms.losses", "a list of at least one loss", [])


@dataclass(frozen=True, kw_only=True)
class BudgetSection(Section):
    """What every arm may spend, in exactly one unit."""

    trials: int | None = None
    epochs: int | None = None
    device_seconds: float | None = None

    def __post_init__(self) -> None:
        given = {unit: amount for unit, amount in vars(self).items() if amount is not None}
        require(len(given) == 1, "budget", "one of trials, epochs, device_seconds", ", ".join(given) or None)
        for unit, amount in given.items():
            require(amount > 0, f"budget.{unit}", "> 0", amount)
            require(amount <= _MOST, f"budget.{unit}", f"<= {_MOST:.0e}", amount)

    @property
    def unit(self) -> str:
        """The one unit that is given."""
        return next(unit for unit, amount in vars(self).items() if amount is not None)

    @property
    def cost(self) -> Cost:
        """The budget of an arm; only its unit is not zero."""
        return Cost(trials=self.trials or 0, epochs=self.epochs or 0, device_seconds=self.device_seconds or 0.0)


@dataclass(frozen=True, kw_only=True)
class SearchSection(Section):
    """How parameters are chosen: `random_trials` i.i.d. draws in each arm, then the sampler."""

    sampler: Literal["tpe", "random"] = "tpe"
    random_trials: int | None = None  # None: 10

    def __post_init__(self) -> None:
        require(
            self.random_trials is None or self.random_trials >= 1, "search.random_trials", ">= 1", self.random_trials
        )

    @property
    def first(self) -> int:
        """How many trials of an arm are drawn before the sampler has its say."""
        return 10 if self.random_trials is None else self.random_trials

    def is_random(self, number: int) -> bool:
        """Whether the n-th trial of an arm is an i.i.d. draw."""
        return self.sampler == "random" or number < self.first


@dataclass(frozen=True, kw_only=True)
class PruningSection(Section):
    """Asynchronous successive halving in each arm: rungs at min_epochs * reduction_factor^k epochs."""

    min_epochs: int
    reduction_factor: int = 3

    def __post_init__(self) -> None:
        require(self.min_epochs >= 1, "pruning.min_epochs", ">= 1", self.min_epochs)
        require(self.reduction_factor >= 2, "pruning.reduction_factor", ">= 2", self.reduction_factor)


@dataclass(frozen=True, kw_only=True)
class FailuresSection(Section):
    """An arm gets no more trials after `identical_errors` trials broke by the same bug (null: it always does)."""

    identical_errors: int | None = 3

    def __post_init__(self) -> None:
        limit = self.identical_errors
        require(limit is None or limit >= 1, "failures.identical_errors", ">= 1 or null", limit)


@dataclass(frozen=True, kw_only=True)
class ResourcesSection(Section):
    """What one trial holds, and how many run at once (None: as many as fit)."""

    cpus_per_trial: float = 1.0
    gpus_per_trial: float = 0.0
    custom: dict[str, float] = field(default_factory=dict)  # as the nodes of a cluster name them
    max_concurrent: int | None = None
    max_concurrent_per_arm: int | None = None  # of the search

    def __post_init__(self) -> None:
        for name, amount in self.custom.items():
            require(name not in _RAYS_OWN, f"resources.custom.{name}", "a resource that is no key of its own", name)
            require(amount > 0, f"resources.custom.{name}", "> 0", amount)
        require(self.cpus_per_trial > 0, "resources.cpus_per_trial", "> 0", self.cpus_per_trial)
        require(self.gpus_per_trial >= 0, "resources.gpus_per_trial", ">= 0", self.gpus_per_trial)
        for key in ("max_concurrent", "max_concurrent_per_arm"):
            limit = getattr(self, key)
            require(limit is None or limit >= 1, f"resources.{key}", ">= 1 or null", limit)


@dataclass(frozen=True, kw_only=True)
class StudyFile(Section):
    """The form of a study file."""

    name: str
    dataset: str
    seed: int = 0
    arms: ArmsSection
    budget: BudgetSection
    search: SearchSection = field(default_factory=SearchSection)
    pruning: PruningSection | None = None
    failures: FailuresSection = field(default_factory=FailuresSection)
    replicates: int = 5
    comparison: ComparisonSection = field(default_factory=ComparisonSection)
    fixed: dict[str, Value] = field(default_factory=dict)
    spaces: dict[str, dict[str, Any]] = field(default_factory=dict)
    resources: ResourcesSection = field(default_factory=ResourcesSection)

    def __post_init__(self) -> None:
        require(_NAME.fullmatch(self.name) is not None, "name", _NAME_RULE, self.name)
        require(0 <= self.seed < 2**63, "seed", "in [0, 2^63)", self.seed)
        require(self.replicates >= 1, "replicates", ">= 1", self.replicates)
        if self.dataset not in NAMES and not Path(self.dataset).is_dir():
            raise ConfigError(f"dataset: {unknown('data set or folder', self.dataset, NAMES)}")
        if self.budget.unit == "device_seconds":
            for key in ("cpus_per_trial", "gpus_per_trial"):  # seconds of a shared device are no measure of work
                share = getattr(self.resources, key)
                require(share == int(share), f"resources.{key}", "whole where budget is device_seconds", share)
        random, trials = self.search.random_trials, self.budget.trials
        if random is not None and trials is not None:
            require(random <= trials, "search.random_trials", f"<= budget.trials ({trials})", random)


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study as declared, with its arms spelt out."""

    name: str
    dataset: str
    seed: int
    arms: tuple[Arm, ...]
    budget: Cost  # per arm; only the declared unit is non-zero
    budget_unit: str
    search: SearchSection
    pruning: PruningSection | None
    identical_errors: int | None  # an arm stops after as many; None: never
    replicates: int
    comparison: ComparisonSection
    fixed: Mapping[str, Value]
    spaces: Mapping[str, Mapping[str, Any]]
    resources: ResourcesSection
    document: Document

    @property
    def text(self) -> str:
        """The study file, verbatim."""
        return self.document.text

    @property
    def sha256(self) -> str:
        """Of the study file."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def load_study(path_or_name: str | Path) -> StudyConfig:
    """The study of a file, or a built-in one by name; StudyFileError says what is wrong and where."""
    with study_file_errors():
        config = _resolve(read(_find(str(path_or_name))))
        for path in config.fixed:  # studies that have begun so go on
            if path in config.spaces:
                where = config.document.where(("fixed", path))
                raise ConfigError(f"{where}: must not stand under `spaces` as well")
    return config


def parse_study(text: str, path: str, *, dataset: str | None = None) -> StudyConfig:
    """As `load_study`, for the text that a database kept, and the data set that it began with.

    `path` only names it in errors. A folder in the text starts where the study was launched, which need not be here.
    """
    with study_file_errors():
        document = read_text(text, path)
        return _resolve(document if dataset is None else replace(document, data={**document.data, "dataset": dataset}))


@contextmanager
def study_file_errors() -> Iterator[None]:
    """What is wrong with a configuration is here what is wrong with a study file or a search space."""
    try:
        yield
    except ConfigError as error:
        raise StudyFileError(str(error)) from None


def new_name(config: StudyConfig, given: str | None) -> str:
    """The name of a study that begins: the one that is given, or its file's own.

    MLflow takes no other names for models. Studies that have begun keep whatever name they were given.
    """
    name = config.name if given is None else given
    if not _NAME.fullmatch(name):
        raise UserError(f"--name: must be {_NAME_RULE}, got {name!r}")
    if name in _MLFLOWS:
        raise UserError(f"study name: must not be that of a file of MLflow beside the studies, got {name!r}")
    return name


def built_in() -> dict[str, Path]:
    """The studies that ship with the program, by name."""
    return {file.stem: file for file in sorted(resource_folder("studies").glob("*.yaml"))}


def _find(path_or_name: str) -> Path:
    if Path(path_or_name).is_file():
        return Path(path_or_name)
    known = built_in()
    if path_or_name not in known:
        raise StudyFileError(unknown("study file or built-in study", path_or_name, known))
    return known[path_or_name]


def _resolve(document: Document) -> StudyConfig:
    _refuse_nested(document)
    file = parse(StudyFile, document)
    if file.dataset not in NAMES:  # workers have working folders of their own
        file = replace(file, dataset=str(Path(file.dataset).absolute()))
    training_type = file.fixed.get("training.type")
    models = tuple(_parts(document, file, "model"))
    losses = tuple(_parts(document, file, "loss"))
    _check_starts(document, file, losses)
    if training_type is not None and all(loss.training_type for loss in losses):
        where = document.where(("fixed", "training.type"))
        raise ConfigError(f"{where}: must be left out: every loss has its own `training_type`")
    arms = tuple(_arm(file, model, loss, training_type) for model, loss in product(models, losses))
    comparison_plan(file.comparison, arms, document.where)  # refuses what is no pair of these arms
    return StudyConfig(
        name=file.name,
        dataset=file.dataset,
        seed=file.seed,
        arms=arms,
        budget=file.budget.cost,
        budget_unit=file.budget.unit,
        search=file.search,
        pruning=file.pruning,
        identical_errors=file.failures.identical_errors,
        replicates=file.replicates,
        comparison=file.comparison,
        fixed=file.fixed,
        spaces=file.spaces,
        resources=file.resources,
        document=document,
    )


def _refuse_nested(document: Document) -> None:
    """`fixed: {optimizer: {lr: 0.1}}` is a wrong key, not a wrong value of a key."""
    fixed = document.data.get("fixed")
    for path, value in fixed.items() if isinstance(fixed, Mapping) else ():
        if isinstance(value, Mapping) and path not in all_paths():
            raise ConfigError(f"{document.where(('fixed', path))}: {unknown_path(path, value, all_paths())}")


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A model or a loss of the cross product."""

    name: str
    label: str
    fixed: tuple[tuple[str, Value], ...]
    training_type: str | None = None  # of a loss; None: the study's
    source: str | None = None  # the label of the loss whose tables it starts from
    checkpoint: str | None = None  # ... or the file


def _parts(document: Document, file: StudyFile, kind: Literal["model", "loss"]) -> Iterator[_Part]:
    """The models or the losses, each checked by itself at its place in the file."""
    section = ("arms", "models" if kind == "model" else "losses")
    labels: set[str] = set()
    for index, entry in enumerate(file.arms.models if kind == "model" else file.arms.losses):
        at: Location = (*section, index)
        options = dict(entry) if isinstance(entry, dict) else {"name": entry}
        label = options.pop("label", options.get("name"))
        start = _start(document, at, options.pop("pretrain", None)) if kind == "loss" else {}
        training_type = options.pop("training_type", None) if kind == "loss" else None
        other = {"loss": {"name": "sce"}} if kind == "model" else {"model": {"name": "distmult"}}
        parse_config({"dataset": file.dataset, kind: options, **other}, _inside(document, at, entry))
        if not isinstance(label, str) or not _LABEL.fullmatch(label):
            raise StudyFileError(f"{document.where((*at, 'label'))}: must be {_LABEL_RULE}, got {label!r}")
        if label in labels:
            raise StudyFileError(
                f"{document.where(at)}: must not repeat {label!r}: give one of the two another `label`"
            )
        labels.add(label)
        name = options.pop("name")
        if training_type is not None and training_type not in (known := LOSSES[name].training_types):
            where = document.where((*at, "training_type"))
            raise StudyFileError(f"{where}: {unknown(f'training type of {name}', training_type, known)}")
        fixed = tuple(sorted(flatten({kind: options}).items()))
        yield _Part(name=name, label=label, fixed=fixed, training_type=training_type, **start)


def _start(document: Document, at: Location, pretrain: object) -> dict[str, str]:
    """What a loss starts from, by the field of a part that holds it."""
    if pretrain is None:
        return {}
    if isinstance(pretrain, str):
        return {"source": pretrain}
    if isinstance(pretrain, dict) and set(pretrain) == {"checkpoint"} and isinstance(pretrain["checkpoint"], str):
        return {"checkpoint": pretrain["checkpoint"]}
    must = "must be the label of another loss, or {checkpoint: FILE}"
    raise StudyFileError(f"{document.where((*at, 'pretrain'))}: {must}, got {pretrain!r}")


def _check_starts(document: Document, file: StudyFile, losses: Sequence[_Part]) -> None:
    """A loss starts from another one, which does not start from it, and has a budget to pay for that."""
    by_label = {loss.label: loss for loss in losses}
    for index, loss in enumerate(losses):
        if loss.source is None and loss.checkpoint is None:
            continue
        where = document.where(("arms", "losses", index, "pretrain"))
        if file.budget.trials == 1:
            raise StudyFileError(
                f"{document.where(('budget', 'trials'))}: must be >= 2 where losses are pretrained, got 1"
            )
        way, source = [loss.label], loss.source
        while source is not None:
            if source in way:
                raise StudyFileError(
                    f"{where}: must not come back to where it starts, got {' <- '.join([*way, source])}"
                )
            if source not in by_label:
                others = [label for label in by_label if label != loss.label]
                raise StudyFileError(f"{where}: {unknown('label of a loss', source, others)}")
            way.append(source)
            source = by_label[source].source


def _inside(document: Document, at: Location, entry: Entry) -> Where:
    """Where a key of a model or loss stands when the entry is its name alone, or a mapping."""
    return lambda loc: document.where(at + loc[1:] if isinstance(entry, dict) else at)


def _arm(file: StudyFile, model: _Part, loss: _Part, training_type: Value) -> Arm:
    chosen = loss.training_type or training_type
    type_ = LOSSES[loss.name].training_types[0] if chosen is None else str(chosen)
    return Arm(
        name=f"{model.label}.{loss.label}",
        dataset=file.dataset,
        model=model.name,
        loss=loss.name,
        training_type=type_,
        objective=_objective(file, loss, type_),
        fixed=model.fixed + loss.fixed,
        source=None if loss.source is None else f"{model.label}.{loss.source}",
        checkpoint=loss.checkpoint,
    )


def _objective(file: StudyFile, loss: _Part, training_type: str) -> str:
    """What the loss aims at with these rows, and with the options that the study and the arm hold fixed."""
    class_ = LOSSES[loss.name]
    fixed = {path.removeprefix("loss."): value for path, value in {**file.fixed, **dict(loss.fixed)}.items()}
    try:
        chosen = class_(**{name: value for name, value in fixed.items() if name in options(class_)})
    except (ConfigError, TypeError):
        return class_.objective  # a value that the loss refuses is refused with its line when the space is composed
    return chosen.objective_with(training_type, filtered=file.fixed.get("negatives.filtered") is True)
