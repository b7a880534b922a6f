"""Pruning within an arm equals a naive reference, and Optuna's own where both see the same values."""

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.rungs import Rungs

CURVE = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]), min_size=1, max_size=12)


def naive(curves: dict[int, dict[int, float]], trial: int, *, min_epochs: int, reduction_factor: int) -> bool:
    """True when the trial is pruned: straight from the definition."""
    epochs = sorted(curves[trial])
    for power in range(10):
        rung = min_epochs * reduction_factor**power
        newly = epochs[-1] >= rung and (len(epochs) == 1 or epochs[-2] < rung)
        if not newly:
            continue
        values = {}
        for other, curve in curves.items():
            first = next((epoch for epoch in sorted(curve) if epoch >= rung), None)
            if first is not None:
                values[other] = max(mrr for epoch, mrr in curve.items() if epoch <= first)
        strictly_better = sum(value > values[trial] for value in values.values())
        if strictly_better >= max(1, len(values) // reduction_factor):
            return True
    return False


def decide(curves: dict[int, dict[int, float]], trial: int, *, min_epochs: int, reduction_factor: int) -> str | None:
    """Why the trial is pruned at its latest validation, which comes after those of all others."""
    rungs = Rungs(min_epochs=min_epochs, reduction_factor=reduction_factor)
    for number in (*(each for each in curves if each != trial), trial):
        for epoch in sorted(curves[number]):
            rungs.note(number, epoch, curves[number][epoch])
    return rungs.pruned(trial)


@given(
    curves=st.lists(CURVE, min_size=1, max_size=9),
    every=st.integers(1, 4),
    min_epochs=st.integers(1, 5),
    reduction_factor=st.integers(2, 4),
)
def test_decisions_equal_the_definition(
    curves: list[list[float]], every: int, min_epochs: int, reduction_factor: int
) -> None:
    by_trial = {number: {(i + 1) * every: mrr for i, mrr in enumerate(values)} for number, values in enumerate(curves)}
    for trial in by_trial:
        pruned = decide(by_trial, trial, min_epochs=min_epochs, reduction_factor=reduction_factor)
        expected = naive(by_trial, trial, min_epochs=min_epochs, reduction_factor=reduction_factor)
        assert (pruned is not None) is expected


@given(
    steps=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4), st.sampled_from([0.1, 0.2, 0.3])), max_size=60),
    min_epochs=st.integers(1, 5),
    reduction_factor=st.integers(2, 4),
)
def test_a_view_that_grows_decides_as_the_definition_at_every_moment(
    steps: list[tuple[int, int, float]], min_epochs: int, reduction_factor: int
) -> None:
    curves, decided = dict[int, dict[int, float]](), dict[int, bool]()
    rungs = Rungs(min_epochs=min_epochs, reduction_factor=reduction_factor)
    for trial, further, mrr in steps:
        curve = curves.setdefault(trial, {})
        epoch = max(curve, default=0) + further
        curve[epoch] = mrr
        rungs.note(trial, epoch, mrr)
        decided[trial] = naive(curves, trial, min_epochs=min_epochs, reduction_factor=reduction_factor)
        # an older validation may be told again: who has come since changes nothing of what was decided
        assert {each: rungs.pruned(each) is not None for each in curves} == decided


@given(st.data(), st.integers(1, 3), st.integers(2, 4))
def test_rising_curves_are_pruned_as_by_optuna(data: st.DataObject, min_epochs: int, reduction_factor: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=min_epochs, reduction_factor=reduction_factor)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    live = {number: study.ask() for number in range(6)}
    speed = {number: data.draw(st.integers(1, 5), label=f"speed of {number}") for number in live}
    curves: dict[int, dict[int, float]] = {}
    for _ in range(40):
        if not live:
            break
        number = data.draw(st.sampled_from(sorted(live)), label="next")
        epoch = len(curves.get(number, {})) + 1
        curves.setdefault(number, {})[epoch] = speed[number] * epoch / 100
        live[number].report(curves[number][epoch], epoch)
        pruned = decide(curves, number, min_epochs=min_epochs, reduction_factor=reduction_factor)
        assert (pruned is not None) is live[number].should_prune()
        if pruned is not None:
            del live[number]


def test_the_first_at_a_rung_goes_on_and_the_second_best_does_not() -> None:
    curves = {0: {1: 0.2, 2: 0.3}}
    assert decide(curves, 0, min_epochs=2, reduction_factor=3) is None
    curves[1] = {1: 0.1, 2: 0.2}
    reason = "pruned at epoch 2: 2 of 2 after 2 epochs, 1 go on"
    assert decide(curves, 1, min_epochs=2, reduction_factor=3) == reason


def test_the_best_so_far_counts_not_the_last() -> None:
    curves = {0: {1: 0.5, 2: 0.1}, 1: {1: 0.2, 2: 0.4}}
    assert decide(curves, 0, min_epochs=2, reduction_factor=2) is None
    assert decide(curves, 1, min_epochs=2, reduction_factor=2)


def test_a_tie_goes_on() -> None:
    assert decide({0: {2: 0.3}, 1: {2: 0.3}}, 1, min_epochs=2, reduction_factor=2) is None


def test_between_rungs_nothing_is_decided() -> None:
    curves = {0: {2: 0.9}, 1: {2: 0.1, 3: 0.1}}
    assert decide(curves, 1, min_epochs=2, reduction_factor=3) is None


@pytest.mark.parametrize("epoch", [6, 7])
def test_a_validation_that_passes_two_rungs_decides_on_both(epoch: int) -> None:
    curves = {0: {2: 0.5, 4: 0.6}, 1: {epoch: 0.5}, 2: {2: 0.4}}
    reason = f"pruned at epoch {epoch}: 2 of 2 after 4 epochs, 1 go on"
    assert decide(curves, 1, min_epochs=2, reduction_factor=2) == reason
