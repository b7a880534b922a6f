"""The one opening of the test split.

It is written down, with the hash of the selection, before a test triple is read, and happens only after
the last replicate of all arms has ended. Going on after a crash is the same opening: what is ranked
already is not ranked again.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from kge.files import replacing
from kge.fitting import BEST, Evaluation
from study.records import Opening, ReplicateRecord, Selection, TrialState
from study.replicate import replicate_folder
from study.store import Store


@dataclass(frozen=True, kw_only=True)
class TestJob:
    """A replicate to be ranked on the test split."""

    __test__ = False  # no test class, whatever pytest thinks of its name

    replicate: ReplicateRecord
    dataset: str
    checkpoint: Path


def open_test(store: Store, *, study: str, folder: Path, selections: Iterable[Selection]) -> list[TestJob]:
    """Note the opening of every arm that has a trained replicate, and return what is still to be ranked."""
    by_arm = {selection.arm: selection for selection in selections}
    trained = [record for record in store.replicates(study) if record.state is TrialState.COMPLETE]
    for arm in dict.fromkeys(record.arm for record in trained):
        opening = Opening(arm=arm, selection_sha256=by_arm[arm].sha256, time=time.time())
        store.record_opening(study, opening)
    return [
        TestJob(
            replicate=record,
            dataset=str(by_arm[record.arm].config["dataset"]),
            checkpoint=replicate_folder(folder, record.arm, record.index) / BEST,
        )
        for record in trained
        if not record.test_metrics
    ]


def record_test(store: Store, *, study: str, folder: Path, job: TestJob, evaluation: Evaluation) -> None:
    """Keep a replicate's ranks, then its metrics: metrics in the database say that the ranks are on disk."""
    file = f"ranks/{job.replicate.arm}-{job.replicate.index}.parquet"
    write_ranks(folder / file, evaluation)
    metrics = tuple((name, float(value)) for name, value in evaluation.metrics.items())
    store.record_replicate(study, replace(job.replicate, test_metrics=metrics, ranks_file=file))


def write_ranks(path: Path, evaluation: Evaluation) -> None:
    """One row per query: head, relation, tail, side, and its three ranks."""
    names = ("head", "relation", "tail", "optimistic", "pessimistic", "realistic")
    sides = [
        pa.table(
            {name: getattr(ranks, name) for name in names}
            | {"side": pa.array([str(ranks.side)] * len(ranks.head)).dictionary_encode()}
        )
        for ranks in evaluation.ranks
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        pyarrow.parquet.write_table(pa.concat_tables(sides).unify_dictionaries(), file)
