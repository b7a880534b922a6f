"""One training from its configuration to its best checkpoint, validation by validation.

    for validation in fit(config, dataset, directory=folder): ...

The consumer may stop after any validation: the checkpoint is on disk before it is yielded, and `fit` on the
same folder goes on from there, first yielding the saved validation again (`replayed`), because whoever
listened before may have died with it unheard.
"""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kge import checkpoint
from kge.building import build_model
from kge.config import TrainingConfig
from kge.data import Dataset
from kge.errors import CheckpointError, first_line
from kge.evaluation import rank
from kge.filters import filter_from
from kge.metrics import metrics
from kge.models.base import AbstractModel
from kge.pretraining import copy_tables
from kge.ranks import Ranks
from kge.spent import Spent, record, spent
from kge.training import EpochReport, Training

LAST, BEST = "last.pt", "best.pt"


@dataclass(frozen=True, kw_only=True)
class Validation:
    """One validation; costs are those since the one before (training and validation together)."""

    epoch: int
    loss: float  # mean training loss per triple of the last epoch
    mrr: float  # filtered by train + valid, realistic ranks, both sides
    metrics: Mapping[str, float]
    lr: float
    epochs: int
    device_seconds: float
    best_mrr: float
    best_epoch: int
    replayed: bool
    stop: str | None  # "max_epochs", "early_stopping" or "stop_epoch" on the last one


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics of a split, and the rank of every query of both sides behind them."""

    metrics: Mapping[str, float]
    ranks: tuple[Ranks, ...]


def fit(
    config: TrainingConfig, dataset: Dataset, *, directory: Path | None, device: str = "cpu"
) -> Iterator[Validation]:
    """Train and validate until the configuration says stop, continuing what the directory holds.

    DivergenceError when the loss or a score is not finite; CheckpointError when the directory holds a
    training of another configuration.
    """
    with closing(fit_by_epoch(config, dataset, directory=directory, device=device)) as events:
        for event in events:
            if isinstance(event, Validation):
                yield event


def fit_by_epoch(
    config: TrainingConfig,
    dataset: Dataset,
    *,
    directory: Path | None,
    device: str = "cpu",
    base: Path = Path(),
) -> Generator[EpochReport | Validation, None, None]:
    """As `fit`, with every epoch before the validation that may follow it (`config.validates_after`).

    A relative `pretrain.checkpoint` lies below `base`.
    """
    training = Training(config, dataset, device=device)
    known = filter_from(dataset, ("train", "valid"), device)
    valid = dataset.valid.to(device)
    curve: list[dict[str, object]] = []
    before: Spent | None = Spent()
    if directory is not None and (directory / LAST).is_file():
        content = checkpoint.load(directory / LAST, config=config)
        if "training" not in content:
            raise CheckpointError(f"{directory / LAST}: must hold a training to go on with, got the best model alone")
        checkpoint.check_fingerprint(directory / LAST, content["fingerprint"], dataset)
        training.restore(content["training"])
        curve = content["curve"]
        before = Spent.read(content.get("before"))
        del content  # as large as the training itself
        if training.best_epoch == training.epoch:  # a crash may have come before its best checkpoint
            _save_best(directory, training, {"fingerprint": dataset.fingerprint, "curve": curve, **record(before)})
        yield Validation(**{**curve[-1], "replayed": True, "stop": training.stop_reason()})  # type: ignore[arg-type]
    elif config.pretrain.checkpoint is not None:
        before = copy_tables(base / config.pretrain.checkpoint, training.model, dataset)
    since, started = training.epoch, time.perf_counter()
    for report in training.epochs():
        yield report
        if not config.validates_after(report.epoch):
            continue
        found = metrics(rank(training.model, valid, known, block_size=config.validation.block_size))
        is_best = training.observe(found["mrr"])
        validation = Validation(
            epoch=report.epoch,
            loss=report.loss,
            mrr=found["mrr"],
            metrics=found,
            lr=report.lr,
            epochs=report.epoch - since,
            device_seconds=time.perf_counter() - started,
            best_mrr=training.best_mrr,
            best_epoch=training.best_epoch,
            replayed=False,
            stop=training.stop_reason(),
        )
        curve.append(asdict(validation))
        if directory is not None:
            common = {"fingerprint": dataset.fingerprint, "curve": curve, **record(before)}
            _save(directory, training, common, is_best=is_best)
        yield validation
        since, started = training.epoch, time.perf_counter()


def _save(directory: Path, training: Training, common: Mapping[str, object], *, is_best: bool) -> None:
    """The best last: it can be made of the other, and a validation that is repeated may come out otherwise on a GPU."""
    checkpoint.save(directory / LAST, {**common, "training": training.state()}, training.config)
    if is_best:
        _save_best(directory, training, common)


def _save_best(directory: Path, training: Training, common: Mapping[str, object]) -> None:
    checkpoint.save(directory / BEST, {**common, "model": training.model.state_dict()}, training.config)


def read_curve(path: Path) -> tuple[Validation, ...]:
    """All validations up to a checkpoint, those before a resume included."""
    return tuple(Validation(**each) for each in checkpoint.load(path)["curve"])


def cost_of(path: Path) -> Spent | None:
    """What the tables of a checkpoint took, as far as it says so."""
    return spent(checkpoint.load(path))


def load_model(path: Path, dataset: Dataset, *, device: str = "cpu") -> tuple[AbstractModel, TrainingConfig]:
    """The model of a best or last checkpoint, in evaluation mode, and its configuration."""
    model, config = model_of(path, checkpoint.load(path), dataset)
    return model.to(device).eval(), config


def model_of(path: Path, content: Mapping[str, Any], dataset: Dataset) -> tuple[AbstractModel, TrainingConfig]:
    """The same of what a checkpoint holds, on the CPU; CheckpointError where it is of another graph or none of ours."""
    checkpoint.check_fingerprint(path, content["fingerprint"], dataset)
    config = checkpoint.config_of(content)
    try:
        model = build_model(config, num_entities=dataset.num_entities, num_relations=dataset.num_relations)
    except (KeyError, TypeError, ValueError) as error:  # a model, or an option of one, that is not known here
        raise CheckpointError(f"{path}: must be of this version or an older one, got {first_line(error)}") from None
    try:
        model.load_state_dict(checkpoint.weights(content))
    except RuntimeError as error:  # tables that are missing, or of another size
        raise CheckpointError(f"{path}: must hold the tables of its configuration, got {first_line(error)}") from None
    return model, config


def evaluate_split(
    path: Path, dataset: Dataset, *, split: str, filter_splits: tuple[str, ...], device: str = "cpu"
) -> Evaluation:
    """Rank a split with the model of a checkpoint."""
    model, config = load_model(path, dataset, device=device)
    known = filter_from(dataset, filter_splits, device)
    ranks = rank(model, dataset.split(split).to(device), known, block_size=config.validation.block_size)
    return Evaluation(metrics=metrics(ranks), ranks=ranks)
