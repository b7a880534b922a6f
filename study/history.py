"""What a study's database knows, as records: all that a report, the mirror or `study status` reads."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

from study.arms import Arms
from study.attempts import by_trial, unmeasured
from study.budget import Ledger
from study.failures import stops
from study.hypotheses import declared
from study.pretraining import best_trial, charged_before, generations, stranded
from study.records import (
    TEST_SPLIT,
    ArmStop,
    Cost,
    FailureClass,
    Measurement,
    ReplicateRecord,
    StudyRecord,
    TrialRecord,
    TrialState,
)
from study.report.fairness import unequal
from study.sealing import sealed, stands
from study.store import AttemptRecord, Registration, Store


def study_record(database: str, name: str) -> StudyRecord:
    """The whole study as it stands now; UnknownStudyError when the database does not know it."""
    with closing(Store(database)) as store:
        registration = store.registration(name)
        with closing(Arms(database, name)) as arms:
            trials = trial_records(store, arms, registration)
        return StudyRecord(
            **vars(registration),
            trials=trials,
            selections=tuple(store.selections(name)),
            replicate_records=tuple(_replicates(store, name)),
            openings=tuple(store.openings(name)),
            amendments=tuple(store.amendments(name)),
            continuations=tuple(store.continuations(name)),
            places=tuple(store.places(name)),
            launched_sha256=store.launched(name).spec_sha256,
            wasted=store.wasted(name),
            stops=tuple(_stops(registration, trials)),
            comparison=declared(registration.spec, registration.arms, f"study {name}"),
        )


def ledger_of(record: StudyRecord) -> Ledger:
    """The budgets of a study as they stand."""
    return ledger_over(record, record.trials, record.stops)


def ledger_over(
    study: Registration | StudyRecord, trials: Iterable[TrialRecord] = (), stopped: Iterable[ArmStop] = ()
) -> Ledger:
    """The budgets of a study after these trials, where these arms get no more."""
    turns = generations(study.arms)
    ledger = Ledger.over(
        cards=study.spaces, budget=study.budget, unit=study.budget_unit, generations=turns, trials=trials
    )
    for stop in stopped:
        ledger.stop(stop.arm)
    return ledger


def is_searched(record: StudyRecord) -> bool:
    """True when every trial has ended and no arm may start another."""
    return all(trial.state.is_final for trial in record.trials) and ledger_of(record).next_arm() is None


def is_done(record: StudyRecord, arm: str) -> bool:
    """True when nothing more will come: the search is over, and all replicates of what it selects are through."""
    trials = record.trials_of(arm)
    if any(not each.state.is_final for each in trials):
        return False
    chosen, best = record.current_selection(arm), best_trial(trials)
    if chosen is None or best is None:
        return best is None and is_searched(record)
    if not stands(chosen, best, sealed=sealed(record.openings, record.amendments)):
        return False
    # A search that has selected is over; only an amendment lets it go on.
    return is_replicated(record, arm) and (not record.amendments or is_searched(record))


def is_closed(record: StudyRecord, arm: str) -> bool:
    """True when the arm's test split was not opened, and is not going to be, because budgets were not equal."""
    trained = {each.index for each in record.current_replicates(arm) if each.state is TrialState.COMPLETE}
    noted = {index for opening in record.openings if opening.arm == arm for index in opening.replicates}
    are_over = all(each.state.is_final for each in record.replicate_records)
    return bool(trained) and not trained & noted and are_over and is_searched(record) and bool(unequal(record))


def is_replicated(record: StudyRecord, arm: str) -> bool:
    """True when every replicate of the arm's selection was ranked, or trained and not to be ranked, or failed."""
    replicates = record.current_replicates(arm)
    ends = {TrialState.COMPLETE, TrialState.FAIL} if is_closed(record, arm) else {TrialState.FAIL}
    through = [each for each in replicates if each.test_metrics or each.state in ends]
    return len(through) == len(replicates) >= record.replicates


def trial_records(store: Store, arms: Arms, registration: Registration) -> tuple[TrialRecord, ...]:
    """Every trial of the study with its curve, costs and attempts, arm by arm."""
    # A driver may be writing: trials are read first, so that none that has ended lacks its attempts or its curve.
    name = registration.name
    trials = [trial for arm in registration.arms for trial in arms.trials(arm.name)]
    attempts = by_trial(store.attempts(name, "search"))
    curves = curves_by_trial(store.measurements(name, "search"))
    keys = ((trial, (trial.arm, trial.number)) for trial in trials)
    found = [_whole(trial, curves.get(key, ()), attempts[key]) for trial, key in keys]
    return charged_before(registration.arms, found)


def _stops(study: Registration, trials: tuple[TrialRecord, ...]) -> Iterator[ArmStop]:
    """The arms that get no more trials: too many broke by the same bug, or there is nothing to start from."""
    of_bugs = stops(trials, limit=study.identical_errors)
    yield from of_bugs
    yield from stranded(ledger_over(study, trials, of_bugs), study.arms, trials)


def _replicates(store: Store, name: str) -> Iterator[ReplicateRecord]:
    """Every replicate with what its attempts say."""
    replicates, attempts = store.replicates(name), by_trial(store.attempts(name, "replicate"))
    for each in replicates:
        mine = attempts[each.arm, each.index]
        last = mine[-1].outcome if mine else None
        failed = last is not None and last.state is TrialState.FAIL
        beyond = unmeasured(mine, failed=failed, measured=each.cost)
        yield replace(
            each,
            attempts=len(mine),
            failure=_failure(each, mine),
            started=mine[0].started if mine else None,
            cost=each.cost + beyond,
        )


def _failure(replicate: ReplicateRecord, attempts: Sequence[AttemptRecord]) -> FailureClass | None:
    """Why a replicate failed: by its last attempt, or when it was ranked."""
    if replicate.state is not TrialState.FAIL:
        return None
    if replicate.reason.startswith(TEST_SPLIT):
        return FailureClass.DIVERGENCE
    last = attempts[-1].outcome if attempts else None
    return last.failure if last else None


def curves_by_trial(measurements: Iterable[Measurement]) -> Mapping[tuple[str, int], tuple[Measurement, ...]]:
    """Measurements by arm and trial, in the order of epochs."""
    curves: dict[tuple[str, int], list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        curves[measurement.arm, measurement.trial].append(measurement)
    return {key: tuple(sorted(curve, key=lambda each: each.epoch)) for key, curve in curves.items()}


def best_of(curve: Iterable[Measurement]) -> Measurement | None:
    """The highest MRR, the earliest on ties: the one whose weights are the best checkpoint."""
    return max(curve, key=lambda each: (each.mrr, -each.epoch), default=None)


def cost_of(curve: Iterable[Measurement]) -> Cost:
    """One trial, and what its measurements were charged."""
    return sum((each.cost for each in curve), start=Cost(trials=1))


def _whole(trial: TrialRecord, curve: tuple[Measurement, ...], attempts: Sequence[AttemptRecord]) -> TrialRecord:
    best, measured = best_of(curve), cost_of(curve)
    failed = trial.state is TrialState.FAIL
    return replace(
        trial,
        best_mrr=best.mrr if best else None,
        best_epoch=best.epoch if best else None,
        attempts=len(attempts),
        cost=measured + unmeasured(attempts, failed=failed, measured=measured),
        curve=curve,
        started=attempts[0].started if attempts else None,
        ended=attempts[-1].ended if attempts and trial.state.is_final else None,
    )
