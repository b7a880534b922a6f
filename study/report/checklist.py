"""What a reader needs to trust a study and to do it again: each item answered from the record, with its value.

The questions follow Pineau et al.: Improving Reproducibility in Machine Learning Research. JMLR 2021.
https://jmlr.org/papers/v22/20-303.html
"""

from dataclasses import dataclass

from study.records import FailureClass, StudyRecord, TrialState
from study.report import hardware, text
from study.report.fairness import Verdict, budget_text
from study.report.seal import SealRow

YES, PARTLY, NO = "yes", "partly", "no"
_MISSING = "not recorded"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question, its answer and what the answer rests on."""

    question: str
    answer: str  # "yes", "partly" or "no"
    value: str


def checklist(record: StudyRecord, *, verdict: Verdict, seals: tuple[SealRow, ...]) -> tuple[Item, ...]:
    """All items, in the order in which a study is made."""
    return (
        _study_file(record),
        _amendments(record),
        _dataset(record),
        _spaces(record),
        _parity(record, verdict),
        _seeds(record),
        _random(record),
        _ends(record),
        _selections(record),
        _openings(record, seals),
        _replicates(record),
        _ranks(record),
        _cost(record),
        _hardware(record),
        _versions(record),
        _commit(record),
    )


def _study_file(record: StudyRecord) -> Item:
    if record.imported_from:
        return _item("Study file, hashed at launch", NO, f"none; the table has the sha256 {record.spec_sha256}")
    since = f"; as amended {record.spec_sha256}" if record.launched_sha256 != record.spec_sha256 else ""
    return _item("Study file, hashed at launch", YES, f"sha256 {record.launched_sha256}{since}")


def _amendments(record: StudyRecord) -> Item:
    changes = "; ".join(f"{each.number}: {', '.join(each.changes)}" for each in record.amendments)
    if record.imported_from:
        return _item("Nothing changed after the launch", NO, _MISSING)
    return _item("Nothing changed after the launch", NO if changes else YES, changes or "no amendments")


def _dataset(record: StudyRecord) -> Item:
    fingerprint = record.passport.get("fingerprint")
    value = f"{record.dataset_name}, fingerprint {fingerprint}" if fingerprint else _MISSING
    return _item("Data set identified by a checksum", YES if fingerprint else NO, value)


def _spaces(record: StudyRecord) -> Item:
    known = {card.arm for card in record.spaces}
    tuned = sum(len(card.tuned) for card in record.spaces)
    value = f"{text.plural(tuned, 'tuned dimension')} of {len(known)} of {text.plural(len(record.arms), 'arm')}"
    return _item("Search spaces stated, with bounds and priors", _share(len(known), len(record.arms)), value)


def _parity(record: StudyRecord, verdict: Verdict) -> Item:
    spent = "all spent it" if verdict.fair else "; ".join(verdict.offenders)
    declared = "not declared" if record.imported_from else "declared"
    answer = (PARTLY if record.imported_from else YES) if verdict.fair else NO
    return _item(
        "Equal budgets, declared beforehand", answer, f"{budget_text(record)} for each arm, {declared}; {spent}"
    )


def _seeds(record: StudyRecord) -> Item:
    if record.imported_from:
        return _item("Seeds", NO, _MISSING)
    trained = len(record.trials) + len(record.replicate_records)
    value = f"study seed {record.seed}; those of {text.plural(trained, 'training')} in trials.csv and replicates.csv"
    return _item("Seeds", YES, value)


def _random(record: StudyRecord) -> Item:
    drawn = sum(trial.random for trial in record.trials)
    value = f"{drawn:,} of {text.plural(len(record.trials), 'trial')}"
    return _item("Independent random trials, for expected-best curves", YES if drawn else NO, value)


def _ends(record: StudyRecord) -> Item:
    states = [trial.state for trial in record.trials]
    failed = [trial for trial in record.trials if trial.state is TrialState.FAIL]
    kinds = [(kind.value, sum(trial.failure is kind for trial in failed)) for kind in FailureClass]
    known = [f"{count:,} {kind}" for kind, count in kinds if count]
    counts = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    value = ", ".join(f"{states.count(state):,} {name}" for name, state in counts.items())
    running = states.count(TrialState.RUNNING)
    value += (f" ({', '.join(known)})" if known else "") + (f", {running:,} not ended" if running else "")
    return _item("All trials reported, failures included", PARTLY if record.imported_from else YES, value)


def _selections(record: StudyRecord) -> Item:
    frozen = sum(record.current_selection(arm.name) is not None for arm in record.arms)
    value = f"{frozen} of {text.plural(len(record.arms), 'arm')}, by validation MRR"
    return _item("Selections frozen and hashed before test", _share(frozen, len(record.arms)), value)


def _openings(record: StudyRecord, seals: tuple[SealRow, ...]) -> Item:
    opened = sum(bool(row.openings) for row in seals)
    problems = [f"{row.arm}: {problem}" for row in seals for problem in (*row.problems, row.reopened) if problem]
    value = f"{text.plural(len(record.openings), 'opening')} for {text.plural(opened, 'arm')}"
    answer = NO if problems else _share(opened, len(record.arms))
    return _item("Test split opened once for each arm", answer, "; ".join((value, *problems)))


def _replicates(record: StudyRecord) -> Item:
    counts = [sum(bool(each.test_metrics) for each in record.current_replicates(arm.name)) for arm in record.arms]
    low, high = min(counts, default=0), max(counts, default=0)
    value = f"{low} seeds an arm" if low == high else f"{low} to {high} seeds an arm"
    planned = "" if record.imported_from else f", {record.replicates} planned"
    answer = YES if low >= max(2, record.replicates) else PARTLY if high > 1 else NO
    return _item("Test results over several fresh seeds", answer, value + planned)


def _ranks(record: StudyRecord) -> Item:
    tested = [each for arm in record.arms for each in record.current_replicates(arm.name) if each.test_metrics]
    kept = sum(bool(each.ranks_file) for each in tested)
    return _item("Rank of every test query kept", _share(kept, len(tested)), f"of {kept} of {len(tested)} replicates")


def _cost(record: StudyRecord) -> Item:
    search = sum(trial.charged.device_seconds for trial in record.trials)
    replication = sum(each.cost.device_seconds for each in record.replicate_records)
    value = f"search {text.duration(search)}, replicates {text.duration(replication)} of device time"
    return _item("Cost of search and replicates", YES if search else NO, value if search else _MISSING)


def _hardware(record: StudyRecord) -> Item:
    machine = "; ".join(filter(None, (hardware.machine(record.environment), hardware.devices(record.places))))
    return _item("Hardware", YES if machine else NO, machine or _MISSING)


def _versions(record: StudyRecord) -> Item:
    versions = ", ".join(f"{name} {version}" for name, version in hardware.programs(record.environment))
    changes = hardware.continuations(record)
    value = "; ".join((versions or _MISSING, *(f"resumed with {change}" for change in changes)))
    return _item("Versions of programs", (PARTLY if changes else YES) if versions else NO, value)


def _commit(record: StudyRecord) -> Item:
    commit = hardware.commit(record.environment)
    answer = (PARTLY if "with changes" in commit else YES) if commit else NO
    return _item("Commit of the code", answer, commit or _MISSING)


def _share(count: int, of: int) -> str:
    return YES if count and count == of else PARTLY if count else NO


def _item(question: str, answer: str, value: str) -> Item:
    return Item(question=question, answer=answer, value=value)
