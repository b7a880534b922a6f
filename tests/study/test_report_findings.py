"""Decisions, readings, importances and slices as the reader of a report meets them, and when they are withheld."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from kge.building import build_model
from kge.catalog import load
from kge.data import Side
from kge.documents import parse_config
from kge.ranks import Ranks
from kge.ranks_file import write_ranks
from kge.slices import slices as slices_of_ranks
from study import cli
from study.comparison import compare
from study.evidence import slices_of, write_report
from study.expected_best import expected_best, random_part
from study.history import study_record
from study.importance import importances
from study.records import ComparisonPlan, Cost, Dimension, ReplicateRecord, SpaceCard, StudyRecord, TrialState
from study.report import build
from study.report.decisions import PairOutcome, decisions
from study.report.fairness import Verdict
from study.report.lookup import by_arm
from study.report.outcomes import chance
from tests.study import records_factory as factory
from tests.study.parsed_page import Node, read_page, rows
from tests.study.saved_study import save

Scores = Mapping[str, np.ndarray]
SCE_SANS = ("complex.sce", "complex.sans")
FAIR = Verdict(fair=True, comparable=True, sentence="")


def ranks_of(record: StudyRecord, *, triples: int = 60, seed: int = 0) -> Scores:
    """Reciprocal ranks of the tested replicates whose mean is the MRR that was recorded."""
    generator = np.random.default_rng(seed)
    shared = generator.beta(0.5, 1.0, size=triples)
    found = {}
    for arm in record.arms:
        tested = [dict(each.test_metrics)["mrr"] for each in record.current_replicates(arm.name)]
        drawn = np.clip(shared + generator.normal(scale=0.05, size=(len(tested), triples)), 0.01, 1)
        found[arm.name] = drawn * (np.array(tested) / drawn.mean(axis=1))[:, None]
    return found


def with_test_mrr(record: StudyRecord, by_arm: Mapping[str, list[float]]) -> StudyRecord:
    """The record whose replicates reached these values on test, one a seed."""
    tested = tuple(
        replace(each, test_metrics=(("mrr", by_arm[each.arm][each.index]),)) for each in record.replicate_records
    )
    return replace(record, replicate_records=tested)


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., Node]:
    def parse(record: StudyRecord, ranks: Scores | None = None, **evidence: object) -> Node:
        build(record, tmp_path, ranks=ranks, **evidence)  # type: ignore[arg-type]
        return read_page(tmp_path)

    return parse


# ---- decisions


def test_every_pair_is_decided_on_with_the_numbers_of_the_comparison(page: Callable[..., Node], tmp_path: Path) -> None:
    record = factory.finished(replicates=5)
    ranks = ranks_of(record)
    section = page(record, ranks).section("decisions")
    expected = compare(ranks, generator=np.random.default_rng(record.seed), confidence=0.95, power=0.8)
    table = rows(tmp_path / "decisions.csv")
    assert [(row["first"], row["second"]) for row in table] == list(combinations([a.name for a in record.arms], 2))
    for row, pair in zip(table, expected, strict=True):
        interval = ("difference", "low", "high", "se", "df")
        for name in (*interval, "p", "adjusted", "beats", "beats_low", "effect", "detectable"):
            assert float(row[name]) == getattr(pair, name)
        shown = section.find("tr", data_first=pair.first, data_second=pair.second)[0].text.replace("−", "-")
        assert f"{pair.difference:+.4f}[{pair.low:+.4f}, {pair.high:+.4f}]" in shown
        assert f"{pair.detectable:.4f}" in shown
    stored = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))["report"]["decisions"]["rows"]
    assert [row["pair"]["adjusted"] for row in stored] == [pair.adjusted for pair in expected]
    assert "All pairs of arms: " in section.text
    smallest = min(expected, key=lambda pair: pair.detectable)
    says = f"could detect is {smallest.detectable:.4f} ({smallest.first} against {smallest.second})"
    assert says in read_page(tmp_path).section("winner").text
    assert len(section.find("svg")) == 6


def test_hypotheses_are_the_family_that_p_values_are_adjusted_over(page: Callable[..., Node], tmp_path: Path) -> None:
    record = factory.unpruned(factory.finished(replicates=5))
    every = page(record, ranks_of(record)) and rows(tmp_path / "decisions.csv")
    few = replace(record, comparison=ComparisonPlan(pairs=(SCE_SANS,)))
    parsed = page(few, ranks_of(record))
    (row,) = rows(tmp_path / "decisions.csv")
    assert (row["first"], row["second"]) == SCE_SANS
    assert row["adjusted"] == row["p"]
    assert float(row["detectable"]) < float(every[0]["detectable"])
    assert "Declared hypotheses: " in parsed.section("decisions").text
    assert len(rows(tmp_path / "flips.csv")) == 2  # one pair, two random trials


@pytest.mark.parametrize(
    ("other", "better", "outcome", "said"),
    [
        ([0.20, 0.21, 0.22, 0.23, 0.24], 0.75, PairOutcome.BETTER, "complex.sce is better than complex.sans."),
        ([0.27, 0.28, 0.29, 0.30, 0.315], 0.97, PairOutcome.SMALL, "complex.sce is above complex.sans by 0.0290, too"),
        ([0.30, 0.31, 0.32, 0.33, 0.36], 0.75, PairOutcome.UNDECIDED, "Not decided: 5 seeds could detect 0.0"),
    ],
)
def test_verdicts_in_words(
    page: Callable[..., Node], tmp_path: Path, other: list[float], better: float, outcome: PairOutcome, said: str
) -> None:
    record = factory.finished(models=("complex",), replicates=5)
    record = with_test_mrr(record, {"complex.sce": [0.30, 0.31, 0.32, 0.33, 0.34], "complex.sans": other})
    record = replace(record, comparison=ComparisonPlan(pairs=(SCE_SANS,), better=better))
    parsed = page(
        record, {arm: np.repeat(each.mean(axis=1)[:, None], 9, axis=1) for arm, each in ranks_of(record).items()}
    )
    (row,) = rows(tmp_path / "decisions.csv")
    assert row["outcome"] == outcome
    assert row["sentence"].startswith(said)
    assert row["better"] == ("complex.sce" if outcome is PairOutcome.BETTER else "")
    assert row["sentence"] in parsed.section("decisions").text


def test_seeds_that_no_difference_could_tell_apart_are_said_to_be(page: Callable[..., Node], tmp_path: Path) -> None:
    record = factory.finished(models=("complex",), replicates=2)
    record = with_test_mrr(record, {"complex.sce": [0.1, 0.8], "complex.sans": [0.2, 0.7]})
    record = replace(record, comparison=ComparisonPlan(pairs=(SCE_SANS,)))
    parsed = page(
        record, {arm: np.repeat(each.mean(axis=1)[:, None], 9, axis=1) for arm, each in ranks_of(record).items()}
    )
    (row,) = rows(tmp_path / "decisions.csv")
    assert float(row["detectable"]) > 1
    assert row["sentence"].startswith("Not decided: 2 seeds could detect no possible difference, the")
    assert "could detect is above 1, more than two can differ by (" in parsed.section("winner").text


def test_equal_arms_are_called_different_in_one_study_of_twenty_at_most() -> None:
    generator = np.random.default_rng(11)
    record = factory.finished(replicates=5)
    wrong = 0
    for _ in range(120):
        shared, own = generator.normal(0.3, 0.1, size=40), generator.normal(scale=0.05, size=(4, 1, 40))
        scores = shared + own - own.mean(axis=2, keepdims=True) + generator.normal(scale=0.01, size=(4, 5, 1))
        ranks = {arm.name: each for arm, each in zip(record.arms, scores, strict=True)}
        like = with_test_mrr(record, {arm: [float(mrr) for mrr in each.mean(axis=1)] for arm, each in ranks.items()})
        found = decisions(like, by_arm(like), ranks, FAIR)
        wrong += any(row.outcome is not PairOutcome.UNDECIDED for row in found.rows)
    assert wrong / 120 <= 0.05 + 3 * (0.05 * 0.95 / 120) ** 0.5


def test_theory_says_which_pairs_it_supports(page: Callable[..., Node], tmp_path: Path) -> None:
    record = factory.finished(replicates=2)
    arms = tuple(
        replace(arm, loss="sce_ls", objective="smoothed") if arm.name == "transe.sce" else arm for arm in record.arms
    )
    page(replace(record, arms=arms), ranks_of(record))
    said = {(row["first"], row["second"]): row["theory"] for row in rows(tmp_path / "decisions.csv")}
    assert said[SCE_SANS] == (
        "not supported: sce aims at p(y | x), sans at smoothed p(y | x), so the difference is one of objective as much"
        " as of anything else"
    )
    assert said["complex.sans", "transe.sce"].startswith("supported as similar, not as equal")
    assert said["complex.sans", "transe.sans"] == (
        "supported where both have its options alike: both arms have the loss sans"
    )


def test_theory_supports_one_loss_without_options_as_it_is(page: Callable[..., Node], tmp_path: Path) -> None:
    record = factory.finished(replicates=2)
    page(record, ranks_of(record))
    said = {(row["first"], row["second"]): row["theory"] for row in rows(tmp_path / "decisions.csv")}
    assert said["complex.sce", "transe.sce"] == (
        "supported: both arms have the loss sce, so the difference is not one of objective"
    )


# ---- decisions withheld


def fewer_seeds(record: StudyRecord) -> StudyRecord:
    kept = (r for r in record.replicate_records if (r.arm, r.index) not in {("transe.sans", 1), ("transe.sans", 2)})
    return replace(record, replicate_records=tuple(kept))


def broken_seed(reason: str) -> Callable[[StudyRecord], StudyRecord]:
    def change(record: StudyRecord) -> StudyRecord:
        return replace(record, replicate_records=tuple(map(broken, record.replicate_records)))

    def broken(each: ReplicateRecord) -> ReplicateRecord:
        if (each.arm, each.index) != ("transe.sans", 2):
            return each
        return replace(each, state=TrialState.FAIL, test_metrics=(), ranks_file=None, reason=reason)

    return change


def without_last(scores: Scores) -> Scores:
    return {**scores, "transe.sans": scores["transe.sans"][:2]}


def without_last_trial(record: StudyRecord) -> StudyRecord:
    return replace(record, trials=record.trials[:-1])


WITHHELD: dict[str, tuple[Callable[[StudyRecord], StudyRecord], Callable[[Scores], Scores | None], str, int]] = {
    # name -> the record, its ranks, what is said, how many pairs remain
    "no ranks": (lambda r: r, lambda _: None, "complex.sce: the ranks of its test triples are not here", 0),
    "one seed": (fewer_seeds, lambda s: s, "transe.sans: 1 seed tested; how far seeds differ is known from two on", 3),
    "broken seed": (
        broken_seed("DivergenceError: nan"),
        without_last,
        "transe.sans: 1 of 3 fresh seeds failed; what the others reached is not what a seed of it reaches",
        3,
    ),
    "no seeds": (lambda r: replace(r, replicate_records=()), lambda _: None, "complex.sce: 0 seeds tested", 0),
    "budgets": (without_last_trial, lambda s: s, "the budgets were not equal", 0),
    "too few ranks": (
        lambda r: r,
        lambda s: {**s, "complex.sce": s["complex.sce"][:2]},
        "complex.sce: ranks of 2 seeds are here, 3 were tested",
        3,
    ),
    "one triple": (
        lambda r: r,
        lambda s: {**s, "complex.sce": s["complex.sce"][:, :1]},
        "complex.sce: one test triple; how far triples differ is known from two on",
        3,
    ),
    "ranks of others": (
        lambda r: r,
        lambda s: {**s, "complex.sce": s["complex.sans"]},
        "complex.sce: the ranks that are here do not give the test MRR that was recorded",
        3,
    ),
    "ranks a little beside": (
        lambda r: r,
        lambda s: {**s, "complex.sce": s["complex.sce"] + 1e-4},
        "complex.sce: the ranks that are here do not give the test MRR that was recorded",
        3,
    ),
}


@pytest.mark.parametrize("name", WITHHELD)
def test_what_cannot_be_decided_is_withheld_and_said(page: Callable[..., Node], tmp_path: Path, name: str) -> None:
    change, spoil, said, remain = WITHHELD[name]
    record = factory.finished(replicates=3)
    section = page(change(record), spoil(ranks_of(record))).section("decisions")
    assert "Withheld: " in section.text
    assert said in section.text
    assert len(rows(tmp_path / "decisions.csv")) == remain
    if not remain:
        assert not section.find("table")
        assert "is better than" not in section.text


def test_a_seed_that_the_cluster_lost_is_only_missing(page: Callable[..., Node], tmp_path: Path) -> None:
    record = factory.finished(replicates=3)
    lost = broken_seed("lost its worker 5 times, the last: worker lost")(record)
    assert "Withheld: " not in page(lost, without_last(ranks_of(record))).section("decisions").text
    assert len(rows(tmp_path / "decisions.csv")) == 6


def test_where_budgets_differ_no_arm_is_ranked_anywhere(page: Callable[..., Node], tmp_path: Path) -> None:
    record = factory.unpruned(factory.finished(replicates=3))
    winner = page(without_last_trial(record), ranks_of(record)).section("winner")
    assert "Withheld: arms are not ranked here." in winner.text
    assert winner.find("figure")  # of each arm alone
    for name in ("flips", "readings", "crossings"):
        assert rows(tmp_path / f"{name}.csv") == []


# ---- would the winner change?


def test_expected_best_is_drawn_with_bands_and_kept_in_full(page: Callable[..., Node], tmp_path: Path) -> None:
    record = factory.unpruned(factory.finished(trials=40))
    record = replace(record, trials=tuple(replace(trial, random=trial.number < 30) for trial in record.trials))
    winner = page(record).section("winner")
    table = rows(tmp_path / "expected_best.csv")
    for arm in record.arms:
        points = expected_best(random_part(trial for trial in record.trials if trial.arm == arm.name))
        mine = [row for row in table if row["arm"] == arm.name]
        assert [float(row["mean"]) for row in mine] == [point.mean for point in points]
        assert [row["high"] for row in mine] == ["" if point.high is None else repr(point.high) for point in points]
    figures = winner.find("figure")
    assert [figure.find("figcaption")[0].text for figure in figures] == ["complex", "complex", "transe", "transe"]
    assert all(len(figure.find("path", class_="band")) == 2 for figure in figures)
    assert any(title.text.startswith("complex.sce: best of 5 random trials: mean ") for title in winner.find("title"))
    flips = {
        (row["first"], row["second"], row["trials"]): float(row["probability"]) for row in rows(tmp_path / "flips.csv")
    }
    assert flips[*SCE_SANS, "30"] == 0
    assert 0 < flips[*SCE_SANS, "1"] < 1
    shown = winner.find("table", class_="flips")[0].rows()
    assert shown[0] == ["Pair", "1trial", *(f"{number}trials" for number in (2, 3, 5, 8, 12, 20))]
    assert shown[1][1] == f"{flips[*SCE_SANS, '1']:.2f}"


def test_where_a_random_trial_was_pruned_nothing_is_said_of_fewer(page: Callable[..., Node], tmp_path: Path) -> None:
    record = factory.finished(models=("complex",), replicates=3)
    unlike = {("complex.sce", number) for number in range(4)}
    trials = tuple(
        replace(trial, state=TrialState.COMPLETE)
        if trial.state is TrialState.PRUNED and (trial.arm, trial.number) not in unlike
        else trial
        for trial in record.trials
    )
    winner = page(replace(record, trials=trials), ranks_of(record)).section("winner")
    assert {row["arm"] for row in rows(tmp_path / "expected_best.csv")} == {"complex.sans"}
    assert rows(tmp_path / "flips.csv") == []
    assert "Left out is complex.sce: a random trial of it was pruned by what others had reached" in winner.text
    alone = page(record, ranks_of(record)).section("winner")
    assert "Not known: no arm has two random trials that ended and none that was pruned" in alone.text


@pytest.mark.parametrize(
    ("budget", "unit", "axis"),
    [
        (Cost(trials=40), "epochs", "epochs of that many random trials, on average"),
        (Cost(device_seconds=900.0), "device_seconds", "device-seconds of that many random trials, on average"),
    ],
)
def test_expected_best_is_drawn_against_what_so_many_trials_cost_on_average(
    page: Callable[..., Node], tmp_path: Path, budget: Cost, unit: str, axis: str
) -> None:
    record = factory.unpruned(factory.finished(trials=8))
    trials = tuple(replace(trial, random=trial.number < 6) for trial in record.trials)
    before = Cost(trials=0, epochs=10, device_seconds=50.0)  # of one arm, once
    trials = tuple(
        replace(trial, pretraining=before) if (trial.arm, trial.number) == ("complex.sans", 0) else trial
        for trial in trials
    )
    winner = page(replace(record, trials=trials, budget=budget, budget_unit=unit)).section("winner")
    table = rows(tmp_path / "expected_best.csv")
    for arm in record.arms:
        mine = [trial for trial in trials if trial.arm == arm.name and trial.random]
        once = before if arm.name == "complex.sans" else Cost()
        for row in (row for row in table if row["arm"] == arm.name):
            chosen = list(combinations(mine, int(row["trials"])))
            for name in ("epochs", "device_seconds"):
                spent = np.mean([sum(getattr(trial.cost, name) for trial in each) for each in chosen])
                assert float(row[name]) == pytest.approx(getattr(once, name) + spent)
    shown = winner.find("figure")
    assert [axis in figure.text for figure in shown] == [False, True] * 2
    third = next(row for row in table if (row["arm"], row["trials"]) == ("complex.sans", "3"))
    spent = f"{round(float(third[unit])):,} {unit.replace('_', '-')}"
    says = f"complex.sans: best of 3 random trials, {spent} on average: mean "
    assert any(title.text.startswith(says) for title in shown[1].find("title"))


def slow_and_fast() -> StudyRecord:
    """One arm finds .3 at once with trials of 6 epochs; the other finds .2 and then .4 with trials of 2 epochs."""
    record = factory.finished(models=("complex",), trials=2)
    found = {"complex.sce": (0.3, 0.3), "complex.sans": (0.2, 0.4)}
    spent = {"complex.sce": 6, "complex.sans": 2}

    def trial(number: int, arm: str, seconds: float) -> tuple[float, Cost]:
        return found[arm][number], Cost(trials=1, epochs=spent[arm], device_seconds=seconds)

    trials = []
    for each in record.trials:
        mrr, cost = trial(each.number, each.arm, 12.0 if each.arm == "complex.sans" else 3.0)
        point = replace(
            each.curve[0], mrr=mrr, epochs=cost.epochs, device_seconds=cost.device_seconds, epoch=cost.epochs
        )
        trials.append(replace(each, state=TrialState.COMPLETE, best_mrr=mrr, cost=cost, curve=(point,)))
    return replace(record, trials=tuple(trials))


def test_one_study_is_read_in_three_units_and_crossings_are_named(page: Callable[..., Node], tmp_path: Path) -> None:
    winner = page(slow_and_fast()).section("winner")
    table = {
        (row["unit"], row["arm"]): (float(row["limit"]), row["best_valid_mrr"], row["rank"])
        for row in rows(tmp_path / "readings.csv")
    }
    assert table == {
        ("trials", "complex.sce"): (2, "0.3", "2"),
        ("trials", "complex.sans"): (2, "0.4", "1"),
        ("epochs", "complex.sce"): (4, "", "2"),  # its first trial takes 6
        ("epochs", "complex.sans"): (4, "0.4", "1"),
        ("device_seconds", "complex.sce"): (6, "0.3", "1"),
        ("device_seconds", "complex.sans"): (6, "", "2"),  # ... takes 12
    }
    crossing = [(row["unit"], row["ahead"], row["behind"], row["charged"]) for row in rows(tmp_path / "crossings.csv")]
    assert crossing == [("trials", "complex.sans", "complex.sce", "2.0")]
    assert "complex.sansafter" not in winner.text
    assert "after 2 trials" in winner.text
    assert (
        "The highest validation MRR was found by complex.sans at equal trials, complex.sans at equal epochs and"
        " complex.sce at equal device-seconds: who is in front depends on what is counted." in winner.text
    )


def test_one_leader_in_all_readings_is_said_to_be_one(page: Callable[..., Node]) -> None:
    record = factory.finished(models=("complex",), losses=("sce", "sans"), trials=4)
    text = page(record).section("winner").text
    assert "found the highest validation MRR at equal trials, epochs and device-seconds alike." in text


# ---- space cards, outcomes, slices


def importance_record(trials: int) -> StudyRecord:
    """One arm whose validation MRR is that of one of its two dimensions, nearly."""
    record = factory.finished(models=("complex",), losses=("sce",), replicates=0)
    tuned = tuple(
        Dimension(path=path, kind="float", low=0.0, high=1.0) for path in ("model.dropout.entity", "optimizer.lr")
    )
    generator = np.random.default_rng(3)

    def made(number: int) -> object:
        dropout, lr = (float(each) for each in generator.random(2))
        mrr = 0.2 + 0.1 * lr + 0.01 * dropout
        params = (("model.dropout.entity", dropout), ("optimizer.lr", lr))
        return replace(record.trials[0], number=number, params=params, best_mrr=mrr)

    return replace(
        record,
        trials=tuple(made(number) for number in range(trials)),  # type: ignore[misc]
        spaces=(SpaceCard(arm=record.arms[0].name, tuned=tuned, fixed=()),),
        budget=Cost(trials=trials),
    )


def test_importances_are_those_of_the_trials_and_stand_on_the_card(page: Callable[..., Node], tmp_path: Path) -> None:
    record = importance_record(30)
    found = importances(record)
    assert importances(replace(record, trials=record.trials[::-1])) == found
    shares = dict(found[0].shares)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["optimizer.lr"] > 0.8
    card = page(record, importances=found).section("spaces").find("article")[0]
    assert "importance from 30 completed trials" in card.text
    assert card.rows()[0][2] == "Importance"
    assert card.rows()[2][2] == f"{100 * shares['optimizer.lr']:.1f} %"
    assert [float(row["importance"]) for row in rows(tmp_path / "importances.csv")] == list(shares.values())


ONE = Dimension(path="optimizer.name", kind="categorical", choices=("adam",))


def test_a_dimension_of_one_value_has_no_share(page: Callable[..., Node], tmp_path: Path) -> None:
    record = importance_record(30)
    (card,) = record.spaces
    trials = tuple(replace(each, params=(*each.params, (ONE.path, "adam"))) for each in record.trials)
    more = replace(record, trials=trials, spaces=(replace(card, tuned=(*card.tuned, ONE)),))
    assert importances(more) == importances(record)
    shown = {
        row[0]: row[2] for row in page(more, importances=importances(more)).section("spaces").find("table")[0].rows()
    }
    assert shown[ONE.path] == "–"
    assert ONE.path not in {row["path"] for row in rows(tmp_path / "importances.csv")}


def test_importances_of_dimensions_of_one_value_alone_are_withheld(page: Callable[..., Node]) -> None:
    record = importance_record(30)
    trials = tuple(replace(each, params=((ONE.path, "adam"), ("loss.margin", 1.0))) for each in record.trials)
    point = Dimension(path="loss.margin", kind="float", low=1.0, high=1.0)
    record = replace(record, trials=trials, spaces=(replace(record.spaces[0], tuned=(point, ONE)),))
    (found,) = importances(record)
    assert (found.shares, found.withheld) == ((), "no dimension has more than one value")
    assert "importance withheld: no dimension has more than one value" in page(record, importances=(found,)).text


def test_importances_of_few_or_equal_trials_are_withheld(page: Callable[..., Node], tmp_path: Path) -> None:
    few = importance_record(19)
    card = page(few, importances=importances(few)).section("spaces").find("article")[0]
    assert "importance withheld: needs 20 completed trials, got 19" in card.text
    assert rows(tmp_path / "importances.csv")[0]["withheld"] == "needs 20 completed trials, got 19"
    record = importance_record(20)
    flat = replace(record, trials=tuple(replace(trial, best_mrr=0.3) for trial in record.trials))
    assert importances(flat)[0].withheld == "all completed trials are equally good"


def test_a_trial_that_learned_nothing_is_useless(page: Callable[..., Node]) -> None:
    record = factory.finished(trials=8)
    harmonic = sum(1 / rank for rank in range(1, 201)) / 200
    assert chance(record) == pytest.approx(harmonic, rel=1e-6)
    low, high = 1.99 * harmonic, 2.01 * harmonic
    trials = tuple(
        replace(trial, best_mrr={0: low, 3: high}.get(trial.number, trial.best_mrr))
        if trial.arm == "complex.sce"
        else trial
        for trial in record.trials
    )
    table = {row[0]: row for row in page(replace(record, trials=trials)).section("outcomes").find("table")[0].rows()}
    assert table["complex.sce"][7:9] == ["1", "12.5 %"]
    assert table["complex.sans"][7:9] == ["0", "0 %"]
    unknown = page(replace(record, passport={})).section("outcomes")
    assert unknown.find("table")[0].rows()[1][7:9] == ["–", "–"]


def on_disk(folder: Path) -> StudyRecord:
    """A study on the built-in graph whose replicates have files of ranks."""
    dataset = load("synthetic")
    record = factory.finished(replicates=2)
    assert dataset.test is not None
    head, relation, tail = (column.numpy() for column in dataset.test.T)
    generator, tested = np.random.default_rng(2), []
    for each in record.replicate_records:
        ranks = []
        for side in Side:
            optimistic = generator.integers(1, 50, size=len(head))
            ranks.append(
                Ranks(
                    side=side,
                    head=head,
                    relation=relation,
                    tail=tail,
                    optimistic=optimistic,
                    pessimistic=optimistic + 1,
                    candidates=np.full(len(head), dataset.num_entities),
                )
            )
        write_ranks(folder / str(each.ranks_file), ranks)
        mrr = float(np.mean([1 / both.realistic for both in ranks]))
        tested.append(replace(each, test_metrics=(("mrr", mrr),)))
    passport = {**record.passport, "fingerprint": dataset.fingerprint}
    return replace(record, replicate_records=tuple(tested), passport=passport)


def test_slices_are_means_over_seeds_of_the_queries_in_them(tmp_path: Path) -> None:
    record, said = on_disk(tmp_path), list[str]()
    arms = {arm.name for arm in record.arms}
    write_report(record, folder=tmp_path, out=tmp_path / "report", say=said.append)
    assert said == []
    chosen = record.current_selection("complex.sce")
    assert chosen is not None
    sizes = {row["arm"]: row["parameters"] for row in rows(tmp_path / "report" / "arms.csv")}
    model = build_model(parse_config(chosen.config), num_entities=200, num_relations=record.passport["relations"])  # type: ignore[arg-type]
    assert int(sizes["complex.sce"]) == sum(each.numel() for each in model.parameters())
    dataset = load("synthetic")
    by_seed = []
    for each in record.current_replicates("complex.sce"):
        table = read_ranks(tmp_path / str(each.ranks_file))
        by_seed.append({(cut.by, cut.name): cut for cut in slices_of_ranks(table, dataset)})
    found = {
        (s.by, s.name): s
        for s in slices_of(record, tmp_path, arms, said.append)
        if s.arm == "complex.sce" and s.side == "both"
    }
    assert {key for key in by_seed[0] if key[0] != "side"} == set(found)
    for key, one in found.items():
        values = [seed[key].metrics["mrr"] for seed in by_seed]
        assert one.mrr == pytest.approx(np.mean(values))
        assert one.std == pytest.approx(np.std(values, ddof=1))
        assert one.queries == by_seed[0][key].queries
    parsed = read_page(tmp_path / "report")
    for by, table in zip(("category", "answer_frequency"), parsed.section("slices").find("table"), strict=True):
        header, first, *others = table.rows()
        names = [name for kind, name in by_seed[0] if kind == by]
        heads = [f"{name}{found[by, name].queries:,} queries" for name in names]
        assert [cell[: len(head)] for cell, head in zip(header[1:], heads, strict=True)] == heads
        assert first[0] == "complex.sce"
        assert [cell[:6] for cell in first[1:]] == [f"{found[by, name].mrr:.4f}" for name in names]
        assert len(others) == len(arms) - 1
    assert len(rows(tmp_path / "report" / "slices.csv")) == len(slices_of(record, tmp_path, arms, said.append))
    assert parsed.section("decisions").find("table")


def test_sides_of_a_slice_are_the_queries_of_kge_evaluate(tmp_path: Path) -> None:
    """An answer's frequency is that of the head in a head query and of the tail in a tail query."""
    record, said = on_disk(tmp_path), list[str]()
    write_report(record, folder=tmp_path, out=tmp_path / "report", say=said.append)
    table = rows(tmp_path / "report" / "slices.csv")
    arm, dataset = record.arms[0].name, load("synthetic")
    for side in Side:
        seeds = [
            {
                (cut.by, cut.name): cut
                for cut in slices_of_ranks(
                    [ranks for ranks in read_ranks(tmp_path / str(each.ranks_file)) if ranks.side is side], dataset
                )
                if cut.by != "side"
            }
            for each in record.current_replicates(arm)
        ]
        mine = {(row["by"], row["name"]): row for row in table if (row["arm"], row["side"]) == (arm, str(side))}
        assert mine.keys() == seeds[0].keys()
        assert {by for by, _ in mine} == {"category", "relation", "answer_frequency", "anchor_frequency"}
        for key, row in mine.items():
            assert float(row["mrr"]) == pytest.approx(np.mean([seed[key].metrics["mrr"] for seed in seeds]))
            assert int(row["queries"]) == seeds[0][key].queries


def read_ranks(path: Path) -> list[Ranks]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path).to_pandas()
    names = ("head", "relation", "tail", "optimistic", "pessimistic", "candidates")
    by_side = [(side, table[table["side"] == str(side)]) for side in Side]
    return [Ranks(side=side, **{name: mine[name].to_numpy() for name in names}) for side, mine in by_side]


def test_ranks_that_cannot_be_read_are_said_and_nothing_rests_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    folder = home / "two-by-two"
    folder.mkdir(parents=True)
    record = on_disk(folder)
    save(record, f"sqlite:///{folder / 'study.db'}")
    spoilt = folder / str(record.replicate_records[0].ranks_file)
    spoilt.write_text("no parquet")
    monkeypatch.setattr("sys.argv", ["study", "report", "two-by-two", "--home", str(home)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 0
    arm = record.replicate_records[0].arm
    assert f"no decisions on {arm}: {spoilt}: must be a file of ranks, got:" in capsys.readouterr().err
    page = read_page(folder / "report")
    unread = "the ranks of its test triples are not here, or cannot be read"
    assert page.section("decisions").text.count(unread) == 1
    assert f"{arm}: {unread}" in page.section("decisions").text
    decided = rows(folder / "report" / "decisions.csv")
    others = {each.name for each in record.arms} - {arm}
    assert {name for row in decided for name in (row["first"], row["second"])} == others
    assert {row["arm"] for row in rows(folder / "report" / "slices.csv")} == others


def test_a_report_with_slices_is_not_written_over_by_one_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = on_disk(tmp_path / "two-by-two")
    save(record, f"sqlite:///{tmp_path / 'two-by-two' / 'study.db'}")
    out = tmp_path / "two-by-two" / "report"

    def report(*options: str) -> int:
        monkeypatch.setattr("sys.argv", ["study", "report", "two-by-two", "--home", str(tmp_path), *options])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0)

    assert report() == 0
    whole = {file.name: file.read_bytes() for file in out.iterdir()}
    monkeypatch.setattr("study.evidence.is_here", lambda name: False)
    capsys.readouterr()
    assert report() == 2
    arms = ", ".join(sorted(each.name for each in record.arms))
    assert capsys.readouterr().err == (
        f"error: {out}: has a report with slices, and this one would be without those of {arms} (no slices: data set"
        " synthetic is not here, or not the one of this study); --out writes it to another folder\n"
    )
    assert {file.name: file.read_bytes() for file in out.iterdir()} == whole
    assert report("--out", str(tmp_path / "other")) == 0
    assert rows(tmp_path / "other" / "slices.csv") == []
    assert report("--out", str(tmp_path / "other")) == 0


def test_a_data_set_that_is_not_that_of_the_study_gives_no_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, said = on_disk(tmp_path), list[str]()
    arms = {arm.name for arm in record.arms}
    other = replace(record, passport={**record.passport, "fingerprint": "0" * 64})
    assert slices_of(other, tmp_path, arms, said.append) == ()
    assert said == ["no slices: data set synthetic is not here, or not the one of this study"]
    assert slices_of(replace(record, dataset=str(tmp_path / "gone")), tmp_path, arms, said.append) == ()
    monkeypatch.setenv("KGE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KGE_CACHE_DIR", str(tmp_path))
    assert slices_of(replace(record, dataset="codex-s"), tmp_path, arms, said.append) == ()  # and nothing is fetched
    assert len(said) == 3


# ---- the whole


def test_the_saved_study_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    record = on_disk(tmp_path)
    database = f"sqlite:///{tmp_path / 'study.db'}"
    save(record, database)
    reports = []
    for name in ("first", "again"):
        files = write_report(study_record(database, record.name), folder=tmp_path, out=tmp_path / name, say=print)
        reports.append({file.name: file.read_bytes() for file in files})
    assert reports[0] == reports[1]
    assert b"is better than" in reports[0]["index.html"] or b"Not decided" in reports[0]["index.html"]
