"""From a configuration to the objects of one training: model, loss, training type, optimizer."""

import hashlib

import torch
from torch import nn

from kge.batches import AbstractTrainingType, NegativeSampling, OneVsAll
from kge.config import OptimizerConfig, TrainingConfig
from kge.data import Dataset
from kge.errors import ConfigError
from kge.filters import filter_from
from kge.frequencies import Frequencies
from kge.losses import LOSSES
from kge.losses.base import AbstractLoss, AbstractSamplingLoss, AbstractSoftmaxLoss
from kge.models import MODELS
from kge.models.base import AbstractModel, ModelSpec
from kge.negatives import NegativeSampler


def generator(seed: int, purpose: str, device: str = "cpu") -> torch.Generator:
    """An own stream of random numbers for each purpose, so that one never shifts another."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def build_model(config: TrainingConfig, *, num_entities: int, num_relations: int) -> AbstractModel:
    """The model with its initial tables, on the CPU."""
    spec = ModelSpec(
        num_entities=num_entities,
        num_relations=num_relations,
        dim=config.model.dim,
        reciprocal=config.model.reciprocal,
        init=config.model.init,
        dropout=config.model.dropout,
        generator=generator(config.seed, "init"),
    )
    return MODELS[config.model.name](spec, **config.model.options)


def build_loss(config: TrainingConfig) -> AbstractLoss:
    """The loss with its options."""
    return LOSSES[config.loss.name](**config.loss.options)


def check_buildable(config: TrainingConfig) -> None:
    """Raise what building would raise for this configuration, at no cost in memory."""
    build_loss(config)
    with torch.device("meta"):
        build_model(config, num_entities=2, num_relations=1)


def build_training_type(config: TrainingConfig, dataset: Dataset, *, device: str, fused: bool) -> AbstractTrainingType:
    """The training type that the configuration names, or the loss's own."""
    loss = build_loss(config)
    name = config.training.type or loss.training_types[0]
    if name not in loss.training_types:
        raise ConfigError(f"training.type: must be one of {', '.join(loss.training_types)}, got {name!r}")
    frequencies = Frequencies(dataset, device)
    if isinstance(loss, AbstractSoftmaxLoss):
        return OneVsAll(
            loss=loss,
            frequencies=frequencies,
            sub_batch_size=config.training.sub_batch_size,
            bfloat16=config.training.precision == "bfloat16",
            fused=fused,
        )
    assert isinstance(loss, AbstractSamplingLoss)
    sampler = NegativeSampler(
        noise=loss.noise,
        frequencies=frequencies,
        known=filter_from(dataset, ("train",), device) if config.negatives.filtered else None,
        generator=generator(config.seed, "negatives", device),
    )
    return NegativeSampling(
        loss=loss,
        sampler=sampler,
        negatives=config.negatives.per_side,
        sub_batch_size=config.training.sub_batch_size,
    )


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """A fused dense optimizer: it beats row-sparse updates up to about 100,000 entities."""
    match config.name:
        case "adagrad":
            return torch.optim.Adagrad(model.parameters(), lr=config.lr, fused=True)
        case "adam":
            return torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
