"""The report of a study with all that its record does not hold: ranks of test triples, importances, slices.

A report reads records and plain numbers. What is read from the study's folder, from its data set and by Optuna
is read here; what cannot be read is said, and the report withholds what would rest on it.
"""

import csv
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kge.catalog import is_here, load
from kge.data import Dataset, Side
from kge.documents import parse_config
from kge.errors import KgeError
from kge.footprint import num_parameters
from kge.slices import BINS, CATEGORIES, categories, frequency_bins
from study import report, stats
from study.errors import UserError
from study.importance import importances
from study.ranks import read_columns, reciprocal_ranks
from study.records import ReplicateRecord, SliceRecord, StudyRecord

Say = Callable[[str], None]
Queries = Mapping[str, NDArray[Any]]  # a column of a file of ranks
Label = Callable[[Queries], NDArray[np.int64]]  # the place of each query's name among the names of its kind
_QUERY = ("head", "relation", "tail", "side", "realistic")


def write_report(record: StudyRecord, *, folder: Path, out: Path, say: Say, replaces: bool = True) -> tuple[Path, ...]:
    """Build the report of a record with what lies in the study's folder.

    Without `replaces`, UserError where `out` has a report with slices of an arm that cannot be told now.
    """
    missing = list[str]()
    ranks = ranks_of(record, folder, missing.append)
    found, sizes = slices_of(record, folder, ranks, missing.append), dict(_parameters(record))
    lost = _sliced(out) - {each.arm for each in found} if missing and not replaces else set()
    if lost:
        without = f"this one would be without those of {', '.join(sorted(lost))} ({'; '.join(missing)})"
        raise UserError(f"{out}: has a report with slices, and {without}; --out writes it to another folder")
    for each in missing:
        say(each)
    return report.build(record, out, ranks=ranks, importances=importances(record), slices=found, num_parameters=sizes)


def _sliced(out: Path) -> set[str]:
    """The arms of which the report in a folder has slices."""
    file = out / report.SLICES
    if not file.is_file():
        return set()
    with file.open(encoding="utf-8", errors="replace", newline="") as lines:
        return {arm for row in csv.DictReader(lines) if (arm := row.get("arm"))}


def _parameters(record: StudyRecord) -> Iterator[tuple[str, int]]:
    """How many numbers the selection of each arm learns, where its model is one of this version."""
    entities, relations = record.passport.get("entities"), record.passport.get("relations")
    for arm in record.arms:
        chosen = record.current_selection(arm.name)
        if chosen is not None and isinstance(entities, int) and isinstance(relations, int):
            with suppress(KgeError):
                yield arm.name, num_parameters(parse_config(chosen.config), entities=entities, relations=relations)


def ranks_of(record: StudyRecord, folder: Path, say: Say) -> Mapping[str, NDArray[np.float64]]:
    """Reciprocal ranks of the current replicates, by arm; an arm of which a file cannot be read is left out."""
    ranks, problems = reciprocal_ranks(folder, _ranked(record))
    for arm, problem in problems.items():
        say(f"no decisions on {arm}: {problem}")
    return ranks


def slices_of(record: StudyRecord, folder: Path, arms: Container[str], say: Say) -> tuple[SliceRecord, ...]:
    """Test MRR by relations, their categories and frequencies of entities, over the seeds of each of these arms."""
    replicates = [each for each in _ranked(record) if each.arm in arms]
    if not replicates:
        return ()
    dataset = _dataset(record)
    if dataset is None:
        say(f"no slices: data set {record.dataset} is not here, or not the one of this study")
        return ()
    by_arm, kinds = dict[str, list[Queries]](), _kinds(dataset)
    for replicate in replicates:
        by_arm.setdefault(replicate.arm, []).append(read_columns(folder / str(replicate.ranks_file), _QUERY))
    return tuple(
        each
        for arm, seeds in by_arm.items()
        for by, names, label in kinds
        for each in _slices(arm, by, names, seeds, label)
    )


def _kinds(dataset: Dataset) -> tuple[tuple[str, Sequence[str], Label], ...]:
    """What queries are told apart by, as in kge.slices: its name, the names of its slices, who is in which."""
    category, frequency = categories(dataset), frequency_bins(dataset)
    return (
        ("category", CATEGORIES, lambda queries: category[queries["relation"]]),
        ("relation", dataset.relations, lambda queries: queries["relation"]),
        ("answer_frequency", BINS, lambda queries: frequency[_entities(queries, head_of=Side.HEAD)]),
        ("anchor_frequency", BINS, lambda queries: frequency[_entities(queries, head_of=Side.TAIL)]),
    )


def _entities(queries: Queries, *, head_of: Side) -> NDArray[np.int64]:
    """The heads of the queries of one side, the tails of those of the other."""
    return np.where(queries["side"] == head_of, queries["head"], queries["tail"])


def _ranked(record: StudyRecord) -> Iterator[ReplicateRecord]:
    for arm in record.arms:
        yield from (each for each in record.current_replicates(arm.name) if each.test_metrics and each.ranks_file)


def _dataset(record: StudyRecord) -> Dataset | None:
    """The data set of a study without fetching it."""
    try:
        found = load(record.dataset) if is_here(record.dataset) else None
    except KgeError:
        return None
    return found if found is not None and found.fingerprint == record.passport.get("fingerprint") else None


def _slices(arm: str, by: str, names: Sequence[str], seeds: list[Queries], label: Label) -> Iterator[SliceRecord]:
    """One for each name and side that has a query."""
    for side in ("both", *(str(each) for each in Side)):
        means, counts = _means(seeds, label, side, size=len(names))
        for place in np.flatnonzero(counts).tolist():
            summary = stats.summarize([float(each) for each in means[:, place]])
            assert summary.mean is not None
            yield SliceRecord(
                arm=arm,
                by=by,
                name=names[place],
                side=side,
                queries=int(counts[place]),
                mrr=summary.mean,
                std=summary.std,
            )


def _means(
    seeds: list[Queries], label: Label, side: str, *, size: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean reciprocal rank by seed and name, and the number of queries of each name."""
    means, counts = [], np.zeros(size, dtype=np.int64)
    for queries in seeds:
        chosen = slice(None) if side == "both" else queries["side"] == side
        places = label(queries)[chosen]
        counts = np.bincount(places, minlength=size)
        sums = np.bincount(places, weights=1 / queries["realistic"][chosen], minlength=size)
        means.append(sums / np.maximum(counts, 1))
    return np.stack(means), counts
