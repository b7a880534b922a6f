"""What `study status` says of budgets, in every unit, and of arms that were stopped."""

from dataclasses import replace

import pytest

from study import environment
from study.history import is_done
from study.records import IN_FLOAT32, Amendment, ArmStop, Cost, Place, TrialState
from study.status import status_lines
from tests.study import records_factory


def of_arm(lines: list[str], arm: str) -> dict[str, str]:
    """The lines below an arm's name, by their first word."""
    after = lines[lines.index(arm) + 1 :]
    return {line.split()[0]: " ".join(line.split()[1:]) for line in after[: after.index("")]}


@pytest.mark.parametrize(
    ("unit", "budget", "said"),
    [
        ("trials", Cost(trials=4), "3 spent, 1 reserved of 4 trials"),
        ("epochs", Cost(epochs=30), "{epochs} spent, {rest} reserved of 30 epochs"),
        (
            "device_seconds",
            Cost(device_seconds=900),
            "{seconds:.1f} spent, {longer:.1f} reserved of 900.0 device-seconds",
        ),
    ],
)
def test_spent_and_reserved_are_said_in_the_declared_unit(unit: str, budget: Cost, said: str) -> None:
    record = replace(records_factory.running(), budget=budget, budget_unit=unit)
    arm = record.arms[0].name
    trials = [trial for trial in record.trials if trial.arm == arm]
    running = trials[-1]
    assert [trial.state for trial in trials if not trial.state.is_final] == [TrialState.RUNNING]
    spent = sum((trial.cost for trial in trials), start=Cost())
    intervals = [each.device_seconds for trial in trials for each in trial.curve]
    longest = max(trial.cost.device_seconds for trial in trials)
    numbers = {
        "epochs": spent.epochs,
        "rest": running.epochs - running.cost.epochs,
        "seconds": spent.device_seconds,
        "longer": max(*intervals, longest - running.cost.device_seconds),
    }
    assert of_arm(list(status_lines(record, None)), arm)["budget"] == said.format(**numbers)


def test_a_stopped_arm_is_named_with_its_bug() -> None:
    record = records_factory.finished()
    stop = ArmStop(arm=record.arms[1].name, errors=3, reason="ValueError: x (y.py:1)")
    lines = list(status_lines(replace(record, stops=(stop,)), None))
    assert of_arm(lines, stop.arm)["stopped"] == "3 trials broke by ValueError: x (y.py:1)"
    assert "stopped" not in of_arm(lines, record.arms[0].name)
    assert lines[-1].startswith("parity (largest over smallest spending): trials 1, epochs ")


def test_trainings_are_counted_by_the_device_that_they_ran_on() -> None:
    record = records_factory.finished()
    trained = {"arm": record.arms[0].name, "stage": "search"}
    places = (
        Place(**trained, trial=0, attempt=0, node="a", host="host-a", device="NVIDIA H100"),
        Place(**trained, trial=0, attempt=1, node="b", host="host-b", device="NVIDIA H100"),
        Place(**trained, trial=1, attempt=0, node="b-again", host="host-b", device="NVIDIA H100"),
        Place(**trained, trial=1, attempt=1, node="c", host="host-c", device="AMD EPYC"),
    )
    said = "trained: 1 training on AMD EPYC (1 host), 2 trainings on NVIDIA H100 (2 hosts)"
    assert said in list(status_lines(replace(record, places=places), None))
    assert not [line for line in status_lines(record, None) if line.startswith("trained")]


@pytest.mark.parametrize(
    ("precision", "has", "said"), [("bfloat16", False, True), ("bfloat16", True, False), ("float32", False, False)]
)
def test_a_device_says_that_it_trains_in_another_precision_than_asked(
    precision: str, has: bool, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "has_bfloat16", lambda device: has)
    plain = environment.device_name("cpu", "float32")
    assert environment.device_name("cpu", precision) == plain + IN_FLOAT32 * said


def test_what_was_trained_twice_is_said() -> None:
    record = records_factory.finished()
    twice = replace(record, wasted=Cost(epochs=3, device_seconds=4.25))
    said = "repeated after crashes and lost workers, charged to no arm: 3 epochs, 4.2 device-seconds"
    assert said in list(status_lines(twice, None))
    assert not [line for line in status_lines(record, None) if line.startswith("repeated")]


def test_a_study_whose_replicates_failed_is_finished_all_the_same() -> None:
    record = records_factory.finished()
    failed = tuple(
        replace(each, state=TrialState.FAIL, test_metrics=()) if each.arm == record.arms[0].name else each
        for each in record.replicate_records
    )
    assert "no driver is running" in next(status_lines(replace(record, replicate_records=failed), None))
    assert "study resume" not in next(status_lines(replace(record, replicate_records=failed), None))
    for frozen in ((), record.selections[:1]):  # the driver died before it had frozen the best of every arm
        early = replace(record, selections=frozen, replicate_records=(), openings=())
        assert "study resume" in next(status_lines(early, None))
    assert "study resume" in next(status_lines(replace(record, budget=Cost(trials=8)), None)), "amended"
    untested = tuple(replace(each, test_metrics=()) for each in record.replicate_records)
    assert "study resume" in next(status_lines(replace(record, replicate_records=untested), None))


def test_an_amended_study_is_not_over_before_its_new_best_is_frozen() -> None:
    record = records_factory.finished(trials=8)
    arm = record.arms[0].name
    best = record.current_selection(arm).trial
    second = next(each.number for each in record.trials_of(arm) if each.is_selectable and each.number != best)
    earlier = tuple(replace(each, trial=second) if each.arm == arm else each for each in record.selections)
    permission = Amendment(
        number=1,
        spec=record.spec,
        spec_sha256=record.spec_sha256,
        changes=("budget.trials: 7 -> 8",),
        reopens=True,
        time=0,
    )
    amended = replace(record, selections=earlier, amendments=(permission,))  # the driver died before freezing again
    assert not is_done(amended, arm)
    assert "study resume" in next(status_lines(amended, None))
    sealed = replace(amended, amendments=(replace(permission, reopens=False),))
    assert is_done(sealed, arm), "test was opened: what was selected stays"
    more = replace(record, amendments=(permission,), budget=Cost(trials=12))
    assert not is_done(more, arm), "nothing of what was added has started"
