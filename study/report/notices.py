"""What a reader must know before trusting a number: one sentence each, nothing where all is well."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from study.records import StudyRecord
from study.report import text
from study.report.lookup import ArmRecord
from study.report.seal import SealRow
from study.report.spaces import CardRow

_RANK_ALARM = 0.001  # optimistic minus pessimistic MRR: more says that many scores tie


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One caution, with the section of the page that shows more."""

    sentence: str
    section: str  # anchor


def notices(
    record: StudyRecord, arms: tuple[ArmRecord, ...], cards: tuple[CardRow, ...], seals: tuple[SealRow, ...]
) -> tuple[Notice, ...]:
    """All cautions, gravest first."""
    found = (*_broken_seals(seals), *_ties(arms), *_filtered(arms), *_replicates(record, arms), *_bounds(cards))
    return (*found, *(Notice(sentence=warning, section="dataset") for warning in passport_warnings(record)))


def passport_warnings(record: StudyRecord) -> tuple[str, ...]:
    """The warnings of the data set's passport."""
    found = record.passport.get("warnings", ())
    return tuple(str(item) for item in found) if isinstance(found, list | tuple) else (str(found),)


def _broken_seals(seals: Iterable[SealRow]) -> Iterator[Notice]:
    for row in seals:
        for problem in row.problems:
            yield Notice(sentence=f"{row.arm}: {problem}.", section="selections")


def _ties(arms: Iterable[ArmRecord]) -> Iterator[Notice]:
    """Scores that tie make the rank a matter of convention (rule F10)."""
    names = [arm.arm.name for arm in arms if any(_rank_gap(metrics) > _RANK_ALARM for metrics in _metrics(arm))]
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
    names = [arm.arm.name for arm in arms if _filters_negatives(arm)]
    if names:
        what = "Known answers were filtered from the negatives, so the stated optimum does not hold"
        yield Notice(sentence=f"{what}: {text.listing(names)}.", section="results")


def _filters_negatives(arm: ArmRecord) -> bool:
    if arm.selection is None or arm.arm.training_type != "negative_sampling":
        return False
    negatives = arm.selection.config.get("negatives")
    return isinstance(negatives, dict) and negatives.get("filtered") is True


def _replicates(record: StudyRecord, arms: Iterable[ArmRecord]) -> Iterator[Notice]:
    short = [f"{arm.arm.name} {len(arm.tested)}" for arm in arms if len(arm.tested) < record.replicates]
    if short:
        plan = f"Fewer replicates were tested than the {record.replicates} planned"
        yield Notice(sentence=f"{plan}: {text.listing(short)}.", section="results")
    if record.replicates < 2:
        single = f"{text.plural(record.replicates, 'replicate')} per arm planned: an interval needs at least two."
        yield Notice(sentence=single, section="results")


def _bounds(cards: Iterable[CardRow]) -> Iterator[Notice]:
    warned = [len(card.warnings) for card in cards if card.warnings]
    if warned:
        what = f"{text.plural(sum(warned), 'best value')} within 5 % of a bound, in {text.plural(len(warned), 'arm')}"
        yield Notice(sentence=f"{what}: a wider range may give another result.", section="spaces")
