"""Where a study stands, in words: trials and charges of each arm, parity, replicates, and who drives it."""

from collections import Counter
from collections.abc import Iterator, Sequence

from study.budget import UNIT_NAMES, UNITS, Ledger, amount
from study.history import is_closed, is_done, is_searched, ledger_of
from study.lease import Owner
from study.pretraining import best_trial, start_text
from study.records import Arm, ReplicateRecord, StudyRecord, TrialRecord, TrialState
from study.report import hardware
from study.report.fairness import repeated, unequal
from study.stats import parity_factor


def status_lines(record: StudyRecord, owner: Owner | None) -> Iterator[str]:
    """The status, line by line."""
    yield f"study {record.name}: data set {record.dataset}, {_driver(record, owner)}"
    yield from _amendments(record)
    ledger = ledger_of(record)
    for arm in record.arms:
        trials = record.trials_of(arm.name)
        replicates = record.current_replicates(arm.name)
        yield ""
        yield f"{arm.name}"
        yield f"  trials      {_states(trials)}"
        yield from _pretraining(arm, trials)
        yield f"  budget      {_budget(ledger, arm.name, trials)}"
        yield from (f"  stopped     {stop.said}" for stop in record.stops if stop.arm == arm.name)
        charged = ledger.spent(arm.name)
        said = f"{charged.trials} trials, {charged.epochs} epochs, {charged.device_seconds:.1f} device-seconds"
        yield f"  charged     {said}"
        yield f"  best mrr    {_best(trials)}"
        yield f"  replicates  {_replicates(replicates)} of {record.replicates}"
    if closed := [arm.name for arm in record.arms if is_closed(record, arm.name)]:
        yield ""
        yield f"test split: closed for {', '.join(closed)}, unless --unequal is said. {unequal(record)}"
    devices = hardware.devices(record.places)
    if devices:
        yield ""
        yield f"trained: {devices}"
    yield ""
    if twice := repeated(record):
        yield f"repeated after crashes and lost workers, charged to no arm: {twice}"
    spent = [ledger.spent(arm.name) for arm in record.arms]
    factors = (f"{unit} {parity_factor([amount(each, unit) for each in spent]):.3g}" for unit in UNITS)
    yield f"parity (largest over smallest spending): {', '.join(factors)}"


def _budget(ledger: Ledger, arm: str, trials: Sequence[TrialRecord]) -> str:
    """Spent, reserved and in all, in the declared unit; a trial is spent when it has ended."""
    committed, spent = ledger.committed(arm), amount(ledger.spent(arm), ledger.unit)
    if ledger.unit == "trials":
        spent = sum(trial.charged.trials for trial in trials if trial.state.is_final)
    digits = 1 if ledger.unit == "device_seconds" else 0
    said = f"{spent:.{digits}f} spent, {committed - spent:.{digits}f} reserved of {ledger.limit:.{digits}f}"
    return f"{said} {UNIT_NAMES[ledger.unit]}"


def _amendments(record: StudyRecord) -> Iterator[str]:
    for amendment in record.amendments:
        reopens = "; test may be opened again" if amendment.reopens else ""
        yield f"amendment {amendment.number}: {'; '.join(amendment.changes)}{reopens}"


def _pretraining(arm: Arm, trials: Sequence[TrialRecord]) -> Iterator[str]:
    if arm.starts_elsewhere:
        charged = next((trial.pretraining for trial in trials if trial.pretraining.trials), None)
        said = f", charged {charged.trials} trials, {charged.epochs} epochs" if charged else ", not charged yet"
        yield f"  starts from {start_text(arm, trials)}{said}"


def _driver(record: StudyRecord, owner: Owner | None) -> str:
    if owner is not None and owner.is_alive:
        return f"driven by {owner.name}"
    is_over = bool(record.trials) and is_searched(record) and all(is_done(record, arm.name) for arm in record.arms)
    return "no driver is running" if is_over else f"no driver is running: `study resume {record.name}`"


def _states(trials: Sequence[TrialRecord]) -> str:
    counts = Counter(trial.state for trial in trials)
    return ", ".join(f"{counts[state]} {state}" for state in TrialState if counts[state]) or "none"


def _best(trials: Sequence[TrialRecord]) -> str:
    best = best_trial(trials)
    return f"{best.best_mrr:.4f} (trial {best.number}, epoch {best.best_epoch})" if best else "-"


def _replicates(replicates: Sequence[ReplicateRecord]) -> str:
    counts = Counter(each.state for each in replicates)
    states = ", ".join(f"{counts[state]} {state}" for state in TrialState if counts[state]) or "none"
    tested = sum(bool(each.test_metrics) for each in replicates)
    return f"{states}, {tested} tested" if tested else states
