"""The opening of the test split: once for each arm.

It is written down, with the hash of the selection and the replicates that it is for, before a test triple
is read, and happens only after the last replicate of all arms has ended. Going on after a crash is the same
opening: what is ranked already, or cannot be because a score is not finite, is not ranked again. An arm that was
opened is sealed: to rank others of its replicates is another opening, and needs an amendment that says so
(`study resume --amend --reopen`).

Where the budgets of the arms were not equal no arm is opened: nothing could be compared, and what would make them
equal, a larger budget, would need a second opening. `study resume --unequal` opens it all the same.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kge.fitting import Evaluation
from kge.ranks_file import write_ranks
from study.errors import UserError
from study.layout import best_checkpoint, replicate_folder
from study.object_store import ObjectStore
from study.records import Opening, Outcome, ReplicateRecord, Selection, StudyRecord, TrialState
from study.report import fairness
from study.sealing import sealed
from study.selection import current
from study.store import Store
from study.work import ArmProgress

STAGE = "test"


@dataclass(frozen=True, kw_only=True)
class TestJob:
    """A replicate to be ranked on the test split."""

    __test__ = False  # no test class, whatever pytest thinks of its name

    replicate: ReplicateRecord
    dataset: str
    checkpoint: Path


def untested(store: Store, *, study: str, folder: Path, selections: Iterable[Selection]) -> list[TestJob]:
    """The trained replicates of these selections that were not ranked yet."""
    replicates = store.replicates(study)
    return [
        TestJob(
            replicate=record,
            dataset=str(selection.config["dataset"]),
            checkpoint=folder / best_checkpoint(replicate_folder(record.arm, record.index)),
        )
        for selection in selections
        for record in _trained(replicates, selection)
        if not record.test_metrics
    ]


@dataclass(frozen=True, kw_only=True)
class Closed:
    """The arms that are not opened, and why."""

    arms: tuple[str, ...]
    why: str


def open_test(
    store: Store, *, record: StudyRecord, folder: Path, unequal: bool = False
) -> tuple[list[TestJob], Closed | None]:
    """Note the opening of every arm that has a trained replicate, and return what is still to be ranked.

    Where budgets differ no arm is opened, unless that is known (`unequal`); what was opened before is ranked in any
    case. UserError where an arm is sealed.
    """
    selections = current(record.selections)
    due = list(_openings(store, record.name, selections))  # all of them are allowed before one is written
    why = fairness.unequal(record) if due and not unequal else ""
    for opening in () if why else due:
        store.record_opening(record.name, opening)
    noted = {(opening.arm, index) for opening in store.openings(record.name) for index in opening.replicates}
    jobs = untested(store, study=record.name, folder=folder, selections=selections)
    ranked = [job for job in jobs if (job.replicate.arm, job.replicate.index) in noted]
    return ranked, Closed(arms=tuple(opening.arm for opening in due), why=why) if why else None


def _openings(store: Store, study: str, selections: Iterable[Selection]) -> Iterator[Opening]:
    """The openings that are due; UserError where an arm is sealed."""
    replicates, openings, amendments = store.replicates(study), store.openings(study), store.amendments(study)
    closed = sealed(openings, amendments)
    for selection in selections:
        before = [opening for opening in openings if opening.arm == selection.arm]
        covered = {index for opening in before for index in opening.replicates}
        fresh = tuple(each.index for each in _trained(replicates, selection) if each.index not in covered)
        if fresh and selection.arm in closed:
            raise UserError(
                f"arm {selection.arm}: must keep its test split sealed, it was opened for other replicates;"
                f" `study resume {study} --amend --reopen` opens it again"
            )
        if fresh:
            yield Opening(
                arm=selection.arm,
                number=len(before),
                selection_sha256=selection.sha256,
                replicates=fresh,
                time=time.time(),
                amendment=len(amendments),
            )


def _trained(replicates: Iterable[ReplicateRecord], selection: Selection) -> list[ReplicateRecord]:
    """The replicates of a selection that can be ranked."""
    return [
        record
        for record in replicates
        if (record.arm, record.selection_sha256) == (selection.arm, selection.sha256)
        and record.state is TrialState.COMPLETE
    ]


def record_test(
    store: Store, *, study: str, folder: Path, remote: ObjectStore | None, job: TestJob, found: Evaluation | Outcome
) -> ReplicateRecord:
    """Keep a replicate's ranks, then its metrics, which say that the ranks are kept; or that it failed."""
    if isinstance(found, Outcome):
        record = replace(job.replicate, state=found.state, reason=found.reason)
    else:
        file = f"ranks/{job.replicate.arm}-{job.replicate.index}.parquet"
        write_ranks(folder / file, found.ranks)
        if remote is not None:
            remote.send(folder / file, Path(file))
        metrics = tuple((name, float(value)) for name, value in found.metrics.items())
        record = replace(job.replicate, test_metrics=metrics, ranks_file=file)
    store.record_replicate(study, record)
    return record


def progress(arm: str, jobs: Iterable[TestJob], done: Sequence[ReplicateRecord]) -> ArmProgress:
    """How far the ranking of an arm is, and what became of the last that is done. What it reached is the report's."""
    mine, last = [each for each in done if each.arm == arm], done[-1] if done else None
    became = f"{last.state}, {last.reason}" if last and last.state is TrialState.FAIL else "ranked"
    return ArmProgress(
        stage=STAGE,
        arm=arm,
        done=len(mine),
        running=0,
        total=sum(job.replicate.arm == arm for job in jobs),
        best_mrr=None,
        failed=sum(each.state is TrialState.FAIL for each in mine),
        pruned=0,
        said=f"replicate {last.index}: {became}" if last else "",
    )
