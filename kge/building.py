"""From a configuration to the objects of one training: model, loss and training type, and whether they go together."""

import hashlib

import torch

from kge.auxiliary import RelationPrediction
from kge.batches import AbstractTrainingType, Block, KVsAll, NegativeSampling, OneVsAll, has_kernel
from kge.config import TrainingConfig
from kge.data import Dataset
from kge.errors import ConfigError
from kge.filters import filter_from
from kge.frequencies import Frequencies
from kge.losses import LOSSES
from kge.losses.against_all import AgainstAll
from kge.losses.base import AbstractBlockLoss, AbstractLoss, AbstractSamplingLoss, Noise
from kge.losses.logistic import AbstractLogisticLoss
from kge.models import MODELS
from kge.models.base import AbstractModel, ModelSpec
from kge.negatives import NegativeSampler
from kge.precision import in_bfloat16
from kge.regularizers import REGULARIZERS


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


def check_combination(config: TrainingConfig) -> None:
    """Raise ConfigError where parts that are right by themselves do not go together."""
    loss, model = build_loss(config), MODELS[config.model.name]
    type_ = training_type(config)
    if type_ not in loss.training_types:
        must = f"must be {' or '.join(loss.training_types)} for loss {config.loss.name}"
        raise ConfigError(f"training.type: {must}, got {type_!r}")
    subsampled = isinstance(loss, AbstractLogisticLoss) and loss.subsampling != "none"
    if subsampled and type_ != "negative_sampling":
        must = "must be none without sampled negatives"
        raise ConfigError(f"loss.subsampling: {must}, got {config.loss.options['subsampling']!r}")
    if config.training.precision == "bfloat16" and not has_kernel(model, type(loss)):
        must = f"must be float32 or tf32 for model {config.model.name} with loss {config.loss.name}"
        reason = "(bfloat16 is for softmax losses of inner products)"
        raise ConfigError(f"training.precision: {must} {reason}, got 'bfloat16'")
    _check_terms(config, model)


def _check_terms(config: TrainingConfig, model: type[AbstractModel]) -> None:
    regularizer = REGULARIZERS.get(config.regularizer.name)
    if regularizer is not None and not issubclass(model, regularizer.applies_to):
        known = [name for name, each in REGULARIZERS.items() if issubclass(model, each.applies_to)]
        must = f"must be {' or '.join(['none', *known])} for model {config.model.name}"
        raise ConfigError(f"regularizer.name: {must}, got {config.regularizer.name!r}")
    weight = config.auxiliary.relation_weight
    if weight and not issubclass(model, RelationPrediction.applies_to):
        able = [name for name, each in MODELS.items() if issubclass(each, RelationPrediction.applies_to)]
        must = f"must be 0 for model {config.model.name} (relations are predicted by {', '.join(able)})"
        raise ConfigError(f"auxiliary.relation_weight: {must}, got {weight}")


def training_type(config: TrainingConfig) -> str:
    """The training type that the configuration names, or the loss's own."""
    return config.training.type or LOSSES[config.loss.name].training_types[0]


def build_training_type(config: TrainingConfig, dataset: Dataset, *, device: str, fused: bool) -> AbstractTrainingType:
    """The rows of this configuration's batches, and what they are scored against."""
    loss, frequencies, train = build_loss(config), Frequencies(dataset, device), dataset.train.to(device)
    loss.check_size(dataset.num_entities)
    type_ = training_type(config)
    if type_ == "negative_sampling":
        assert isinstance(loss, AbstractSamplingLoss)
        return NegativeSampling(
            train=train,
            frequencies=frequencies,
            loss=loss,
            sampler=_sampler(config, dataset, loss.noise, frequencies, device),
            negatives=config.negatives.per_side,
            sub_batch_size=config.training.sub_batch_size,
        )
    against_all = AgainstAll(loss) if isinstance(loss, AbstractSamplingLoss) else loss
    assert isinstance(against_all, AbstractBlockLoss)
    block = Block(
        loss=against_all,
        sub_batch_size=config.training.sub_batch_size,
        bfloat16=in_bfloat16(config.training.precision, device),
        fused=fused,
    )
    if type_ == "one_vs_all":
        return OneVsAll(train=train, frequencies=frequencies, block=block)
    query_weight = config.training.query_weight or against_all.query_weight
    return KVsAll(dataset=dataset, frequencies=frequencies, block=block, query_weight=query_weight, device=device)


def _sampler(
    config: TrainingConfig, dataset: Dataset, noise: Noise, frequencies: Frequencies, device: str
) -> NegativeSampler:
    return NegativeSampler(
        noise=noise,
        frequencies=frequencies,
        known=filter_from(dataset, ("train",), device) if config.negatives.filtered else None,
        generator=generator(config.seed, "negatives", device),
    )
