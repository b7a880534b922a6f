"""What a reader must know before trusting a number: one sentence each, nothing where all is well."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from study.records import BUDGET, StudyRecord, TrialRecord
from study.report import hardware, text
from study.report.amendments import AmendmentRow, summary
from study.report.fairness import COARSE, Spending, budget_text, unequal
from study.report.lookup import ArmRecord
from study.report.pruning import RungRow
from study.report.seal import SealRow
from study.report.spaces import CardRow
from study.report.tables import has_optimum

_NAMED = 4  # a sentence names this many and counts more
_RANK_ALARM = 0.001  # optimistic minus pessimistic MRR: more says that many scores tie


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One caution, with the section of the page that shows more."""

    sentence: str
    section: str  # anchor


def notices(
    record: StudyRecord,
    arms: tuple[ArmRecord, ...],
    *,
    cards: tuple[CardRow, ...],
    seals: tuple[SealRow, ...],
    rungs: tuple[RungRow, ...],
    changed: tuple[AmendmentRow, ...],
    spent: tuple[Spending, ...],
) -> tuple[Notice, ...]:
    """All cautions, gravest first."""
    found = (
        *_imported(record),
        *_broken_seals(seals),
        *_amendments(changed),
        *_cut_before(record),
        *_continuations(record),
        *_stops(arms),
        *_ties(arms),
        *_filtered(arms),
        *_closed(record, arms),
        *_replicates(record, arms),
        *_checkpoints(record),
        *_intervals(record, spent),
        *_pruning(rungs),
        *_bounds(cards),
    )
    return (*found, *(Notice(sentence=warning, section="dataset") for warning in passport_warnings(record)))


def passport_warnings(record: StudyRecord) -> tuple[str, ...]:
    """The warnings of the data set's passport."""
    found = record.passport.get("warnings", ())
    return tuple(str(item) for item in found) if isinstance(found, list | tuple) else (str(found),)


def _imported(record: StudyRecord) -> Iterator[Notice]:
    if record.imported_from:
        what = f"Read from {record.imported_from}: what such a table cannot support is withheld"
        budget = f"no budget was declared, so the largest spending of an arm, {budget_text(record)}, stands for it"
        yield Notice(sentence=f"{what}; {budget}.", section="withheld")


def _broken_seals(seals: Iterable[SealRow]) -> Iterator[Notice]:
    for row in seals:
        for problem in filter(None, (*row.problems, row.reopened)):
            yield Notice(sentence=f"{row.arm}: {problem}.", section="selections")


def _amendments(changed: tuple[AmendmentRow, ...]) -> Iterator[Notice]:
    if changed:
        yield Notice(sentence=summary(changed), section="amendments")


def _cut_before(record: StudyRecord) -> Iterator[Notice]:
    """A larger budget came too late for them: launched with it, they would have gone on."""
    raised = [each.time for each in record.amendments if any(line.startswith(BUDGET) for line in each.changes)]
    times = [(trial, _cut_when(trial, record)) for trial in record.trials if trial.is_truncated]
    cut = [trial for trial, time in times if time is not None and time < max(raised, default=0.0)]
    if cut:
        arms = Counter(trial.arm for trial in cut)
        where = text.listing([f"{arm} {count}" for arm, count in arms.items()])
        yield Notice(
            sentence=f"Trials were cut short by a budget that was raised later: {where}.", section="amendments"
        )


def _cut_when(trial: TrialRecord, record: StudyRecord) -> float | None:
    """When it was decided: epochs are given at a trial's start, seconds run out at its end."""
    return trial.started if record.budget_unit == "epochs" else trial.ended


def _continuations(record: StudyRecord) -> Iterator[Notice]:
    changes = hardware.continuations(record)
    if changes:
        what = "The study went on with other programs or on another machine, so trainings are not all of one make"
        yield Notice(sentence=f"{what}: {'; '.join(changes)}.", section="environment")


def _stops(arms: Iterable[ArmRecord]) -> Iterator[Notice]:
    for arm in arms:
        if arm.stop is not None:
            errors = text.plural(arm.stop.errors, "identical error")
            why = f"got no more trials after {errors}" if arm.stop.errors else f"got no trials: {arm.stop.reason}"
            yield Notice(sentence=f"{arm.name} {why}.", section="outcomes")


def _ties(arms: Iterable[ArmRecord]) -> Iterator[Notice]:
    """Scores that tie make the rank a matter of convention (rule F10)."""
    names = [arm.name for arm in arms if any(_rank_gap(metrics) > _RANK_ALARM for metrics in _metrics(arm))]
    if names:
        what = f"Optimistic and pessimistic MRR differ by more than {_RANK_ALARM} (many equal scores)"
        yield Notice(sentence=f"{what}: {text.listing(names)}.", section="results")


def _metrics(arm: ArmRecord) -> Iterator[dict[str, float]]:
    yield from (dict(replicate.test_metrics) for replicate in arm.replicates)
    if arm.best is not None:
        yield from (dict(m.metrics) for m in arm.best.curve if m.epoch == arm.best.best_epoch)


def _rank_gap(metrics: dict[str, float]) -> float:
    return metrics.get("mrr_optimistic", 0.0) - metrics.get("mrr_pessimistic", metrics.get("mrr_optimistic", 0.0))


def _filtered(arms: Iterable[ArmRecord]) -> Iterator[Notice]:
    """With known answers removed from the negatives no loss here has a finite optimum."""
    names = [arm.name for arm in arms if _filters_negatives(arm) and has_optimum(arm.arm.objective)]
    if names:
        what = "Known answers were filtered from the negatives, so the stated optimum does not hold"
        yield Notice(sentence=f"{what}: {text.listing(names)}.", section="results")


def _filters_negatives(arm: ArmRecord) -> bool:
    if arm.selection is None or arm.arm.training_type != "negative_sampling":
        return False
    negatives = arm.selection.config.get("negatives")
    return isinstance(negatives, dict) and negatives.get("filtered") is True


def _closed(record: StudyRecord, arms: tuple[ArmRecord, ...]) -> Iterator[Notice]:
    """Test could still be opened, once, when an amendment has made the budgets equal."""
    over = [arm for arm in arms if arm.replicates and all(each.state.is_final for each in arm.replicates)]
    names = [arm.name for arm in over if not arm.tested and not arm.broken and not arm.openings]
    if names and unequal(record):
        what = "The test split was not opened, because the budgets of arms are not equal"
        yield Notice(sentence=f"{what}: {_some(names, arms, 'arms')}.", section="selections")


def _replicates(record: StudyRecord, arms: Iterable[ArmRecord]) -> Iterator[Notice]:
    short = [f"{arm.name} {len(arm.tested)}" for arm in arms if len(arm.tested) < record.replicates]
    if short:
        plan = f"Fewer replicates were tested than the {record.replicates} planned"
        yield Notice(sentence=f"{plan}: {text.listing(short)}.", section="results")
    if record.replicates < 2 and not record.imported_from:
        single = f"{text.plural(record.replicates, 'replicate')} per arm planned: an interval needs at least two."
        yield Notice(sentence=single, section="results")


def _checkpoints(record: StudyRecord) -> Iterator[Notice]:
    """A file is one training on some machine, however many seeds go on from it."""
    names = [arm.name for arm in record.arms if arm.checkpoint is not None]
    if names:
        what = "All seeds start from one checkpoint, so how far they differ leaves pretraining out"
        seconds = "; what it took in device-seconds was measured wherever it was trained"
        timed = seconds if record.budget_unit == "device_seconds" else ""
        yield Notice(sentence=f"{what}{timed}: {text.listing(names)}.", section="results")


def _intervals(record: StudyRecord, spendings: tuple[Spending, ...]) -> Iterator[Notice]:
    """Where an arm ends is known to within one interval, so intervals must be short."""
    coarse = [row for row in spendings if row.interval > COARSE * record.budget.device_seconds > 0]
    if coarse:
        share = text.percent(max(row.interval for row in coarse) / record.budget.device_seconds)
        what = (
            f"A validation interval takes up to {share} of the budget, and arms that end more than"
            f" {text.percent(COARSE)} away from it are not compared"
        )
        yield Notice(sentence=f"{what}: {_some([row.arm for row in coarse], spendings, 'arms')}.", section="budget")


def _pruning(rungs: tuple[RungRow, ...]) -> Iterator[Notice]:
    """Trials were pruned by their place at a rung, whether or not that foretells the place at the end."""
    unlicensed = [f"{row.arm} after {text.plural(row.epochs, 'epoch')}" for row in rungs if not row.licenses]
    if unlicensed:
        what = "The rank correlation with the final results does not license pruning"
        yield Notice(sentence=f"{what}: {_some(unlicensed, rungs, 'rungs')}.", section="pruning")


def _some(names: list[str], of: Sequence[object], noun: str) -> str:
    return text.listing(names) if len(names) <= _NAMED else f"{len(names)} of {len(of)} {noun}"


def _bounds(cards: Iterable[CardRow]) -> Iterator[Notice]:
    warned = [len(card.warnings) for card in cards if card.warnings]
    if warned:
        what = f"{text.plural(sum(warned), 'best value')} within 5 % of a bound, in {text.plural(len(warned), 'arm')}"
        yield Notice(sentence=f"{what}: a wider range may give another result.", section="spaces")
