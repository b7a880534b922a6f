"""Parts that are right by themselves and do not go together are refused in one sentence, with their line."""

from typing import Any

import pytest
import torch

from kge import precision
from kge.batches import Block, has_kernel
from kge.building import build_model, build_training_type, check_combination
from kge.config import LossConfig, ModelConfig, RegularizerConfig, TrainingConfig
from kge.documents import parse_config, read_text
from kge.errors import ConfigError
from kge.losses import LOSSES
from kge.models import MODELS
from kge.training import Training
from tests.kge import graphs

REFUSED: list[Any] = [
    ({"regularizer.name": "n3"}, "rotate", "sans", "regularizer.name: must be none or lp for model rotate, got 'n3'"),
    (
        {"regularizer.name": "n3"},
        "rescal",
        "sce",
        "regularizer.name: must be none or lp or dura for model rescal, got 'n3'",
    ),
    ({"regularizer.name": "dura"}, "conve", "sce", "regularizer.name: must be none or lp for model conve, got 'dura'"),
    (
        {"auxiliary.relation_weight": 0.5},
        "transe",
        "ns",
        "auxiliary.relation_weight: must be 0 for model transe (relations are predicted by rescal, tucker, distmult, "
        "complex, cp, simple), got 0.5",
    ),
    (
        {"training.precision": "bfloat16"},
        "complex",
        "bce",
        "training.precision: must be float32 or tf32 for model complex with loss bce (bfloat16 is for softmax losses "
        "of inner products), got 'bfloat16'",
    ),
    (
        {"training.precision": "bfloat16"},
        "transe",
        "sce",
        "training.precision: must be float32 or tf32 for model transe with loss sce (bfloat16 is for softmax losses "
        "of inner products), got 'bfloat16'",
    ),
    (
        {"training.type": "k_vs_all"},
        "complex",
        "sans",
        "training.type: must be negative_sampling or one_vs_all for loss sans, got 'k_vs_all'",
    ),
    (
        {"training.type": "one_vs_all", "loss.subsampling": "freq"},
        "complex",
        "ns",
        "loss.subsampling: must be none without sampled negatives, got 'freq'",
    ),
    (
        {"loss.subsampling": "bse"},
        "complex",
        "ns",
        "loss.subsampling: must be one of 'none', 'base', 'freq', 'uniq', got 'bse'",
    ),
]


@pytest.mark.parametrize(("paths", "model", "loss", "sentence"), REFUSED)
def test_what_does_not_go_together_is_refused(paths: dict[str, object], model: str, loss: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        graphs.config(paths, model=model, loss=loss)
    assert str(caught.value) == sentence


def test_the_refusal_names_file_and_line() -> None:
    text = "dataset: toy\nmodel: {name: rotate}\nloss: {name: ns}\nregularizer:\n  name: n3\n"
    document = read_text(text, "f.yaml")
    with pytest.raises(ConfigError, match=r"^f\.yaml:5: regularizer\.name: must be none or lp for model rotate"):
        parse_config(document.data, document.where)


def test_a_configuration_made_by_hand_is_refused_before_it_trains() -> None:
    config = TrainingConfig(
        dataset="toy",
        model=ModelConfig(name="transe", dim=4),
        loss=LossConfig(name="sce"),
        regularizer=RegularizerConfig(name="n3", weight=0.1),
    )
    with pytest.raises(ConfigError, match=r"^regularizer\.name: "):
        check_combination(config)
    with pytest.raises(ConfigError, match=r"^regularizer\.name: "):
        Training(config, graphs.ring())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("loss", LOSSES)
def test_bfloat16_is_taken_exactly_where_a_kernel_uses_it(
    model: str, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is accepted it changes the step; where it would change nothing it is refused."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)

    def value(precision: str) -> torch.Tensor:
        config = graphs.config({"training.precision": precision, "model.init.std": 0.5}, model=model, loss=loss)
        graph = graphs.ring()
        table = build_model(config, num_entities=graph.num_entities, num_relations=graph.num_relations).train()
        table.use_generator(torch.Generator().manual_seed(0))
        type_ = build_training_type(config, graph, device="cpu", fused=True)
        return type_.backward(table, torch.arange(16))

    if has_kernel(MODELS[model], LOSSES[loss]):
        assert not torch.equal(value("bfloat16"), value("float32"))
    else:
        with pytest.raises(ConfigError, match=r"^training\.precision: must be float32 or tf32 for model"):
            value("bfloat16")


def test_sampling_losses_over_all_entities_run_unfused() -> None:
    config = graphs.config({"training.type": "one_vs_all"}, loss="sans")
    block = build_training_type(config, graphs.ring(), device="cpu", fused=True)._block  # type: ignore[attr-defined]
    assert isinstance(block, Block)
    assert not has_kernel(MODELS["complex"], type(block.loss))
