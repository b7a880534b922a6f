"""Everything that the evaluation of one split says: its metrics, and labelled readings beside them.

    filtered_with_test   train or valid filtered by test too, as older publications do; never selected on
    drop_unseen          without the triples that hold an entity which train never saw, as some publications do
    slices               by side, relation, category and entity frequency (kge.slices)

Readings count the same scores in other ways; nothing is scored twice. Metrics of ranks among sampled candidates
carry `sampled_` in their names, so that none passes for a metric of the full ranking.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kge.data import SPLITS, Dataset, Triples
from kge.errors import UserError
from kge.evaluation import rank_by_filters
from kge.filters import filter_from
from kge.metrics import metrics, tie_alarm
from kge.models.base import AbstractModel
from kge.ranks import Ranks
from kge.sampled import full_estimates, mrr_standard_error, rank_among_sampled, sample_triples
from kge.slices import frequencies, slices

Record = dict[str, Any]
_NOT_COMPARABLE = (
    "ranks among sampled candidates are not comparable with ranks among all entities, "
    "and may order two models the other way round"
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What to evaluate, and how."""

    split: str
    with_test: bool = False
    slices: bool = False
    sample: int | None = None  # triples of the split; all when None
    candidates: int | None = None  # of each query; all that the filter leaves when None
    seed: int = 0

    @property
    def filter(self) -> tuple[str, ...]:
        """Splits whose facts are no mistakes; test only where it is asked for."""
        return SPLITS if self.split == "test" else ("train", "valid")


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """A record ready for JSON, and the ranks behind its metrics."""

    record: Record
    ranks: tuple[Ranks, ...]


@dataclass(frozen=True, kw_only=True)
class _Ranked:
    ranks: tuple[Ranks, ...]
    with_test: tuple[Ranks, ...] | None = None
    estimates: Record = field(default_factory=dict)


def evaluate(model: AbstractModel, dataset: Dataset, question: Question, *, block_size: int) -> Scorecard:
    """Rank what is asked for; UserError where that is not to be had."""
    _check(question, dataset)
    whole = dataset.split(question.split)
    triples = whole if question.sample is None else sample_triples(whole, question.sample, seed=question.seed)
    ranked = _rank(model, dataset, question, triples.to(model.entities.device), block_size)
    headline = metrics(ranked.ranks)
    label = "" if question.candidates is None else "sampled_"
    record = _asked(question, len(triples), len(whole)) | _labelled(label, headline) | ranked.estimates
    if question.sample is not None and question.candidates is None:
        record["mrr_standard_error"] = mrr_standard_error(ranked.ranks, of=len(whole))
    cautions = {"ties": tie_alarm(headline), "sampled": _NOT_COMPARABLE if question.candidates is not None else None}
    record["cautions"] = {name: sentence for name, sentence in cautions.items() if sentence is not None}
    if ranked.with_test is not None:
        record["filtered_with_test"] = dict(metrics(ranked.with_test))
    record["drop_unseen"] = _drop_unseen(ranked.ranks, dataset, label)
    if question.slices:
        record["slices"] = _by_kind(ranked.ranks, dataset, label)
    return Scorecard(record=record, ranks=ranked.ranks)


def _check(question: Question, dataset: Dataset) -> None:
    size = len(dataset.split(question.split))
    if question.sample is not None and question.sample > size:
        raise UserError(f"sample: must be at most the {size} triples of {question.split}, got {question.sample}")
    if question.candidates is not None and question.candidates >= dataset.num_entities:
        must = f"must be fewer than the {dataset.num_entities} entities of {dataset.name}"
        raise UserError(f"candidates: {must}, got {question.candidates}")
    if question.with_test and (question.split == "test" or question.candidates is not None):
        came = "test" if question.split == "test" else "sampled candidates"
        raise UserError(f"filter-with-test: must be asked of the full ranking of train or valid, got {came}")


def _rank(model: AbstractModel, dataset: Dataset, question: Question, triples: Triples, block_size: int) -> _Ranked:
    known = filter_from(dataset, question.filter, str(triples.device))
    if question.candidates is not None:
        sampled = rank_among_sampled(model, triples, known, count=question.candidates, seed=question.seed)
        return _Ranked(ranks=tuple(each.ranks for each in sampled), estimates=dict(full_estimates(sampled)))
    filters = [known, filter_from(dataset, SPLITS, str(triples.device))] if question.with_test else [known]
    ranks, *more = rank_by_filters(model, triples, filters, block_size=block_size)
    return _Ranked(ranks=ranks, with_test=more[0] if more else None)


def _asked(question: Question, size: int, whole: int) -> Record:
    record: Record = {"split": question.split, "filter": list(question.filter), "ranks": "realistic", "triples": size}
    if question.sample is not None:
        record["sample_of"] = whole
    if question.candidates is not None:
        record["sampled_candidates"] = question.candidates
    if question.sample is not None or question.candidates is not None:
        record["seed"] = question.seed
    return record


def _labelled(label: str, found: Mapping[str, float]) -> Record:
    return {f"{label}{name}": value for name, value in found.items()}


def _drop_unseen(ranks: tuple[Ranks, ...], dataset: Dataset, label: str) -> Record:
    seen = frequencies(dataset) > 0
    kept = [side.at(seen[side.head] & seen[side.tail]) for side in ranks]
    size = len(kept[0].head)
    record: Record = {"triples": size, "dropped": len(ranks[0].head) - size}
    return record | (_labelled(label, metrics(kept)) if size else {})


def _by_kind(ranks: tuple[Ranks, ...], dataset: Dataset, label: str) -> dict[str, dict[str, Record]]:
    found: dict[str, dict[str, Record]] = {}
    for each in slices(ranks, dataset):
        found.setdefault(each.by, {})[each.name] = {"queries": each.queries} | _labelled(label, each.metrics)
    return found
