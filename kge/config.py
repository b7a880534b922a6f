"""Everything that decides one training, as frozen records of plain values.

A dotted path such as `optimizer.lr` or `loss.margin` names one value; search spaces, study files
and error messages all use these paths. Options that only one model or loss has (`loss.margin`,
`model.norm`) stand beside the common ones and are checked against that class's constructor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from kge.errors import ConfigError

Value = int | float | str | bool | None
TrainingType = Literal["negative_sampling", "one_vs_all"]

_FORBID_UNKNOWN: dict[str, Any] = {"extra": "forbid", "allow_inf_nan": False}


def require(condition: bool, path: str, must: str, came: object) -> None:
    """Raise ConfigError `path: must ..., got ...` unless the condition holds."""
    if not condition:
        raise ConfigError(f"{path}: must be {must}, got {came!r}")


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """How tables start: xavier_normal, xavier_uniform (gain 1), normal(0, std), uniform(low, high)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    name: Literal["xavier_normal", "xavier_uniform", "normal", "uniform"] = "xavier_normal"
    std: float = 0.1
    low: float = -0.1
    high: float = 0.1

    def __post_init__(self) -> None:
        require(self.std > 0, "model.init.std", "> 0", self.std)
        require(self.low < self.high, "model.init.low", f"< model.init.high ({self.high})", self.low)


@dataclass(frozen=True, kw_only=True)
class DropoutConfig:
    """Probability that a coordinate is zeroed: of entity vectors (candidates too), relation vectors, queries."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    entity: float = 0.0
    relation: float = 0.0
    query: float = 0.0

    def __post_init__(self) -> None:
        for name in ("entity", "relation", "query"):
            rate = getattr(self, name)
            require(0 <= rate < 1, f"model.dropout.{name}", "in [0, 1)", rate)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model, its size (`dim` real numbers per entity) and the options that only it has."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    name: str
    dim: int = 128
    reciprocal: bool = False
    init: InitConfig = field(default_factory=InitConfig)
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    options: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.dim >= 1, "model.dim", ">= 1", self.dim)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Which loss and the options that only it has."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    name: str
    options: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """Rows of a step. `type` None takes the loss's own; `sub_batch_size` bounds memory, never the value."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    type: TrainingType | None = None
    batch_size: int = 512
    sub_batch_size: int | None = None
    max_epochs: int = 100
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, "training.batch_size", ">= 1", self.batch_size)
        require(self.max_epochs >= 1, "training.max_epochs", ">= 1", self.max_epochs)
        if self.sub_batch_size is not None:
            require(self.sub_batch_size >= 1, "training.sub_batch_size", ">= 1", self.sub_batch_size)


@dataclass(frozen=True, kw_only=True)
class NegativesConfig:
    """Negatives drawn per positive and side; None copies the other side. `filtered` drops known answers."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    head: int | None = None
    tail: int | None = 32
    filtered: bool = False

    def __post_init__(self) -> None:
        given = self.head is not None or self.tail is not None
        require(given, "negatives.tail", "given when negatives.head is not", None)
        for name in ("head", "tail"):
            count = getattr(self, name)
            require(count is None or count >= 1, f"negatives.{name}", ">= 1", count)

    @property
    def per_side(self) -> tuple[int, int]:
        """Negatives for the head side and for the tail side."""
        head = self.head if self.head is not None else self.tail
        tail = self.tail if self.tail is not None else self.head
        assert head is not None and tail is not None
        return head, tail


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Dense optimizer over all tables."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    name: Literal["adagrad", "adam"] = "adagrad"
    lr: float = 0.1

    def __post_init__(self) -> None:
        require(self.lr > 0, "optimizer.lr", "> 0", self.lr)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """`plateau` multiplies lr by `factor` after `patience` validations without relative gain `threshold`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    name: Literal["none", "plateau"] = "plateau"
    factor: float = 0.95
    patience: int = 5
    threshold: float = 1e-4

    def __post_init__(self) -> None:
        require(0 < self.factor < 1, "schedule.factor", "in (0, 1)", self.factor)
        require(self.patience >= 0, "schedule.patience", ">= 0", self.patience)
        require(self.threshold >= 0, "schedule.threshold", ">= 0", self.threshold)


@dataclass(frozen=True, kw_only=True)
class RegularizerConfig:
    """Lp penalty: over the occurrences in the batch (`weighted`) or over the whole tables."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    name: Literal["none", "lp"] = "none"
    p: Literal[1, 2, 3] = 2
    weighted: bool = False
    entity_weight: float = 0.0
    relation_weight: float = 0.0

    def __post_init__(self) -> None:
        require(self.entity_weight >= 0, "regularizer.entity_weight", ">= 0", self.entity_weight)
        require(self.relation_weight >= 0, "regularizer.relation_weight", ">= 0", self.relation_weight)


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingConfig:
    """Stop after `patience` validations without a new best, or below `floor_mrr` once `floor_epoch` is reached."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    patience: int | None = 10
    floor_epoch: int | None = None
    floor_mrr: float = 0.0

    def __post_init__(self) -> None:
        require(self.patience is None or self.patience >= 1, "early_stopping.patience", ">= 1 or null", self.patience)


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """Validate after every `every` epochs and after the last; queries are ranked in blocks of `block_size`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    every: int = 5
    block_size: int = 256

    def __post_init__(self) -> None:
        require(self.every >= 1, "validation.every", ">= 1", self.every)
        require(self.block_size >= 1, "validation.block_size", ">= 1", self.block_size)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """One training, whole: data set, model, loss and how they meet."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    dataset: str
    seed: int = 0
    model: ModelConfig
    loss: LossConfig
    training: BatchConfig = field(default_factory=BatchConfig)
    negatives: NegativesConfig = field(default_factory=NegativesConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    regularizer: RegularizerConfig = field(default_factory=RegularizerConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)


def restore(mapping: Mapping[str, Any]) -> TrainingConfig:
    """The record that `dataclasses.asdict` made this mapping from."""
    model = dict(mapping["model"])
    model["init"] = InitConfig(**model["init"])
    model["dropout"] = DropoutConfig(**model["dropout"])
    return TrainingConfig(
        dataset=mapping["dataset"],
        seed=mapping["seed"],
        model=ModelConfig(**model),
        loss=LossConfig(**mapping["loss"]),
        training=BatchConfig(**mapping["training"]),
        negatives=NegativesConfig(**mapping["negatives"]),
        optimizer=OptimizerConfig(**mapping["optimizer"]),
        schedule=ScheduleConfig(**mapping["schedule"]),
        regularizer=RegularizerConfig(**mapping["regularizer"]),
        early_stopping=EarlyStoppingConfig(**mapping["early_stopping"]),
        validation=ValidationConfig(**mapping["validation"]),
    )
