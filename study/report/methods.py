"""What was done, in the words of a paper, filled from the record: sentences that hold for this study and no others.

What is not recorded is not said; study.report.checklist says that it is missing.
"""

from collections.abc import Iterator

from study import stats
from study.pretraining import start_text
from study.records import StudyRecord
from study.report import hardware, text
from study.report.decisions import RESAMPLES, Decisions
from study.report.fairness import Verdict, budget_text
from study.report.seal import SealRow

_NAMED = 6  # a sentence names this many arms; more are counted, and named in the tables


def paragraph(record: StudyRecord, *, verdict: Verdict, seals: tuple[SealRow, ...], decided: Decisions) -> str:
    """The methods section, one sentence after another."""
    if record.imported_from:
        return " ".join(_of_a_table(record, verdict))
    parts = (
        _data(record),
        _arms(record),
        _budget(record, verdict),
        _search(record),
        _pruning(record),
        _selection(record),
        _test(record, seals),
        _statistics(record),
        _decisions(record, decided),
        _machine(record),
        _continuations(record),
        _amendments(record),
    )
    return " ".join(sentence for part in parts for sentence in part)


def _of_a_table(record: StudyRecord, verdict: Verdict) -> Iterator[str]:
    drawn = sum(trial.random for trial in record.trials)
    yield (
        f"{text.plural(len(record.trials), 'trial')} of {text.plural(len(record.arms), 'arm')} were read from the table"
        f" {record.imported_from} (sha256 {record.spec_sha256[:16]}...), which another tool wrote."
    )
    yield f"As no budget was declared, the largest spending of an arm, {budget_text(record)}, stands for it."
    yield verdict.sentence
    yield f"Of the trials, {drawn:,} {_was(drawn)} drawn independently at random, as the table says."
    yield "Values are those of the search, maxima over trials and therefore optimistic; nothing was trained again."


def _data(record: StudyRecord) -> Iterator[str]:
    facts = record.passport
    sizes = [f"{facts[key]:,} {key}" for key in ("entities", "relations") if isinstance(facts.get(key), int)]
    splits = {"train": "training", "valid": "validation", "test": "test"}
    counts = [f"{facts[f'{key}_triples']:,} {name}" for key, name in splits.items() if f"{key}_triples" in facts]
    inside = sizes + ([f"{text.listing(counts)} triples"] if counts else [])
    yield f"All trainings used {record.dataset_name}{f' ({text.listing(inside)})' if inside else ''}."


def _arms(record: StudyRecord) -> Iterator[str]:
    count = len(record.arms)
    what = f"{text.plural(count, 'arm')}, each a model with a loss and its training type, {_was(count)} tuned"
    if count <= _NAMED:
        yield f"{what}: {text.listing([f'{arm.name} ({arm.training_type})' for arm in record.arms])}."
    else:
        models, losses = (sorted({getattr(arm, key) for arm in record.arms}) for key in ("model", "loss"))
        yield f"{what}; models: {', '.join(models)}; losses: {', '.join(losses)}."
    for arm in record.arms:
        if arm.source:
            yield (
                f"Trials of {arm.name} started from the tables of the best trial of {arm.source}, whose cost was"
                f" charged to them, and each of its replicates from those of the replicate in the same place"
                f" among those of {arm.source}."
            )
        if arm.checkpoint:
            start = start_text(arm, record.trials)
            yield f"Trainings of {arm.name} started from the tables of {start}; its cost was charged to them."


def _budget(record: StudyRecord, verdict: Verdict) -> Iterator[str]:
    amended = any(change.startswith("budget") for each in record.amendments for change in each.changes)
    when = "as amended after the study had begun" if amended else "declared before the study began"
    exact = "that to within one validation or 5 %" if record.budget_unit == "device_seconds" else "exactly that"
    apart = f"{len(verdict.offenders)} of {text.plural(len(record.arms), 'arm')} did not spend {exact}"
    why = "seconds on several kinds of device are no one unit" if verdict.devices else apart
    spent = "every arm spent it" if verdict.fair else f"{why}, so no arm is ranked above another"
    yield f"Each arm was given a search budget of {budget_text(record)}, {when}; {spent}."


def _search(record: StudyRecord) -> Iterator[str]:
    drawn = [sum(trial.random for trial in record.trials_of(arm.name)) for arm in record.arms]
    if any(drawn):
        yield (
            f"The first {_range(drawn)} of each arm were independent random draws, with the same random numbers in"
            " all arms for the dimensions that they share."
        )
    if not all(trial.random for trial in record.trials):
        optuna = " ".join(filter(None, ("Optuna", record.environment.get("optuna"))))
        yield (
            f"The other configurations were suggested by a tree-structured Parzen estimator ({optuna}) that knew the"
            " trials of its own arm only."
        )


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return text.plural(low, "trial") if low == high else f"{low:,} to {high:,} trials"


def _pruning(record: StudyRecord) -> Iterator[str]:
    if record.pruning is None:
        yield "No trial was pruned."
        return
    first, factor = record.pruning
    yield (
        f"Trials were pruned within their arm by successive halving: the best 1/{factor} went on at rungs after"
        f" {text.plural(first, 'epoch')} and each next one {factor} times as late."
    )


def _selection(record: StudyRecord) -> Iterator[str]:
    chosen = sum(record.current_selection(arm.name) is not None for arm in record.arms)
    if not chosen:
        yield "Nothing was selected."
        return
    yield (
        f"{_of_arms(chosen, record)} the completed trial with the highest validation MRR at its best epoch was selected"
        " (head and tail queries, filtered by the training and validation triples, realistic ranks)."
    )
    tested = [sum(bool(r.test_metrics) for r in record.current_replicates(arm.name)) for arm in record.arms]
    if any(tested):
        count = f"{min(tested)} to {max(tested)}" if min(tested) < max(tested) else str(min(tested))
        seeds = "one fresh seed" if max(tested) == 1 else f"{count} fresh seeds"
        yield f"The selected configurations were frozen, hashed and trained again with {seeds} each."


def _test(record: StudyRecord, seals: tuple[SealRow, ...]) -> Iterator[str]:
    if not record.openings:
        yield "The test split was never opened."
        return
    broken = [f"{row.arm}: {problem}" for row in seals for problem in row.problems]
    again = [f"{row.arm} {len(row.openings)} times" for row in seals if row.is_reopened]
    if broken:
        yield f"The seal on the test split was broken ({'; '.join(broken)})."
    elif again:
        yield f"The test split was opened after selections were frozen, and again by amendment ({text.listing(again)})."
    else:
        opened = sum(bool(row.openings) for row in seals)
        yield f"{_of_arms(opened, record)} the test split was opened once, after the selection was frozen."
    yield "Test ranks are filtered by all three splits."


def _statistics(record: StudyRecord) -> Iterator[str]:
    tested = {sum(bool(r.test_metrics) for r in record.current_replicates(arm.name)) for arm in record.arms}
    quantiles = [f"with {n} seeds {stats.t_quantile(n - 1, 0.95):.2f}" for n in sorted(tested) if n > 1]
    if quantiles:
        yield (
            "Test results are means over seeds with their standard deviation (n - 1) and a 95 % interval of Student's t"
            f" ({text.listing(quantiles)} standard errors to either side)."
        )


def _decisions(record: StudyRecord, decided: Decisions) -> Iterator[str]:
    if not decided.rows:
        return
    plan, count = record.comparison, len(decided.rows)
    which = "declared in the study file" if decided.hypotheses else "all that can be made"
    yield (
        f"{text.plural(count, 'pair').capitalize()} of arms ({which}) {_was(count)} compared by mean reciprocal rank:"
        f" standard errors from {RESAMPLES:,} bootstrap resamples of the test triples, paired, and of the seeds;"
        " t-tests with Satterthwaite's degrees of freedom; p-values adjusted after Holm. An arm is called better where"
        f" the adjusted p-value is below {1 - plan.confidence:.2g} and a new seed of it scores above one of the other"
        f" with a probability of at least {plan.better:g}."
    )


def _machine(record: StudyRecord) -> Iterator[str]:
    machine, programs = hardware.machine(record.environment), hardware.programs(record.environment)
    spent = sum(trial.charged.device_seconds for trial in record.trials)
    spent += sum(replicate.cost.device_seconds for replicate in record.replicate_records)
    on = f" on {machine}" if machine else ""
    yield f"Search and replicates took {text.duration(spent)} of device time{on}."
    if programs:
        yield f"Programs: {', '.join(f'{name} {version}' for name, version in programs)}."
    commit = hardware.commit(record.environment)
    if commit:
        launched = record.launched_sha256
        since = "" if launched == record.spec_sha256 else f" at launch and, as amended, {record.spec_sha256[:16]}..."
        yield f"The code is that of commit {commit}; the study file has a sha256 of {launched[:16]}...{since}"


def _continuations(record: StudyRecord) -> Iterator[str]:
    for change in hardware.continuations(record):
        yield f"The study was resumed with changes: {change}."


def _amendments(record: StudyRecord) -> Iterator[str]:
    for each in record.amendments:
        yield f"Amendment {each.number}, made after the study had begun: {'; '.join(each.changes)}."


def _of_arms(count: int, record: StudyRecord) -> str:
    return "Of each arm" if count == len(record.arms) else f"Of {count} of {text.plural(len(record.arms), 'arm')}"


def _was(count: int) -> str:
    return "was" if count == 1 else "were"
