"""Which trials broke by the same bug, and what a failing trial is charged."""

import pytest

from study.attempts import ending, unmeasured
from study.failures import identity, stops
from study.records import ArmStop, Cost, FailureClass, Outcome, TrialRecord, TrialState
from study.store import AttemptRecord

HERE = "ValueError: dim must be even, got 7 (model.py:12)"


@pytest.mark.parametrize(
    ("reason", "same"),
    [
        ("ValueError: dim must be even, got 9 (model.py:12)", True),
        ("ValueError (model.py:12)", True),
        ("ValueError: call f(x.py:3) (model.py:12)", True),
        ("ValueError: dim must be even, got 7 (model.py:13)", False),
        ("ValueError: dim must be even, got 7 (other.py:12)", False),
        ("KeyError: 'dim' (model.py:12)", False),
        ("ended without a validation", False),
    ],
)
def test_a_bug_is_its_type_and_its_place(reason: str, same: bool) -> None:
    assert (identity(reason) == identity(HERE)) is same


REFUSED = "ConfigError: arm a.sce: model.init.low: must be < model.init.high (0.3), got 0.4 (documents.py:294)"


@pytest.mark.parametrize(
    ("reason", "same"),
    [
        ("ConfigError: arm a.sce: model.init.low: must be < model.init.high (0.1), got 0.2 (documents.py:294)", True),
        ("ConfigError: arm a.sce: model.init.low: must be a number, got null (documents.py:282)", True),
        ("ConfigError: arm a.sce: schedule.cooldown: must be 0 with cosine, got 2 (documents.py:294)", False),
        ("ConfigError: arm a.sce: model.init: must be a mapping (documents.py:294)", False),
        ("ConfigError (documents.py:294)", False),
        ("ValueError: arm a.sce: model.init.low: must be < 0.3, got 0.4 (documents.py:294)", False),
    ],
)
def test_a_refused_configuration_is_the_key_that_is_refused(reason: str, same: bool) -> None:
    assert (identity(reason) == identity(REFUSED)) is same


def test_a_reason_without_a_place_is_known_by_its_words() -> None:
    assert identity("ended without a validation") == "ended without a validation"


def trial(arm: str, number: int, failure: FailureClass | None, reason: str) -> TrialRecord:
    return TrialRecord(
        arm=arm,
        number=number,
        state=TrialState.FAIL if failure else TrialState.COMPLETE,
        params=(),
        seed=0,
        random=True,
        epochs=3,
        best_mrr=None,
        best_epoch=None,
        attempts=1,
        failure=failure,
        reason=reason,
        cost=Cost(trials=1),
        curve=(),
        started=None,
        ended=None,
    )


def test_an_arm_stops_by_its_most_frequent_bug_and_no_other_arm_with_it() -> None:
    bug, nan = FailureClass.BUG, FailureClass.DIVERGENCE
    trials = [
        trial("a", 0, bug, "KeyError: 1 (x.py:1)"),
        *(trial("a", number, bug, f"ValueError: {number} (x.py:2)") for number in (1, 2, 4)),
        *(trial("b", number, bug, f"ValueError: {number} (x.py:{number})") for number in range(5)),
        *(trial("c", number, nan, "ValueError: nan (x.py:2)") for number in range(5)),
        trial("a", 3, None, "max_epochs"),
    ]
    assert stops(trials, limit=3) == (ArmStop(arm="a", errors=3, reason="ValueError: 1 (x.py:2)"),)
    assert stops(trials, limit=4) == ()
    assert stops(trials, limit=None) == ()
    assert [stop.arm for stop in stops(trials, limit=1)] == ["a", "b"]


# -- attempts ------------------------------------------------------------------------------------


def attempts(*outcomes: Outcome | None) -> list[AttemptRecord]:
    return [
        AttemptRecord(
            arm="a",
            stage="search",
            trial=0,
            attempt=number,
            started=10.0 * number,
            ended=None if outcome is None else 10.0 * number + 4,
            outcome=outcome,
        )
        for number, outcome in enumerate(outcomes)
    ]


def failure(kind: FailureClass, reason: str = "x", *, epochs: int = 0, seconds: float = 0.0) -> Outcome:
    cost = Cost(epochs=epochs, device_seconds=seconds)
    return Outcome(state=TrialState.FAIL, failure=kind, reason=reason, unmeasured=cost)


MEMORY, INFRASTRUCTURE = FailureClass.MEMORY, FailureClass.INFRASTRUCTURE
KILLED = failure(INFRASTRUCTURE, "OutOfMemoryError: the node was running low on memory")


def test_memory_failures_are_final_when_nothing_is_left_to_halve() -> None:
    tried = attempts(failure(MEMORY), KILLED)
    assert ending(tried, halvings=2) is None
    over = ending(tried, halvings=1)
    assert over is not None
    assert over.failure is MEMORY
    assert over.reason == "out of memory 2 times, the last: OutOfMemoryError: the node was running low on memory"


def test_workers_killed_for_memory_are_no_lost_workers() -> None:
    assert ending(attempts(*[KILLED] * 9), halvings=9) is None
    lost = ending(attempts(*[failure(INFRASTRUCTURE, "gone")] * 5), halvings=9)
    assert lost is not None
    assert lost.failure is INFRASTRUCTURE


@pytest.mark.parametrize(
    ("outcomes", "failed", "measured", "charged"),
    [
        ([Outcome(state=TrialState.COMPLETE)], False, Cost(epochs=5, device_seconds=5), Cost()),
        ([failure(FailureClass.BUG, epochs=2, seconds=3)], True, Cost(), Cost(epochs=2, device_seconds=3)),
        ([failure(FailureClass.BUG)], True, Cost(), Cost(epochs=1, device_seconds=1e-3)),
        ([failure(FailureClass.BUG)], True, Cost(epochs=5, device_seconds=5), Cost()),
        ([failure(INFRASTRUCTURE, seconds=each) for each in (0, 3, 2)], True, Cost(), Cost(epochs=1, device_seconds=3)),
        ([failure(INFRASTRUCTURE, seconds=3)] * 2, True, Cost(epochs=5, device_seconds=5), Cost()),
        ([failure(INFRASTRUCTURE, seconds=3), None], False, Cost(), Cost()),
        ([KILLED, Outcome(state=TrialState.RUNNING)], True, Cost(), Cost(epochs=1, device_seconds=1e-3)),
        ([failure(MEMORY, epochs=2, seconds=3), None], False, Cost(), Cost(device_seconds=3)),
        ([failure(MEMORY, epochs=2, seconds=3)] * 2, True, Cost(), Cost(epochs=2, device_seconds=6)),
    ],
)
def test_what_is_charged_beyond_measurements(
    outcomes: list[Outcome | None], failed: bool, measured: Cost, charged: Cost
) -> None:
    assert unmeasured(attempts(*outcomes), failed=failed, measured=measured) == charged
