"""What lies in a study's folder here when its checkpoints are kept afar: ranks for the report, models for MLflow.

A study that keeps its checkpoints in its folder has all of it there. What cannot be fetched is said, and the report
and MLflow do without.
"""

from collections.abc import Callable
from pathlib import Path

from study.errors import WorldError
from study.object_store import ObjectStore, remote_of
from study.records import StudyRecord
from study.tracking.finalists import finalist

Say = Callable[[str], None]


def fetch_ranks(record: StudyRecord, folder: Path, say: Say) -> None:
    """The ranks of test triples; the driver that ranked them has them already."""

    def fetch(remote: ObjectStore) -> None:
        files = [each.ranks_file for each in record.replicate_records if each.ranks_file is not None]
        for file in files:
            if not (folder / file).exists():
                remote.fetch(Path(file), folder / file)

    _or_say(record, fetch, say)


def fetch_models(record: StudyRecord, folder: Path, say: Say) -> None:
    """The checkpoints that stand for the finished arms."""

    def fetch(remote: ObjectStore) -> None:
        found = [finalist(record, arm) for arm in record.arms]
        for checkpoint in (each.checkpoint for each in found if each is not None):
            if not (folder / checkpoint).exists():
                remote.fetch_best(checkpoint.parent, folder / checkpoint)

    _or_say(record, fetch, say)


def _or_say(record: StudyRecord, fetch: Callable[[ObjectStore], None], say: Say) -> None:
    remote = remote_of(record.environment)
    if remote is not None:
        try:
            fetch(remote)
        except WorldError as error:
            say(str(error))
