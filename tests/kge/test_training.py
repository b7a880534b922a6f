"""The loop alone: seeds, schedules, early stopping, divergence."""

from collections.abc import Mapping

import pytest
import torch

from kge.errors import DivergenceError
from kge.training import Training
from tests.kge import graphs

GRAPH = graphs.ring()


def _losses(paths: Mapping[str, object], *, loss: str = "sans", model: str = "complex") -> list[float]:
    return [report.loss for report in Training(graphs.config(paths, loss=loss, model=model), GRAPH).epochs()]


def _observed(training: Training, mrrs: list[float]) -> int:
    """How many epochs run when each is validated with the next of these numbers."""
    values = iter(mrrs)
    return sum(training.observe(next(values)) or True for _ in training.epochs())


@pytest.mark.parametrize("loss", ["sans", "sce"])
def test_the_seed_decides_everything(loss: str) -> None:
    dropout = {"model.dropout.entity": 0.3}
    assert _losses(dropout, loss=loss) == _losses(dropout, loss=loss)
    assert _losses(dropout, loss=loss) != _losses(dropout | {"seed": 1}, loss=loss)


def test_each_purpose_draws_from_its_own_stream() -> None:
    """Dropout that acts on nothing that matters must not shift initial tables, order or negatives."""
    plain = Training(graphs.config(loss="ns"), GRAPH)
    dropped = Training(graphs.config({"model.dropout.query": 0.5}, loss="ns"), GRAPH)
    for training in (plain, dropped):
        next(training.epochs())
    assert torch.equal(*(training.state()["generators"]["negatives"] for training in (plain, dropped)))
    assert torch.equal(*(training.state()["generators"]["order"] for training in (plain, dropped)))


def test_global_random_state_is_neither_read_nor_moved() -> None:
    paths = {"model.dropout.entity": 0.3}
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = _losses(paths)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert _losses(paths) == one


def test_every_triple_is_seen_once_an_epoch() -> None:
    training = Training(graphs.config({"training.batch_size": 7}), GRAPH)
    seen: list[torch.Tensor] = []
    type_ = training._type
    backward = type_.backward

    def spy(model: object, rows: torch.Tensor) -> torch.Tensor:
        assert torch.equal(GRAPH.train[rows], type_.triples(rows))
        seen.append(rows)
        return backward(model, rows)

    type_.backward = spy
    first, second = (next(training.epochs()) and torch.cat(seen) for _ in range(2))
    assert sorted(first.tolist()) == list(range(len(GRAPH.train)))
    assert sorted(second[len(first) :].tolist()) == sorted(first.tolist())
    assert second[len(first) :].tolist() != first.tolist()
    assert {len(rows) for rows in seen} == {7, len(GRAPH.train) % 7}


def test_the_loss_of_a_batch_does_not_depend_on_its_size() -> None:
    """At a learning rate that moves nothing, the epoch's mean is the same however it is cut."""
    still = {"optimizer.lr": 1e-12, "training.max_epochs": 1}
    whole = _losses(still | {"training.batch_size": 1000}, loss="sce_ls")
    cut = _losses(still | {"training.batch_size": 4}, loss="sce_ls")
    assert cut == pytest.approx(whole, rel=1e-5)


def test_patience_counts_validations_without_a_new_best() -> None:
    paths = {"training.max_epochs": 20, "early_stopping.patience": 3}
    training = Training(graphs.config(paths), GRAPH)
    assert _observed(training, [0.1, 0.3, 0.2, 0.3, 0.25, 0.9]) == 5
    assert training.stop_reason() == "early_stopping"
    assert (training.best_mrr, training.best_epoch) == (0.3, 2)


def test_patience_starts_again_at_a_new_best() -> None:
    paths = {"training.max_epochs": 20, "early_stopping.patience": 2}
    assert _observed(Training(graphs.config(paths), GRAPH), [0.1, 0.05, 0.2, 0.15, 0.3, 0.2, 0.1]) == 7


def test_null_patience_never_stops() -> None:
    training = Training(graphs.config({"training.max_epochs": 6, "early_stopping.patience": None}), GRAPH)
    assert _observed(training, [0.5, 0.4, 0.3, 0.2, 0.1, 0.05]) == 6
    assert training.stop_reason() == "max_epochs"


@pytest.mark.parametrize(
    ("mrrs", "epochs"),
    [
        ([0.01, 0.01, 0.01, 0.2, 0.0], 3),  # below the floor before it applies, and when it does
        ([0.01, 0.01, 0.10, 0.2, 0.0], 5),  # at the floor is not below it
        ([0.20, 0.20, 0.20, 0.01, 0.0], 4),  # below it later
    ],
)
def test_the_floor_holds_from_its_epoch_on(mrrs: list[float], epochs: int) -> None:
    paths = {"training.max_epochs": 20, "early_stopping": {"patience": None, "floor_epoch": 3, "floor_mrr": 0.1}}
    training = Training(graphs.config(paths), GRAPH)
    assert _observed(training, mrrs) == epochs


def test_the_floor_waits_for_a_validation() -> None:
    """Between validations there is nothing to hold against it."""
    rule = {"patience": None, "floor_epoch": 2, "floor_mrr": 0.1}
    training = Training(graphs.config({"training.max_epochs": 9, "early_stopping": rule}), GRAPH)
    for report in training.epochs():
        if report.epoch in (1, 4):
            training.observe(0.01)
    assert (training.epoch, training.stop_reason()) == (4, "early_stopping")


def test_plateau_lowers_the_rate_after_more_than_patience_validations_without_gain() -> None:
    paths = {
        "training.max_epochs": 8,
        "optimizer.lr": 0.1,
        "schedule": {"name": "plateau", "factor": 0.5, "patience": 1, "threshold": 0.01},
    }
    training = Training(graphs.config(paths), GRAPH)
    rates = []
    for report, mrr in zip(training.epochs(), [0.2, 0.201, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3], strict=True):
        training.observe(mrr)
        rates.append((report.lr, training.lr))
    assert [after for _, after in rates] == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025, 0.0125])
    assert [during for during, _ in rates[1:]] == [after for _, after in rates[:-1]]


def test_schedule_none_keeps_the_rate() -> None:
    training = Training(graphs.config({"training.max_epochs": 6, "schedule": {"name": "none", "patience": 0}}), GRAPH)
    _observed(training, [0.5, 0.4, 0.3, 0.2, 0.1, 0.05])
    assert training.lr == 0.1


@pytest.mark.parametrize("loss", ["sce", "ns"])
@pytest.mark.parametrize("model", ["distmult", "transe"])
def test_a_loss_that_is_not_finite_is_divergence(model: str, loss: str) -> None:
    paths = {"optimizer.name": "adam", "optimizer.lr": 1e38, "training.max_epochs": 5}
    with pytest.raises(DivergenceError, match=r"^the loss of epoch \d is (nan|inf): optimizer\.lr may be too large$"):
        _losses(paths, model=model, loss=loss)


@pytest.mark.parametrize(("name", "rate"), [("adam", 0.01), ("adagrad", 0.1)])
def test_the_first_step_of_the_optimizer(name: str, rate: float) -> None:
    """Both move every number that has a gradient by the learning rate, in their first step."""
    paths = {"optimizer": {"name": name, "lr": rate}, "training.batch_size": 1000, "training.max_epochs": 1}
    training = Training(graphs.config(paths), GRAPH)
    before = training.model.entities.detach().clone()
    next(training.epochs())
    moved = (training.model.entities.detach() - before).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, rate), rtol=1e-3, atol=0)


def test_bfloat16_trains_float32_tables() -> None:
    training = Training(graphs.config({"training.precision": "bfloat16", "training.max_epochs": 8}), GRAPH)
    losses = [report.loss for report in training.epochs()]
    assert losses[-1] < losses[0]
    assert {parameter.dtype for parameter in training.model.parameters()} == {torch.float32}


def test_a_training_of_another_kind_of_device_goes_on_with_draws_of_its_own() -> None:
    def states_after(change: bool) -> dict[str, torch.Tensor]:
        training = Training(graphs.config({"model.dropout.entity": 0.3}), GRAPH)
        next(training.epochs())
        state = training.state()
        if change:  # of a CUDA generator: a seed and an offset
            state["generators"] |= {"dropout": torch.zeros(16, dtype=torch.uint8)}
        training.restore(state)
        return training.state()["generators"]

    same, moved, again = states_after(False), states_after(True), states_after(True)
    assert torch.equal(moved["order"], same["order"])
    assert not torch.equal(moved["dropout"], same["dropout"])
    assert torch.equal(moved["dropout"], again["dropout"])
