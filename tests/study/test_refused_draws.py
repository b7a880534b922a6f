"""Spaces whose ends are right and whose draws are not always: refused beforehand, or a bug of the trial alone."""

from collections import Counter
from pathlib import Path

import pytest

from study.errors import StudyFileError
from study.records import FailureClass, TrialRecord, TrialState
from study.space import compose_all
from tests.study.study_files import config
from tests.study.toy_study import Toy

# Ends, middle and every choice beside the middle go together; cosine with a cooldown does not.
BETWEEN = (
    ("budget: {trials: 2}", "budget: {trials: 20}"),
    (
        "replicates: 2",
        "replicates: 2\nspaces:\n  schedule.name: {choices: [plateau, none, cosine]}\n"
        "  schedule.cooldown: {choices: [2, 0]}",
    ),
)


def is_refused(trial: TrialRecord) -> bool:
    params = dict(trial.params)
    return (params["schedule.name"], params["schedule.cooldown"]) == ("cosine", 2)


@pytest.mark.parametrize("budget", ["trials: 20", "epochs: 60"])
def test_a_draw_that_makes_no_training_fails_alone_and_is_charged(tmp_path: Path, budget: str) -> None:
    toy = Toy(tmp_path)
    toy.launch(*BETWEEN, ("trials: 20", budget), ("replicates: 2", "replicates: 2\nfailures: {identical_errors: null}"))
    toy.go_on(until=5)
    toy.go_on()
    record = toy.record()
    refused = [trial for trial in record.trials if is_refused(trial)]
    assert refused
    for trial in record.trials:
        if is_refused(trial):
            assert (trial.state, trial.failure, trial.cost.epochs) == (TrialState.FAIL, FailureClass.BUG, 1)
            assert trial.reason.startswith("ConfigError: arm complex.")
            assert "schedule.cooldown: must be 0 with cosine" in trial.reason
            assert trial.cost.device_seconds > 0
        else:
            assert trial.state is TrialState.COMPLETE
    unit = budget.partition(":")[0]
    for arm in record.arms:
        spent = sum(getattr(trial.cost, unit) for trial in record.trials if trial.arm == arm.name)
        assert spent == getattr(record.budget, unit)
    assert all(each.test_metrics for each in record.replicate_records)


def test_draws_that_make_no_training_stop_their_arm_as_any_bug_does(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.launch(*BETWEEN, ("trials: 20", "trials: 40"))
    toy.go_on()
    record = toy.record()
    assert {stop.arm for stop in record.stops} == {arm.name for arm in record.arms}
    assert all(stop.errors == 3 for stop in record.stops)


def test_draws_refused_for_different_keys_are_different_bugs(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    init = "\n  model.init.low: {float: [-1.0, 0.5]}\n  model.init.high: {float: [0.0, 1.0]}"
    toy.launch(*BETWEEN, ("  schedule.cooldown: {choices: [2, 0]}", "  schedule.cooldown: {choices: [2, 0]}" + init))
    toy.go_on()
    record = toy.record()
    for arm in record.arms:
        reasons = [trial.reason for trial in record.trials if trial.arm == arm.name and trial.failure]
        keys = Counter(reason.partition(": must be ")[0].split()[-1] for reason in reasons)
        assert keys == {"model.init.low": 2, "schedule.cooldown": 2}
    assert record.stops == ()
    assert len(record.trials) == 20 * len(record.arms)


def test_the_integer_after_the_lowest_is_tried_beforehand() -> None:
    study = config(("  model.dim: 32\n", ""), ("spaces:\n", "spaces:\n  model.dim: {int: [64, 256], log: true}\n"))
    with pytest.raises(StudyFileError, match=r"spaces\.model\.dim: must be even for complex .*, got 65"):
        compose_all(study)
    even = config(("  model.dim: 32\n", ""), ("spaces:\n", "spaces:\n  model.dim: {int: [64, 256], step: 2}\n"))
    assert compose_all(even)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (
            "training.type: {value: one_vs_all}",
            r"spaces\.training\.type: must stand under `fixed`: arms differ by it, so no space decides it",
        ),
        (
            "loss.subsampling: {value: freq}",
            r"spaces\.loss\.subsampling: must not change what the loss aims at \(p_d\): .*, got subsampled",
        ),
        (
            "loss.subsampling: {choices: [none, uniq, freq]}",
            r"spaces\.loss\.subsampling: must not change what the loss aims at \(p_d\): .*, got subsampled",
        ),
        (
            "negatives.filtered: {choices: [true, false]}",
            r"spaces\.negatives\.filtered: must not change what the loss aims at \(p_d\): .*, got unbounded",
        ),
        (
            "optimizer.max_norm: {float: [0.1, 0.2], step: .nan}",
            r"spaces\.optimizer\.max_norm: step must be a number > 0",
        ),
    ],
)
def test_no_space_changes_what_an_arm_is(entry: str, sentence: str) -> None:
    with pytest.raises(StudyFileError, match=sentence):
        compose_all(config(("spaces:\n", f"spaces:\n  {entry}\n")))
