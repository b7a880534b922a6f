"""Arms whose trainings start from the tables of another training: which one, when, and what it costs them.

    losses: [sce_bc, {name: sce_ls, label: sce_ls-pre, pretrain: sce_bc}]

Such an arm starts from the best trial of its source, the arm of the same model with that loss, once the search
of the source has ended. What this trial took, itself included, is charged to the arm before its own first
trial: an arm that gets two trainings for its best pays for two. What it took to choose that trial is not
charged, as it is not to any reader of a published checkpoint; the report says from which trial an arm starts.
A replicate starts from the replicate of its source in the same place, so that its spread is that of both.

Kamigaito & Hayashi (ACL 2021) start sce_ls and sans in this way from sce_bc and ns_freq.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from study.budget import Ledger, Stake
from study.records import Arm, ArmStop, Cost, TrialRecord


def generations(arms: Iterable[Arm]) -> dict[str, int]:
    """How many arms each arm starts from, one after the other; 0: none."""
    sources = {arm.name: arm.source for arm in arms}
    return {arm: _depth(arm, sources) for arm in sources}


def best_trial(trials: Iterable[TrialRecord]) -> TrialRecord | None:
    """The selectable trial with the highest validation MRR, the earliest on ties."""
    return max((trial for trial in trials if trial.is_selectable), key=_rank, default=None)


def begin(ledger: Ledger, arm: Arm, cost: Cost | None) -> ArmStop | None:
    """Charge an arm for what it starts from (None: there is nothing); why it gets no trials, when this is so."""
    if cost is None:
        reason = f"it starts from {arm.source}, which completed no trial"
    else:
        ledger.put(Stake.before(arm.name, cost))
        if ledger.is_open(arm.name):
            return None
        reason = "what it starts from took its whole budget"
    ledger.stop(arm.name)
    return ArmStop(arm=arm.name, errors=0, reason=reason)


def stranded(ledger: Ledger, arms: Iterable[Arm], trials: Sequence[TrialRecord]) -> Iterator[ArmStop]:
    """The arms that are to start next and cannot begin; the ledger starts no trial of them from now on."""
    waiting = {arm.name: arm for arm in arms if arm.starts_elsewhere}
    for trial in trials:
        waiting.pop(trial.arm, None)
    while (name := ledger.next_arm()) in waiting:
        arm = waiting.pop(name)
        best = best_trial(trial for trial in trials if trial.arm == arm.source)
        cost: Cost | None = arm.pretraining
        if arm.source is not None:
            cost = cost_of_start(best, trials) if best is not None else None
        if stop := begin(ledger, arm, cost):
            yield stop


def trials_paid(arms: Iterable[Arm]) -> int:
    """How many trials arms are charged for what they start from: each for all trainings that came before its own."""
    by_name = {arm.name: arm for arm in arms}

    def paid(arm: Arm) -> int:
        return arm.pretraining.trials if arm.source is None else 1 + paid(by_name[arm.source])

    return sum(map(paid, by_name.values()))


def most_paid(arm: Arm, arms: Mapping[str, Arm], epochs: Mapping[str, int]) -> int:
    """The most epochs that an arm is charged for what it starts from, where the trainings of each have so many."""
    if arm.source is None:
        return arm.pretraining.epochs
    return epochs[arm.source] + most_paid(arms[arm.source], arms, epochs)


def start_text(arm: Arm, trials: Iterable[TrialRecord]) -> str:
    """What an arm starts from, in words."""
    if arm.source is None:
        known = f" (sha256 {arm.checkpoint_sha256[:12]})" if arm.checkpoint_sha256 else ""
        return f"{'/'.join(Path(arm.checkpoint or '').parts[-2:])}{known}"
    number = next((trial.source for trial in trials if trial.arm == arm.name), None)
    return f"the best trial of {arm.source}" if number is None else f"trial {number} of {arm.source}"


def cost_of_start(start: TrialRecord, trials: Iterable[TrialRecord]) -> Cost:
    """What a trial took, and what its own arm was charged before its trials."""
    before = (trial.pretraining for trial in trials if trial.arm == start.arm)
    return sum(before, start=start.cost)


def charged_before(arms: Iterable[Arm], trials: Sequence[TrialRecord]) -> tuple[TrialRecord, ...]:
    """The trials, the first of every arm with what the arm was charged before it."""
    order = generations(arms := tuple(arms))
    found = list(trials)
    for arm in sorted((each for each in arms if each.starts_elsewhere), key=lambda each: order[each.name]):
        place = next((place for place, trial in enumerate(found) if trial.arm == arm.name), None)
        if place is None:
            continue
        first = found[place]
        starts = (trial for trial in found if (trial.arm, trial.number) == (arm.source, first.source))
        cost = arm.pretraining if arm.source is None else cost_of_start(next(starts), found)
        found[place] = replace(first, pretraining=cost)
    return tuple(found)


def _depth(arm: str, sources: Mapping[str, str | None]) -> int:
    source = sources[arm]
    return 0 if source is None else 1 + _depth(source, sources)


def _rank(trial: TrialRecord) -> tuple[float, int]:
    assert trial.best_mrr is not None, trial
    return trial.best_mrr, -trial.number
