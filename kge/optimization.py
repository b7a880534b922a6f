"""Steps: the optimizer, the learning rate of each step, and the bound on a step's gradient."""

import inspect
import math
import sys
from typing import Any

import torch
from torch import nn

from kge.config import OptimizerConfig, ScheduleConfig
from kge.models.base import AbstractModel


def build_optimizer(config: OptimizerConfig, model: AbstractModel) -> torch.optim.Optimizer:
    """A fused dense optimizer: it beats row-sparse updates up to about 100,000 entities."""
    _spare_the_compiler()
    groups = _groups(config, model)
    decay = config.weight_decay
    match config.name:
        case "adagrad":
            return torch.optim.Adagrad(groups, lr=config.lr, weight_decay=decay, fused=True)
        case "adam":
            return torch.optim.Adam(groups, lr=config.lr, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=config.lr, weight_decay=decay, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=decay, fused=True)


def step(optimizer: torch.optim.Optimizer) -> None:
    """What `optimizer.step()` does, without its import of torch's compiler, which compiles nothing here."""
    with torch.no_grad():
        inspect.unwrap(type(optimizer).step)(optimizer)


def _spare_the_compiler() -> None:
    """Let optimizers do without torch's compiler, which takes a second of each process to import.

    They import it to exempt some methods from it. These count as exempted already, unless the compiler is there.
    """
    if "torch._dynamo" not in sys.modules:
        for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
            method = inspect.unwrap(getattr(torch.optim.Optimizer, name))
            vars(method).setdefault("__dynamo_disable", method)


def _groups(config: OptimizerConfig, model: AbstractModel) -> list[dict[str, Any]]:
    """Parameters that learn at one rate; the first group has rate lr x entity_factor."""
    if config.entity_factor == config.relation_factor == 1:
        return [{"params": list(model.parameters())}]
    tables = [(model.entities, config.entity_factor), (model.relations, config.relation_factor)]
    rest = [each for each in model.parameters() if each is not model.entities and each is not model.relations]
    groups: list[dict[str, Any]] = [{"params": [table], "lr": config.lr * factor} for table, factor in tables]
    return [*groups, {"params": rest}] if rest else groups


def clip(model: nn.Module, max_norm: float | None) -> None:
    """Scale the whole gradient down to a norm of at most `max_norm`."""
    if max_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)


class Schedule:
    """Sets the learning rates of an optimizer, step by step and validation by validation.

        step s of a warm-up of w steps:  lr (s + 1) / w
        cosine, at progress x in [0, 1): lr [ final + (1 - final) (1 + cos(pi x)) / 2 ]
        step s of a cooldown of c steps: (the rate before it) (1 - s / c)

    Plateaus are counted from the end of the warm-up to the cooldown. All groups move together, each from its own rate.
    """

    def __init__(self, config: ScheduleConfig, optimizer: torch.optim.Optimizer, *, lr: float, max_epochs: int) -> None:
        self._config = config
        self._optimizer = optimizer
        self._full: list[float] = [group["lr"] for group in optimizer.param_groups]
        self._lr = lr
        self._max_epochs = max_epochs
        self._stable = config.stable_epochs(max_epochs)
        self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max", factor=config.factor, patience=config.patience, threshold=config.threshold, eps=0.0
        )

    @property
    def lr(self) -> float:
        """The learning rate now, of what no factor changes."""
        now: float = self._optimizer.param_groups[0]["lr"]
        return now * (self._lr / self._full[0])

    def before_step(self, step: int, *, steps_per_epoch: int) -> None:
        """Set the rates of a step, counted from 0 over the whole training."""
        warmup = self._config.warmup * steps_per_epoch
        if step < warmup:
            self._set((step + 1) / warmup)
        elif self._config.name == "cosine":
            progress = min((step - warmup) / max(1, self._max_epochs * steps_per_epoch - warmup), 1.0)
            final = self._config.final
            self._set(final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2)
        elif step > self._stable * steps_per_epoch:
            left = self._max_epochs * steps_per_epoch - step
            for group in self._optimizer.param_groups:
                group["lr"] *= left / (left + 1)

    def observe(self, epoch: int, mrr: float) -> None:
        """Tell a validation."""
        if self._config.name == "plateau" and self._config.warmup <= epoch <= self._stable:
            self._plateau.step(mrr)

    def state(self) -> dict[str, Any]:
        """What the next validation depends on; the rates themselves are in the optimizer's state."""
        return self._plateau.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to `state()`."""
        self._plateau.load_state_dict(state)

    def _set(self, share: float) -> None:
        for group, full in zip(self._optimizer.param_groups, self._full, strict=True):
            group["lr"] = share * full
