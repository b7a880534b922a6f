"""The timeline of a study's budgets, against hand-made histories and against sums over the record."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from study.records import Cost, Measurement, StudyRecord, TrialRecord, TrialState
from study.timeline import timeline, worth
from tests.study import records_factory as factory

A, B = "complex.sce", "complex.sans"
UNITS = ("trials", "epochs", "device_seconds")


def trial(
    arm: str, number: int, *, at: float, until: float | None, epochs: Sequence[int], reserved: int = 4
) -> TrialRecord:
    """A trial with a validation after each of these many epochs, one epoch a second, half of it on the device."""
    base = factory.trial(factory.arm(*arm.split(".")), number, epochs=reserved)
    curve, time, epoch = [], at, 0
    for step in epochs:
        time, epoch = time + step, epoch + step
        curve.append(replace(_MEASUREMENT, arm=arm, trial=number, epoch=epoch, epochs=step, time=time))
    measured = tuple(replace(m, device_seconds=m.epochs / 2) for m in curve)
    return replace(
        base,
        state=TrialState.RUNNING if until is None else TrialState.COMPLETE,
        epochs=reserved,
        curve=measured,
        cost=Cost(trials=1, epochs=sum(epochs), device_seconds=sum(epochs) / 2),
        started=at,
        ended=until,
    )


_MEASUREMENT = Measurement(
    arm="", trial=0, epoch=0, mrr=0.1, metrics=(), loss=1.0, epochs=0, device_seconds=0.0, time=0.0
)


def study(unit: str, limit: int, *trials: TrialRecord) -> StudyRecord:
    record = factory.finished(models=("complex",))
    return replace(record, trials=trials, budget=replace(Cost(), **{unit: limit}), budget_unit=unit)


def seen(record: StudyRecord) -> list[tuple[float, str, str, float, float, float]]:
    return [(m.time, m.arm, m.event, m.charged, m.committed, m.gap) for m in timeline(record)]


def test_trials_are_taken_when_they_start() -> None:
    record = study(
        "trials",
        2,
        trial(A, 0, at=0, until=9, epochs=[2]),
        trial(B, 0, at=1, until=5, epochs=[]),
        trial(B, 1, at=6, until=7, epochs=[]),
    )
    assert seen(record) == [
        (0, A, "started", 1, 1, 1),
        (1, B, "started", 1, 1, 0),
        (6, B, "started", 2, 2, 1),
    ]
    assert worth(record) == 1
    assert (timeline(record)[0].ahead, timeline(record)[0].behind) == (A, B)
    assert (timeline(record)[2].ahead, timeline(record)[2].behind) == (B, A)


def test_epochs_are_reserved_at_the_start_and_what_is_not_used_goes_to_the_next() -> None:
    trials = [trial(A, 0, at=0, until=3, epochs=[1, 1]), trial(B, 0, at=2.5, until=7, epochs=[2, 2])]
    record = study("epochs", 8, *trials, trial(A, 1, at=8, until=None, epochs=[]))
    assert worth(record) == 4
    assert seen(record) == [
        (0, A, "started", 0, 4, 1),
        (1, A, "charged", 1, 4, 1),
        (2, A, "charged", 2, 4, 1),
        (2.5, B, "started", 0, 4, 0),
        (4.5, B, "charged", 2, 4, 0),
        (6.5, B, "charged", 4, 4, 0),
        (8, A, "started", 2, 6, 0.5),
    ]


def test_a_truncated_trial_reserves_what_it_may_use() -> None:
    record = study(
        "epochs", 5, trial(A, 0, at=0, until=4, epochs=[4]), trial(A, 1, at=5, until=6, epochs=[1], reserved=1)
    )
    assert [m.committed for m in timeline(record)] == [4, 4, 5, 5]


def test_seconds_count_as_charged_until_something_was_measured() -> None:
    record = study(
        "device_seconds", 100, trial(A, 0, at=0, until=5, epochs=[2, 2]), trial(B, 0, at=1, until=None, epochs=[])
    )
    moments = timeline(record)
    assert [m.time for m in moments if m.event == "started"] == [0, 1]
    assert all(m.committed == 0 for m in moments if m.arm == B)
    assert moments[-1].charged == moments[-1].committed == 2  # ended: nothing is reserved
    assert worth(record) == 2
    assert moments[-1].gap == 1


def test_what_an_arm_starts_from_is_charged_and_reserves_nothing() -> None:
    first, second = trial(A, 0, at=0, until=20, epochs=[10, 10]), trial(B, 0, at=1, until=21, epochs=[10, 10])
    first = replace(first, pretraining=Cost(trials=1, epochs=120, device_seconds=60))
    second = replace(second, pretraining=Cost(trials=1, epochs=10, device_seconds=5))
    moments = timeline(study("device_seconds", 300, first, second))
    assert [(m.event, m.arm, m.committed) for m in moments[:4]] == [
        ("pretrained", A, 60),
        ("pretrained", B, 5),
        ("started", A, 60),
        ("started", B, 5),
    ]
    assert max(m.committed for m in moments if m.arm == A) == 75  # with what the trial took and its next interval


def test_clocks_that_disagree_do_not_turn_a_trial_around() -> None:
    late = trial(A, 0, at=0, until=3, epochs=[2, 2])  # its worker measured "after" the driver saw the end
    moments = timeline(study("epochs", 8, late))
    assert [m.event for m in moments] == ["started", "charged", "charged"]
    assert [m.time for m in moments] == [0, 2, 4]
    early = replace(late, curve=tuple(replace(m, time=m.time - 10) for m in late.curve))
    assert [m.time for m in timeline(study("epochs", 8, early))] == [0, 0, 0]


def test_a_trial_that_nobody_saw_start_is_left_out() -> None:
    lost = replace(trial(A, 0, at=0, until=None, epochs=[]), started=None)
    assert timeline(study("trials", 2, lost)) == ()


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("seed", range(5))
def test_moments_agree_with_sums_over_the_record(unit: str, seed: int) -> None:
    draw = Random(seed)
    trials = [
        trial(
            arm,
            number,
            at=draw.uniform(0, 40),
            until=60.0 + number,
            epochs=[draw.randint(1, 2) for _ in range(draw.randint(1, 2))],
        )
        for arm in (A, B)
        for number in range(6)
    ]
    record = study(unit, 1000, *trials)
    moments = timeline(record)
    assert [m.time for m in moments] == sorted(m.time for m in moments)
    for arm in (A, B):
        last = [m for m in moments if m.arm == arm][-1]
        total = sum(getattr(each.cost, unit) for each in trials if each.arm == arm)
        assert last.charged == pytest.approx(total)
        kept = sum(each.epochs for each in trials if each.arm == arm) - total if unit == "epochs" else 0
        assert last.committed == pytest.approx(total + kept)
    draw.shuffle(trials)
    assert timeline(replace(record, trials=tuple(trials))) == moments
    committed = dict.fromkeys((A, B), 0.0)
    for moment in moments:
        committed[moment.arm] = moment.committed
        assert moment.gap == pytest.approx(abs(committed[A] - committed[B]) / worth(record))
        assert moment.charged <= moment.committed + 1e-9
