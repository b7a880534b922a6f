"""The training loop: a generator of epochs that knows nothing of evaluation.

Whoever consumes it validates, tells the result back with `observe`, saves, prunes or stops. All state that
decides the future (weights, optimizer, schedule, random generators, early stopping) is in `state()`, so a
training restored from it goes on exactly: bit by bit on the CPU. On another kind of device, where sums are others
anyway, masks and negatives are drawn anew from the seed and the epoch.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kge.auxiliary import RelationPrediction
from kge.building import build_model, build_training_type, check_combination, generator
from kge.captured import captured
from kge.config import TrainingConfig
from kge.data import Dataset, Triples
from kge.errors import DivergenceError
from kge.models.base import AbstractModel
from kge.optimization import Schedule, build_optimizer, clip, step
from kge.precision import in_bfloat16, products
from kge.regularizers import build_regularizer


class Term(NamedTuple):
    """What is added to the loss of a batch."""

    of: Callable[[AbstractModel, Triples, float], Tensor]
    by_triple: bool  # a sum over triples, which may be made part by part


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """One epoch: mean loss per triple (both of its rows, penalty included), learning rate, duration."""

    epoch: int
    loss: float
    lr: float
    seconds: float


class Training:
    """One training in progress."""

    def __init__(self, config: TrainingConfig, dataset: Dataset, *, device: str = "cpu", fused: bool = True) -> None:
        check_combination(config)
        self.config = config
        self.epoch = 0
        self.best_mrr = 0.0
        self.best_epoch = 0
        self.validations_since_best = 0
        self._last_mrr = math.inf  # of validations from floor_epoch on: only they are held against the floor
        self._device = device
        self.model = build_model(config, num_entities=dataset.num_entities, num_relations=dataset.num_relations)
        self.model.to(device).train()
        self.model.fused = fused
        self._order = generator(config.seed, "order")
        self._dropout = generator(config.seed, "dropout", device)
        self.model.use_generator(self._dropout)
        self._type = build_training_type(config, dataset, device=device, fused=fused)
        self._terms = tuple(_terms(config, bfloat16=fused and in_bfloat16(config.training.precision, device)))
        self._optimizer = build_optimizer(config.optimizer, self.model)
        self._schedule = Schedule(
            config.schedule, self._optimizer, lr=config.optimizer.lr, max_epochs=config.training.max_epochs
        )
        self._captured = captured(config.training, self.model, self._type, self._generators().values(), device)

    def epochs(self) -> Iterator[EpochReport]:
        """Train epoch after epoch until `stop_reason()`; DivergenceError when the loss is not finite."""
        while self.stop_reason() is None:
            started = time.perf_counter()
            loss = self._train_epoch()
            self.epoch += 1
            if not math.isfinite(loss):
                raise DivergenceError(f"the loss of epoch {self.epoch} is {loss}: optimizer.lr may be too large")
            yield EpochReport(epoch=self.epoch, loss=loss, lr=self.lr, seconds=time.perf_counter() - started)

    def steps(self) -> Iterator[tuple[int, Tensor]]:
        """Train an epoch batch by batch: how many rows it had, and their mean loss."""
        self.model.train()
        order = torch.randperm(self._type.size, generator=self._order)
        batches = order.split(self.config.training.batch_size)
        for number, rows in enumerate(batches, start=self.epoch * len(batches)):
            self._schedule.before_step(number, steps_per_epoch=len(batches))
            with products(tf32=self.config.training.precision == "tf32"):
                loss = self._step(rows)
            yield len(rows), loss

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        return math.ceil(self._type.size / self.config.training.batch_size)

    @property
    def is_captured(self) -> bool:
        """Whether the gradients of full batches are replayed from a CUDA graph."""
        return self._captured is not None

    def _train_epoch(self) -> float:
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        for rows, loss in self.steps():
            total += loss * rows
        return float(total) / self._type.size

    def _step(self, rows: Tensor) -> Tensor:
        loss = self._gradients(rows) if self._captured is None else self._captured(self._gradients, rows)
        step(self._optimizer)
        return loss

    def _gradients(self, rows: Tensor) -> Tensor:
        """Give every parameter its gradient of a batch; return the loss."""
        self._optimizer.zero_grad()
        loss = self._type.backward(self.model, rows)
        if self._terms:
            triples, count = self._type.triples(rows), len(rows) * self._type.triples_per_row
            for term in self._terms:
                # A few queries may have many thousand answers: no more rows at a time than in a batch of triples.
                parts = triples.split(self.config.training.batch_size) if term.by_triple else (triples,)
                for part in parts:
                    value = term.of(self.model, part, count)
                    value.backward()
                    loss = loss + value.detach()
        clip(self.model, self.config.optimizer.max_norm)
        return loss

    @property
    def lr(self) -> float:
        """The learning rate now."""
        return self._schedule.lr

    def observe(self, mrr: float) -> bool:
        """Tell the validation MRR of the current epoch; True when it is the best so far."""
        floor_epoch = self.config.early_stopping.floor_epoch
        if floor_epoch is not None and self.epoch >= floor_epoch:
            self._last_mrr = mrr
        self._schedule.observe(self.epoch, mrr)
        if mrr > self.best_mrr:
            self.best_mrr, self.best_epoch, self.validations_since_best = mrr, self.epoch, 0
            return True
        self.validations_since_best += 1
        return False

    def stop_reason(self) -> str | None:
        """`max_epochs`, `early_stopping`, `stop_epoch` or, while the training goes on, None."""
        rule = self.config.early_stopping
        if self.epoch >= self.config.training.max_epochs:
            return "max_epochs"
        if rule.patience is not None and self.validations_since_best >= rule.patience:
            return "early_stopping"
        if rule.floor_epoch is not None and self._last_mrr < rule.floor_mrr:
            return "early_stopping"
        return "stop_epoch" if self.epoch >= self.config.training.last_epoch else None

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next, as tensors and plain values."""
        return {
            "epoch": self.epoch,
            "best_mrr": self.best_mrr,
            "best_epoch": self.best_epoch,
            "validations_since_best": self.validations_since_best,
            "last_mrr": self._last_mrr,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "plateau": self._schedule.state(),
            "generators": {name: each.get_state() for name, each in self._generators().items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to the moment of `state()`."""
        self.epoch = state["epoch"]
        self.best_mrr = state["best_mrr"]
        self.best_epoch = state["best_epoch"]
        self.validations_since_best = state["validations_since_best"]
        self._last_mrr = state["last_mrr"]
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.restore(state["plateau"])
        for name, each in self._generators().items():
            saved = state["generators"][name].cpu()
            if len(saved) == len(each.get_state()):
                each.set_state(saved)
            else:  # of another kind of device
                each.manual_seed(generator(self.config.seed, f"{name} from epoch {self.epoch}").initial_seed())

    def _generators(self) -> dict[str, torch.Generator]:
        return {"order": self._order, "dropout": self._dropout, **self._type.generators()}


def _terms(config: TrainingConfig, *, bfloat16: bool) -> Iterator[Term]:
    """Penalty and further task of a configuration."""
    regularizer = build_regularizer(config.regularizer)
    if regularizer is not None:
        yield Term(regularizer.penalty, regularizer.by_triple)
    if config.auxiliary.relation_weight:
        second = RelationPrediction(weight=config.auxiliary.relation_weight, bfloat16=bfloat16)
        yield Term(second.loss, by_triple=True)
