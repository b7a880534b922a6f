"""Everything that decides one training, as frozen records of plain values.

A dotted path such as `optimizer.lr` or `loss.margin` names one value; search spaces, study files
and error messages all use these paths. Options that only one model or loss has (`loss.margin`,
`model.norm`) stand beside the common ones and are checked against that class's constructor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Literal, TypeVar

from kge.errors import ConfigError
from kge.names import spelled

Value = int | float | str | bool | None
_Record = TypeVar("_Record")
_LARGE = 1e38  # a number of float32, and so is the width of a range between two of these
TrainingType = Literal["negative_sampling", "one_vs_all", "k_vs_all"]


class Section:
    """A record that is read from a file: no unknown keys, no inf, no nan."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}


def require(condition: bool, path: str, must: str, came: object) -> None:
    """Raise ConfigError `path: must ..., got ...` unless the condition holds."""
    if not condition:
        raise ConfigError(f"{path}: must be {must}, got {spelled(came)}")


@dataclass(frozen=True, kw_only=True)
class InitConfig(Section):
    """How tables start: xavier_normal, xavier_uniform (gain 1), normal(0, std), uniform(low, high)."""

    name: Literal["xavier_normal", "xavier_uniform", "normal", "uniform"] = "xavier_normal"
    std: float = 0.1
    low: float = -0.1
    high: float = 0.1

    def __post_init__(self) -> None:
        require(0 < self.std < _LARGE, "model.init.std", f"in (0, {_LARGE:g})", self.std)
        for name in ("low", "high"):
            value = getattr(self, name)
            require(-_LARGE < value < _LARGE, f"model.init.{name}", f"in (-{_LARGE:g}, {_LARGE:g})", value)
        require(self.low < self.high, "model.init.low", f"< model.init.high ({self.high})", self.low)


@dataclass(frozen=True, kw_only=True)
class DropoutConfig(Section):
    """Probability that a coordinate is zeroed: of entity vectors (candidates too), relation vectors, queries."""

    entity: float = 0.0
    relation: float = 0.0
    query: float = 0.0

    def __post_init__(self) -> None:
        for name in ("entity", "relation", "query"):
            rate = getattr(self, name)
            require(0 <= rate < 1, f"model.dropout.{name}", "in [0, 1)", rate)


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Section):
    """Which model, its size (`dim` real numbers per entity) and the options that only it has."""

    name: str
    dim: int = 128
    reciprocal: bool = False
    init: InitConfig = field(default_factory=InitConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    options: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.dim >= 1, "model.dim", ">= 1", self.dim)
        require(self.dim < 2**31, "model.dim", "< 2^31", self.dim)


@dataclass(frozen=True, kw_only=True)
class LossConfig(Section):
    """Which loss and the options that only it has."""

    name: str
    options: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BatchConfig(Section):
    """Rows of a step. `type` None takes the loss's own; `sub_batch_size` bounds memory, never the value.

    `batch_size` counts triples, or the distinct queries of k_vs_all. There a query counts as often as it has
    `answers`, each by its weight, as in one_vs_all, or all queries are `equal`; None takes the loss's own.
    `precision` is that of matrix products: `tf32` of all of them where a GPU has it, `bfloat16` of the fused
    softmax losses of inner products, and of relation prediction beside them, where the device has it; it is refused
    with others. `stop_epoch` ends a training there, although its schedule runs to max_epochs. With `capture` a GPU is
    given the kernels of a small batch at once; it is a matter of speed alone (kge.captured).
    """

    type: TrainingType | None = None
    batch_size: int = 512
    sub_batch_size: int | None = None
    max_epochs: int = 100
    stop_epoch: int | None = None
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    query_weight: Literal["answers", "equal"] | None = None
    capture: bool = False

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, "training.batch_size", ">= 1", self.batch_size)
        require(self.batch_size < 2**31, "training.batch_size", "< 2^31", self.batch_size)
        require(self.max_epochs >= 1, "training.max_epochs", ">= 1", self.max_epochs)
        require(self.max_epochs < 2**31, "training.max_epochs", "< 2^31", self.max_epochs)
        for name in ("sub_batch_size", "stop_epoch"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"training.{name}", ">= 1 or null", value)

    @property
    def last_epoch(self) -> int:
        """Where a training ends that nothing ends before."""
        return self.max_epochs if self.stop_epoch is None else min(self.stop_epoch, self.max_epochs)


@dataclass(frozen=True, kw_only=True)
class NegativesConfig(Section):
    """Negatives drawn per positive and side; None copies the other side. `filtered` drops known answers."""

    head: int | None = None
    tail: int | None = 32
    filtered: bool = False

    def __post_init__(self) -> None:
        given = self.head is not None or self.tail is not None
        require(given, "negatives.tail", "given when negatives.head is not", None)
        for name in ("head", "tail"):
            count = getattr(self, name)
            require(count is None or count >= 1, f"negatives.{name}", ">= 1", count)
            require(count is None or count < 2**31, f"negatives.{name}", "< 2^31", count)

    @property
    def per_side(self) -> tuple[int, int]:
        """Negatives for the head side and for the tail side."""
        head = self.head if self.head is not None else self.tail
        tail = self.tail if self.tail is not None else self.head
        assert head is not None and tail is not None
        return head, tail


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Section):
    """Dense optimizer over all parameters.

    The entity and the relation table learn at lr x `entity_factor` and lr x `relation_factor`, all else at lr.
    `weight_decay` is added to the gradient (adamw: taken from the weights); `momentum` is that of sgd;
    `max_norm` clips the norm of the whole gradient.
    """

    name: Literal["adagrad", "adam", "adamw", "sgd"] = "adagrad"
    lr: float = 0.1
    entity_factor: float = 1.0
    relation_factor: float = 1.0
    weight_decay: float = 0.0
    momentum: float = 0.0
    max_norm: float | None = None

    def __post_init__(self) -> None:
        for name in ("lr", "entity_factor", "relation_factor"):
            require(getattr(self, name) > 0, f"optimizer.{name}", "> 0", getattr(self, name))
        require(self.weight_decay >= 0, "optimizer.weight_decay", ">= 0", self.weight_decay)
        require(0 <= self.momentum < 1, "optimizer.momentum", "in [0, 1)", self.momentum)
        require(self.max_norm is None or self.max_norm > 0, "optimizer.max_norm", "> 0 or null", self.max_norm)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(Section):
    """How the learning rate moves: up over `warmup` epochs, step by step, and then as `name` says.

    plateau  times `factor` when more than `patience` validations in a row bring no relative gain `threshold`
    cosine   down to `final` times lr at training.max_epochs, step by step

    Over the last `cooldown` epochs before training.max_epochs it falls in a line to 0, from wherever it is.
    """

    name: Literal["none", "plateau", "cosine"] = "plateau"
    factor: float = 0.95
    patience: int = 5
    threshold: float = 1e-4
    warmup: int = 0
    final: float = 0.0
    cooldown: int = 0

    def __post_init__(self) -> None:
        require(0 < self.factor < 1, "schedule.factor", "in (0, 1)", self.factor)
        require(self.patience >= 0, "schedule.patience", ">= 0", self.patience)
        require(self.threshold >= 0, "schedule.threshold", ">= 0", self.threshold)
        require(self.warmup >= 0, "schedule.warmup", ">= 0", self.warmup)
        require(0 <= self.final < 1, "schedule.final", "in [0, 1)", self.final)
        require(self.cooldown >= 0, "schedule.cooldown", ">= 0", self.cooldown)
        is_cosine = self.name == "cosine"
        require(
            not (is_cosine and self.cooldown), "schedule.cooldown", "0 with cosine, which falls anyway", self.cooldown
        )

    def stable_epochs(self, max_epochs: int) -> int:
        """Epochs before the cooldown: until then a training is the same with a longer one, a shorter one or none."""
        return max(self.warmup, max_epochs - self.cooldown)


@dataclass(frozen=True, kw_only=True)
class RegularizerConfig(Section):
    """The penalty (kge.regularizers), added once per batch.

    lp    over the occurrences in the batch (`weighted`) or over the whole tables, with a weight for each table
    n3    `weight` times the cubes of the factors of the batch's rows
    dura  `weight` times the squares of both entities and of both queries; `entity_share` of the four is the
          entities': 0.5 counts all four alike, 0.25 is the paper's weighted form
    """

    name: Literal["none", "lp", "n3", "dura"] = "none"
    p: Literal[1, 2, 3] = 2
    weighted: bool = False
    entity_weight: float = 0.0
    relation_weight: float = 0.0
    weight: float = 0.0
    entity_share: float = 0.5

    def __post_init__(self) -> None:
        for name in ("entity_weight", "relation_weight", "weight"):
            require(getattr(self, name) >= 0, f"regularizer.{name}", ">= 0", getattr(self, name))
        require(0 <= self.entity_share <= 1, "regularizer.entity_share", "in [0, 1]", self.entity_share)


@dataclass(frozen=True, kw_only=True)
class AuxiliaryConfig(Section):
    """A second task: `relation_weight` times the cross-entropy of a triple's relation given its head and tail."""

    relation_weight: float = 0.0

    def __post_init__(self) -> None:
        require(self.relation_weight >= 0, "auxiliary.relation_weight", ">= 0", self.relation_weight)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(Section):
    """Where the entity and relation tables start: from those of another training's `checkpoint`, or from `init`."""

    checkpoint: str | None = None


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingConfig(Section):
    """Stop after `patience` validations without a new best, or below `floor_mrr` once `floor_epoch` is reached."""

    patience: int | None = 10
    floor_epoch: int | None = None
    floor_mrr: float = 0.0

    def __post_init__(self) -> None:
        require(self.patience is None or self.patience >= 1, "early_stopping.patience", ">= 1 or null", self.patience)
        epoch = self.floor_epoch
        require(epoch is None or epoch >= 1, "early_stopping.floor_epoch", ">= 1 or null", epoch)
        require(0 <= self.floor_mrr <= 1, "early_stopping.floor_mrr", "in [0, 1]", self.floor_mrr)


@dataclass(frozen=True, kw_only=True)
class ValidationConfig(Section):
    """Validate after every `every` epochs and after the last; queries are ranked in blocks of `block_size`."""

    every: int = 5
    block_size: int = 256

    def __post_init__(self) -> None:
        require(self.every >= 1, "validation.every", ">= 1", self.every)
        require(self.block_size >= 1, "validation.block_size", ">= 1", self.block_size)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Section):
    """One training, whole: data set, model, loss and how they meet."""

    dataset: str
    seed: int = 0
    model: ModelConfig
    loss: LossConfig
    training: BatchConfig = field(default_factory=BatchConfig)
    negatives: NegativesConfig = field(default_factory=NegativesConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    regularizer: RegularizerConfig = field(default_factory=RegularizerConfig)
    auxiliary: AuxiliaryConfig = field(default_factory=AuxiliaryConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    def validates_after(self, epoch: int) -> bool:
        """Whether an epoch is followed by a validation."""
        return epoch % self.validation.every == 0 or epoch >= self.training.last_epoch


def restore(mapping: Mapping[str, Any]) -> TrainingConfig:
    """The record that `dataclasses.asdict` made this mapping from; what it does not hold gets its default."""
    return _restored(TrainingConfig, mapping)


def _restored(record: type[_Record], mapping: Mapping[str, Any]) -> _Record:
    """A record whose fields that are records themselves come from mappings."""
    types = {each.name: each.type for each in fields(record)}  # type: ignore[arg-type]
    return record(**{name: _value(types.get(name), value) for name, value in mapping.items()})


def _value(type_: object, value: Any) -> Any:
    return _restored(type_, value) if isinstance(type_, type) and is_dataclass(type_) else value
