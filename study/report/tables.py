"""The headline: what the replicates of each arm reached on the test split, grouped by objective.

Losses with one objective distribution have the same optimum, so within a group a difference is one
of how well an arm gets there. Kamigaito & Hayashi: Unified Interpretation of Softmax Cross-Entropy
and Negative Sampling. ACL 2021. https://aclanthology.org/2021.acl-long.429
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from study import stats
from study.records import Cost, ReplicateRecord, TrialState
from study.report.fairness import total
from study.report.lookup import ArmRecord

HITS = ("hits_at_1", "hits_at_3", "hits_at_10")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How the trials of an arm ended."""

    complete: int
    pruned: int
    failed: int
    running: int

    @property
    def all(self) -> int:
        """All trials, running ones included."""
        return self.complete + self.pruned + self.failed + self.running


@dataclass(frozen=True, kw_only=True)
class HeadlineRow:
    """One arm of the headline table."""

    arm: str
    model: str  # the labels that the arm's name is made of
    loss: str
    training_type: str
    objective: str
    test_mrr: stats.Summary  # over replicates; count is the number of tested seeds
    test_values: tuple[float, ...]  # test MRR of each tested replicate
    hits: Mapping[str, stats.Summary]  # test Hits@k over replicates
    seeds_planned: int
    search_best: float | None
    valid_mean: float | None  # validation MRR of the replicates
    optimism: float | None  # search best minus the replicates' mean on the same split
    gap: float | None  # search best minus mean test MRR
    counts: Counts
    search: Cost
    broken: int  # fresh seeds that failed, and not by the cluster
    leads: bool = False  # highest mean of its group, where a comparison stands


@dataclass(frozen=True, kw_only=True)
class Group:
    """The arms that aim at one objective distribution."""

    objective: str
    title: str
    meaning: str
    support: str
    rows: tuple[HeadlineRow, ...]


SIMILAR = "as similar, not as equal: how far each smooths depends on its own options"
OBJECTIVES = {
    "p_d": (
        "p(y | x)",
        "The optimum of these losses is the distribution of the data itself.",
        "Theory supports comparing these arms with one another: sce and ns with uniform noise have the same optimum.",
    ),
    "p_d/p_y": (
        "p(y | x) / p(y)",
        "The optimum of these losses divides the distribution of the data by how frequent each answer is.",
        "Theory supports comparing these arms with one another: sce_bc and ns_freq have the same optimum.",
    ),
    "smoothed": (
        "smoothed p(y | x)",
        "The optimum of these losses is a flattened distribution of the data: sce_ls mixes it with the uniform "
        "one, sans tempers it.",
        f"Theory supports comparing these arms with one another {SIMILAR}.",
    ),
    "weighted": (
        "p(y | x) w(y)",
        "The optimum of these losses is the distribution of the data with frequent answers raised.",
        "Theory supports comparing these arms with one another where their weights are the same.",
    ),
    "subsampled": (
        "p(y | x) #(x, y)^-alpha",
        "The optimum of these losses is the distribution of the data with frequent triples held back.",
        "Theory supports comparing these arms with one another where they share alpha.",
    ),
    "subsampled, smoothed": (
        "smoothed p(y | x) #(x, y)^-alpha",
        "The optimum of these losses is the distribution of the data with frequent triples held back, flattened.",
        f"Theory supports comparing these arms with one another {SIMILAR}.",
    ),
    "odds": (
        "p(y | x) / (1 - p(y | x))",
        "These losses judge each answer by itself; their scores order the answers by the odds of each.",
        "Theory supports comparing these arms with one another: bce and ns over all entities are one loss.",
    ),
    "smoothed odds": (
        "smoothed odds",
        "The optimum of these losses is a flattened form of the odds of each answer.",
        f"Theory supports comparing these arms with one another {SIMILAR}.",
    ),
    "answers": (
        "seen answers alike",
        "These losses ask of each entity whether it is an answer of the query, and not how often.",
        "Theory supports comparing these arms with one another.",
    ),
    "unbounded": (
        "no optimum",
        "Known answers were no negatives, so their scores rise without end.",
        "Theory names no optimum of these losses, so it supports no comparison of two of them, only of models.",
    ),
    "order": (
        "order alone",
        "These losses ask for a margin between answers and other entities; their optimum is no distribution.",
        "Theory says nothing about the optimum beyond the order, so it supports a comparison of that alone.",
    ),
    "unknown": (
        "objective not recorded",
        "What these losses aim at is not in the data.",
        "So nothing is said here about whether theory supports comparing them.",
    ),
}


def has_optimum(objective: str) -> bool:
    """Whether the scores that the losses of an objective aim at exist at all."""
    return objective != "unbounded"


def headline(arms: tuple[ArmRecord, ...], *, planned: int, comparable: bool) -> tuple[Group, ...]:
    """Arms grouped by objective distribution, known groups first, each in the order of the study."""
    rows = [_row(arm, planned) for arm in arms]
    found = {row.objective for row in rows}
    order = [*(name for name in OBJECTIVES if name in found), *sorted(found - set(OBJECTIVES))]
    return tuple(_group(name, [row for row in rows if row.objective == name], comparable) for name in order)


def title(objective: str) -> str:
    """What the losses of a group aim at, in a formula or a word."""
    return OBJECTIVES[objective][0] if objective in OBJECTIVES else objective


def labels(arm: ArmRecord) -> tuple[str, str]:
    """The model and loss labels that make the arm's name."""
    model, dot, loss = arm.name.rpartition(".")
    return (model, loss) if dot and model and loss else (arm.arm.model, arm.arm.loss)


def _group(objective: str, rows: list[HeadlineRow], comparable: bool) -> Group:
    title, meaning, support = OBJECTIVES.get(
        objective,
        (objective, "Nothing is recorded here about the optimum of these losses.", "Only arms of this group share it."),
    )
    if len(rows) == 1 and has_optimum(objective):
        support = "No other arm of this study has this optimum, so theory offers this arm no partner."
    return Group(
        objective=objective,
        title=title,
        meaning=meaning,
        support=support,
        rows=tuple(_mark_leader(rows) if comparable and has_optimum(objective) else rows),
    )


def _mark_leader(rows: list[HeadlineRow]) -> Iterable[HeadlineRow]:
    """Name the highest mean, if there are two arms to rank and each has an interval over all of its seeds."""
    known = [row.test_mrr for row in rows if not row.broken]
    means = [each.mean for each in known if each.low is not None and each.mean is not None]
    if len(rows) < 2 or len(means) < len(rows):
        return rows
    return [replace(row, leads=row.test_mrr.mean == max(means)) for row in rows]


def _row(arm: ArmRecord, planned: int) -> HeadlineRow:
    model, loss = labels(arm)
    test = metric(arm.tested, "mrr")
    summary = stats.summarize(test)
    valid = stats.mean(
        [r.valid_mrr for r in arm.replicates if r.state is TrialState.COMPLETE and r.valid_mrr is not None]
    )
    return HeadlineRow(
        arm=arm.name,
        model=model,
        loss=loss,
        training_type=arm.arm.training_type,
        objective=arm.arm.objective,
        test_mrr=summary,
        test_values=tuple(test),
        hits={name: stats.summarize(metric(arm.tested, name)) for name in HITS},
        seeds_planned=planned,
        search_best=arm.search_best,
        valid_mean=valid,
        optimism=_difference(arm.search_best, valid),
        gap=_difference(arm.search_best, summary.mean),
        counts=counts(arm),
        search=total(trial.charged for trial in arm.trials),
        broken=arm.broken,
    )


def counts(arm: ArmRecord) -> Counts:
    """How the trials of an arm ended."""
    states = [trial.state for trial in arm.trials]
    return Counts(
        complete=states.count(TrialState.COMPLETE),
        pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAIL),
        running=states.count(TrialState.RUNNING),
    )


def metric(replicates: Iterable[ReplicateRecord], name: str) -> list[float]:
    """One test metric of the replicates that have it."""
    return [value for replicate in replicates for key, value in replicate.test_metrics if key == name]


def _difference(larger: float | None, smaller: float | None) -> float | None:
    return None if larger is None or smaller is None else larger - smaller
