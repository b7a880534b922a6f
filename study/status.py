"""Where a study stands, in words: trials and charges of each arm, parity, replicates, and who drives it."""

from collections import Counter
from collections.abc import Iterator, Sequence

from study.budget import UNITS, Ledger, amount
from study.history import is_searched, ledger_of
from study.lease import Owner
from study.pretraining import start_text
from study.records import Arm, ReplicateRecord, StudyRecord, TrialRecord, TrialState
from study.report import hardware
from study.report.fairness import repeated


def status_lines(record: StudyRecord, owner: Owner | None) -> Iterator[str]:
    """The status, line by line."""
    yield f"study {record.name}: data set {record.dataset}, {_driver(record, owner)}"
    yield from _amendments(record)
    ledger = ledger_of(record)
    for arm in record.arms:
        trials = [trial for trial in record.trials if trial.arm == arm.name]
        replicates = record.current_replicates(arm.name)
        yield ""
        yield f"{arm.name}"
        yield f"  trials      {_states(trials)}"
        yield from _pretraining(arm, trials)
        yield f"  budget      {_budget(ledger, arm.name, trials)}"
        yield from (f"  stopped     {stop.said}" for stop in record.stops if stop.arm == arm.name)
        spent = ledger.spent(arm.name)
        yield f"  charged     {spent.trials} trials, {spent.epochs} epochs, {spent.device_seconds:.1f} device-seconds"
        yield f"  best mrr    {_best(trials)}"
        yield f"  replicates  {_replicates(replicates)} of {record.replicates}"
    devices = hardware.devices(record.places)
    if devices:
        yield ""
        yield f"trained: {devices}"
    yield ""
    if twice := repeated(record):
        yield f"repeated after crashes and lost workers, charged to no arm: {twice}"
    parity = ledger.parity()
    yield "parity (largest over smallest spending): " + ", ".join(f"{unit} {parity[unit]:.3g}" for unit in UNITS)


def _budget(ledger: Ledger, arm: str, trials: list[TrialRecord]) -> str:
    """Spent, reserved and in all, in the declared unit; a trial is spent when it has ended."""
    committed, spent = ledger.committed(arm), amount(ledger.spent(arm), ledger.unit)
    if ledger.unit == "trials":
        spent = sum(trial.charged.trials for trial in trials if trial.state.is_final)
    digits = 1 if ledger.unit == "device_seconds" else 0
    said = f"{spent:.{digits}f} spent, {committed - spent:.{digits}f} reserved of {ledger.limit:.{digits}f}"
    return f"{said} {ledger.unit.replace('_', '-')}"


def _amendments(record: StudyRecord) -> Iterator[str]:
    for amendment in record.amendments:
        reopens = "; test may be opened again" if amendment.reopens else ""
        yield f"amendment {amendment.number}: {'; '.join(amendment.changes)}{reopens}"


def _pretraining(arm: Arm, trials: list[TrialRecord]) -> Iterator[str]:
    if arm.starts_elsewhere:
        charged = next((trial.pretraining for trial in trials if trial.pretraining.trials), None)
        said = f", charged {charged.trials} trials, {charged.epochs} epochs" if charged else ", not charged yet"
        yield f"  starts from {start_text(arm, trials)}{said}"


def _driver(record: StudyRecord, owner: Owner | None) -> str:
    if owner is not None and owner.is_alive:
        return f"driven by {owner.name}"
    return "no driver is running" if _is_finished(record) else f"no driver is running: `study resume {record.name}`"


def _is_finished(record: StudyRecord) -> bool:
    chosen = {each.arm: record.current_replicates(each.arm) for each in record.selections}
    through = [all(r.test_metrics or r.state is TrialState.FAIL for r in each) for each in chosen.values()]
    tested = all(through) and all(len(each) >= record.replicates for each in chosen.values())
    replicated = all(each.state.is_final for each in record.replicate_records)
    return bool(record.trials) and is_searched(record) and replicated and tested


def _states(trials: list[TrialRecord]) -> str:
    counts = Counter(trial.state for trial in trials)
    return ", ".join(f"{counts[state]} {state}" for state in TrialState if counts[state]) or "none"


def _best(trials: list[TrialRecord]) -> str:
    best = max((trial for trial in trials if trial.is_selectable), key=lambda each: each.best_mrr or 0, default=None)
    return f"{best.best_mrr:.4f} (trial {best.number}, epoch {best.best_epoch})" if best else "-"


def _replicates(replicates: Sequence[ReplicateRecord]) -> str:
    counts = Counter(each.state for each in replicates)
    states = ", ".join(f"{counts[state]} {state}" for state in TrialState if counts[state]) or "none"
    tested = sum(bool(each.test_metrics) for each in replicates)
    return f"{states}, {tested} tested" if tested else states
