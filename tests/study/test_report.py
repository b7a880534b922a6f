"""The report as a reader meets it: the parsed page, the CSV files and record.json of hand-built records."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import scipy.stats

from study.records import (
    IN_FLOAT32,
    Amendment,
    Arm,
    ArmStop,
    Cost,
    Dimension,
    FailureClass,
    Opening,
    Place,
    Selection,
    SpaceCard,
    StudyRecord,
    TrialRecord,
    TrialState,
)
from study.report import build, fairness
from tests.study import records_factory as factory
from tests.study.parsed_page import Node, read_page, rows

TABLES = ("arms", "trials", "replicates", "curves", "timeline")
FINDINGS = ("decisions", "expected_best", "flips", "readings", "crossings", "importances", "slices", "places")
FILES = ("index.html", *(f"{name}.csv" for name in TABLES + FINDINGS), "tables.tex", "methods.txt", "record.json")
HOSTILE = "<script>alert(\"1\")</script> & 'x'"


@pytest.fixture
def page(tmp_path: Path) -> Callable[[StudyRecord], Node]:
    def parse(record: StudyRecord) -> Node:
        build(record, tmp_path)
        return read_page(tmp_path)

    return parse


def verdict(page: Node) -> Node:
    return next(node for node in page.walk() if node.attributes.get("id") == "verdict")


def without_trials(record: StudyRecord, arm: str, *, above: int) -> StudyRecord:
    return replace(record, trials=tuple(t for t in record.trials if t.arm != arm or t.number <= above))


def as_failed(trial: TrialRecord) -> TrialRecord:
    failed = replace(trial, state=TrialState.FAIL, failure=FailureClass.BUG, reason="boom", best_mrr=None)
    return replace(failed, best_epoch=None, curve=(), cost=Cost(trials=1))


def bare(record: StudyRecord) -> StudyRecord:
    """The record without anything that follows a search."""
    return replace(record, selections=(), replicate_records=(), openings=())


# ---- files


def test_every_file_is_written_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "report"
    written = build(factory.finished(), folder)
    assert [path.name for path in written] == list(FILES)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def test_the_same_record_gives_the_same_bytes(tmp_path: Path) -> None:
    record = factory.finished()
    turned = replace(
        record,
        passport=dict(reversed(list(record.passport.items()))),
        environment=dict(reversed(list(record.environment.items()))),
        trials=tuple(reversed(record.trials)),
        replicate_records=tuple(reversed(record.replicate_records)),
    )
    first = [path.read_bytes() for path in build(record, tmp_path / "1")]
    assert [path.read_bytes() for path in build(factory.finished(), tmp_path / "2")] == first
    shuffled = [path.read_bytes() for path in build(turned, tmp_path / "3")]
    assert shuffled[:-1] == first[:-1]  # record.json keeps the record's own order of trials


def test_a_report_is_replaced_whole(tmp_path: Path) -> None:
    build(factory.running(), tmp_path)
    (tmp_path / "index.html").chmod(0o444)
    build(factory.finished(), tmp_path)
    assert "Comparison withheld" not in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_record_json_is_strict_and_holds_the_record(tmp_path: Path) -> None:
    record = factory.finished()
    broken = replace(record.trials[0].curve[0], loss=float("nan"), metrics=(("mean_rank", float("inf")),))
    trial = replace(record.trials[0], curve=(broken, *record.trials[0].curve[1:]))
    record = without_trials(replace(record, trials=(trial, *record.trials[1:])), "transe.sans", above=-1)
    build(record, tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    data = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert data["record"]["trials"][0]["curve"][0]["loss"] is None
    assert data["record"]["spec"] == record.spec
    assert data["record"]["trials"][1]["best_mrr"] == record.trials[1].best_mrr
    assert data["report"]["verdict"]["fair"] is False
    declared = next(parity for parity in data["report"]["parities"] if parity["declared"])
    assert declared["factor"] is None  # infinite: one arm spent nothing
    text = (tmp_path / "curves.csv").read_text(encoding="utf-8").lower()
    assert "nan" not in text
    assert "inf" not in text


# ---- the verdict


def test_equal_budgets_are_called_fair(page: Callable[[StudyRecord], Node]) -> None:
    node = verdict(page(factory.finished()))
    assert node.attributes["class"] == "verdict fair"
    assert node.text == "Fair: each of the 4 arms spent its budget of 4 trials, all of it and no more."


def test_a_short_arm_withholds_the_comparison(page: Callable[[StudyRecord], Node]) -> None:
    parsed = page(without_trials(factory.finished(trials=8), "complex.sans", above=2))
    node = verdict(parsed)
    assert node.attributes["class"] == "verdict withheld"
    assert "Comparison withheld: complex.sans has not finished on the declared budget of 8 trials" in node.text
    assert "the largest charge over the smallest is 2.67." in node.text
    assert [item.text for item in node.find("li")] == ["complex.sans fell short: 3 of 8 trials (37.5 %)"]
    assert "highest mean" not in parsed.text.lower()
    assert parsed.text.lower().count("comparison") == 1
    assert "theory supports" not in parsed.text.lower()
    assert not parsed.find("tr", class_="leads")


def test_an_overspent_arm_withholds_the_comparison(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished()
    extra = replace(record.trials[0], number=4)
    node = verdict(page(replace(record, trials=(*record.trials, extra))))
    assert [item.text for item in node.find("li")] == ["complex.sce overspent: 5 of 4 trials (125 %)"]


def test_running_trials_withhold_the_comparison_even_when_charges_are_equal(
    page: Callable[[StudyRecord], Node],
) -> None:
    node = verdict(page(factory.running()))
    assert "the largest charge over the smallest is 1.00." in node.text
    assert len(node.find("li")) == 4
    assert all("not ended" in item.text for item in node.find("li"))


def test_an_arm_that_spent_nothing_makes_the_factor_infinite(page: Callable[[StudyRecord], Node]) -> None:
    parsed = page(without_trials(bare(factory.finished()), "transe.sce", above=-1))
    assert "the largest charge over the smallest is ∞." in verdict(parsed).text
    factors = parsed.section("budget").find("tfoot")[0].find("td", class_="n declared broken")
    assert [cell.text for cell in factors] == ["∞"]


def test_the_verdict_reads_the_declared_unit_only(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished()  # its arms spent 16 and 15 epochs
    unequal = replace(record, budget=Cost(epochs=16), budget_unit="epochs")
    node = verdict(page(unequal))
    assert "of 16 epochs; the largest charge over the smallest is 1.07." in node.text
    assert len(node.find("li")) == 2


def epochs_record(left: int) -> StudyRecord:
    """A budget of 16 epochs of which two arms leave so many."""
    record = factory.finished()
    last = {
        arm.name: [t.number for t in record.trials if t.arm == arm.name and t.cost.epochs][-1] for arm in record.arms
    }
    spent = {name: sum(t.cost.epochs for t in record.trials if t.arm == name) for name in last}
    return replace(
        record,
        trials=tuple(
            replace(t, cost=replace(t.cost, epochs=t.cost.epochs + 16 - left - spent[t.arm]))
            if t.number == last[t.arm] and spent[t.arm] < 16
            else t
            for t in record.trials
        ),
        budget=Cost(epochs=16),
        budget_unit="epochs",
    )


def test_epochs_end_exactly_or_withhold_the_comparison(page: Callable[[StudyRecord], Node]) -> None:
    assert verdict(page(epochs_record(0))).text.endswith("its budget of 16 epochs, all of it and no more.")
    node = verdict(page(epochs_record(1)))
    assert "the largest charge over the smallest is 1.07." in node.text
    assert "complex.sans fell short: 15 of 16 epochs (93.8 %)" in [item.text for item in node.find("li")]


def seconds_record(*spent: float, interval: float) -> StudyRecord:
    """Arms of one trial each that cost these device-seconds, validated every `interval`; 10 are declared."""
    record = factory.finished()
    firsts = [next(t for t in record.trials if t.arm == arm.name) for arm in record.arms]
    trials = tuple(
        replace(
            t,
            cost=replace(t.cost, device_seconds=cost),
            curve=tuple(
                replace(t.curve[0], epoch=i, device_seconds=min(interval, cost - i * interval))
                for i in range(int(cost / interval))
            ),
        )
        for t, cost in zip(firsts, spent, strict=True)
    )
    return replace(record, trials=trials, budget=Cost(device_seconds=10.0), budget_unit="device_seconds")


def test_seconds_may_end_within_one_validation_interval(page: Callable[[StudyRecord], Node]) -> None:
    node = verdict(page(seconds_record(10.4, 9.5, 10.0, 9.9, interval=0.5)))
    assert node.text == (
        "Fair: each of the 4 arms spent its budget of 10 device-seconds, to within one validation interval: "
        "the furthest ended 0.5 device-seconds (5 %) away."
    )
    coarse = page(seconds_record(10.4, 9.5, 10.0, 9.9, interval=0.6)).find("ul", id="notices")[0].text
    assert (
        "A validation interval takes up to 6 % of the budget, and arms that end more than 5 % away from it are not"
        " compared: " in coarse
    )
    node = verdict(page(seconds_record(10.4, 9.4, 10.0, 9.9, interval=0.5)))
    assert [item.text for item in node.find("li")] == ["complex.sans fell short: 9.4 of 10 device-seconds (94 %)"]
    node = verdict(page(seconds_record(10.4, 9.5, 10.0, 10.6, interval=0.5)))
    assert [item.text for item in node.find("li")] == ["transe.sans overspent: 10.6 of 10 device-seconds (106 %)"]


def test_a_budget_is_named_that_all_arms_can_keep_to() -> None:
    def said(*spent: float, interval: float) -> str:
        return fairness.unequal(seconds_record(*spent, interval=interval)).partition("`study ")[2]

    amend = "resume two-by-two --amend --reopen` with a budget of {} device-seconds can change that."
    assert said(10.4, 9.5, 10.0, 9.9, interval=0.5) == ""
    assert said(10.4, 9.5, 10.0, 14.6, interval=0.5) == amend.format(15)
    assert said(10.0, 9.0, 10.0, 10.0, interval=2.0) == amend.format(40)


def test_seconds_of_several_kinds_of_device_are_no_budget(page: Callable[[StudyRecord], Node]) -> None:
    record = seconds_record(10.0, 10.0, 10.0, 10.0, interval=0.5)

    def places_of(*devices: str) -> tuple[Place, ...]:
        where = zip(record.arms, devices, strict=True)
        return tuple(
            Place(arm=arm.name, stage="search", trial=0, attempt=0, node="a", host="h", device=device)
            for arm, device in where
        )

    def searched(*devices: str) -> Node:
        return verdict(page(replace(record, places=places_of(*devices))))

    assert searched(*["NVIDIA H100"] * 4).text.startswith("Fair: ")
    assert searched(*["AMD EPYC"] * 3, f"AMD EPYC{IN_FLOAT32}").text.startswith("Fair: ")
    node = searched("NVIDIA H100", "NVIDIA H100", "AMD EPYC", "NVIDIA H100")
    assert (
        "Comparison withheld: the budget is 10 device-seconds, and a second is not the same on each device."
        in node.text
    )
    assert "transe.sce was searched on AMD EPYC (1)" in [item.text for item in node.find("li")]
    withheld = page(replace(record, places=places_of("A", "B", "A", "A")))
    assert "the budgets were seconds on several kinds of device" in withheld.section("decisions").text
    assert "seconds on several kinds of device are no one unit, so no arm is ranked" in withheld.section("methods").text
    by_trials = replace(record, budget=factory.finished().budget, budget_unit="trials")
    assert "each device" not in verdict(page(by_trials)).text


def test_trials_that_a_smaller_budget_had_cut_short_are_named(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished()
    cut = replace(record.trials[0], reason="budget: ended after 1 of 2 epochs", ended=50.0)
    record = replace(record, trials=(cut, *record.trials[1:]))
    raised = Amendment(number=1, spec="", spec_sha256="", changes=("budget.epochs: 4 -> 9",), reopens=False, time=60.0)
    said = "Trials were cut short by a budget that was raised later: complex.sce 1."
    assert said in page(replace(record, amendments=(raised,))).find("ul", id="notices")[0].text
    still = replace(cut, started=50.0, ended=70.0)  # it had been given one epoch before there were more to give
    epochs = replace(record, trials=(still, *record.trials[1:]), budget=Cost(epochs=9), budget_unit="epochs")
    assert said in page(replace(epochs, amendments=(raised,))).find("ul", id="notices")[0].text
    other = replace(raised, changes=("replicates: 3 -> 4",))
    assert said not in page(replace(record, amendments=(other,))).find("ul", id="notices")[0].text


def test_an_interval_is_that_of_its_own_arm(page: Callable[[StudyRecord], Node]) -> None:
    record = seconds_record(10.0, 9.6, 10.0, 10.0, interval=0.3)
    assert "withheld" in verdict(page(record)).text
    coarser = replace(record.trials[1], curve=record.trials[1].curve[1::2])
    coarser = replace(coarser, curve=tuple(replace(each, device_seconds=0.6) for each in coarser.curve))
    trials = (record.trials[0], coarser, *record.trials[2:])
    assert verdict(page(replace(record, trials=trials))).text.startswith("Fair")


def test_what_went_unmeasured_is_an_interval_only_where_nothing_was_measured(
    page: Callable[[StudyRecord], Node],
) -> None:
    record = seconds_record(10.0, 9.6, 10.0, 10.0, interval=0.3)
    for kept, said in ((28, "Comparison withheld"), (0, "Fair")):
        short = replace(record.trials[1], curve=record.trials[1].curve[:kept])
        trials = (record.trials[0], short, *record.trials[2:])
        assert verdict(page(replace(record, trials=trials))).text.strip().startswith(said)


def test_however_long_an_interval_is_an_arm_that_ended_far_from_its_budget_is_not_compared(
    page: Callable[[StudyRecord], Node],
) -> None:
    node = verdict(page(seconds_record(10.0, 9.0, 10.0, 10.0, interval=2.0)))
    assert [item.text for item in node.find("li")] == ["complex.sans fell short: 9.0 of 10 device-seconds (90 %)"]


# ---- arms that were stopped


def stopped(record: StudyRecord, arm: str, *, above: int) -> StudyRecord:
    reason = f"ZeroDivisionError: division by zero (sce.py:41) {HOSTILE}"
    return replace(without_trials(bare(record), arm, above=above), stops=(ArmStop(arm=arm, errors=3, reason=reason),))


def test_a_stopped_arm_is_named_in_banner_and_outcomes(page: Callable[[StudyRecord], Node], tmp_path: Path) -> None:
    parsed = page(stopped(factory.finished(), "transe.sce", above=1))
    items = [item.text for item in verdict(parsed).find("li")]
    assert items == ["transe.sce fell short and was stopped: 2 of 4 trials (50 %)"]
    assert "transe.sce got no more trials after 3 identical errors." in parsed.find("ul", id="notices")[0].text
    stops = parsed.section("outcomes").find("table")[1].rows()
    assert stops[1][:2] == ["transe.sce", "3"]
    assert "division by zero (sce.py:41)" in stops[1][2]
    assert not parsed.find("script")
    states = {row["arm"]: row["budget_completion"] for row in rows(tmp_path / "arms.csv")}
    assert states == {arm: "stopped" if arm == "transe.sce" else "done" for arm in states}


def test_a_stop_after_the_whole_budget_withholds_nothing(page: Callable[[StudyRecord], Node]) -> None:
    parsed = page(stopped(factory.finished(), "transe.sce", above=3))
    assert verdict(parsed).attributes["class"] == "verdict fair"
    assert "transe.sce got no more trials" in parsed.find("ul", id="notices")[0].text


# ---- fair at every moment


def test_the_largest_distance_between_arms_is_said_and_drawn(
    page: Callable[[StudyRecord], Node], tmp_path: Path
) -> None:
    parsed = page(factory.finished())  # arms start a quarter of a second apart
    budget = parsed.section("budget")
    assert "The arms were never further apart than 1 trial: 0 s after the first trial started, " in budget.text
    assert [figure.find("figcaption")[0].text for figure in budget.find("figure")] == [
        "Charged + reserved trials",
        "Largest distance between two arms, in trials' worth",
    ]
    assert len(budget.find("path", class_="curve thin")) == 4
    moments = rows(tmp_path / "timeline.csv")
    assert len(moments) == 16  # each trial once, when it starts
    assert {row["event"] for row in moments} == {"started"}
    assert max(float(row["gap"]) for row in moments) == 1.0


def test_one_arm_alone_is_never_ahead(page: Callable[[StudyRecord], Node]) -> None:
    budget = page(only_one_arm(factory.finished())).section("budget")
    assert "further apart" not in budget.text
    assert len(budget.find("figure")) == 1


# ---- rungs


def test_rungs_are_correlated_with_the_end(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished(trials=24, epochs=6)
    section = page(record).section("pruning")
    table = {(row[0], row[1]): row[2:] for row in section.find("table")[0].rows()[1:]}
    complete = [t for t in record.trials if t.arm == "complex.sce" and t.state is TrialState.COMPLETE]
    best = [[max(m.mrr for m in t.curve if m.epoch <= epoch) for t in complete] for epoch in (2, 6)]
    tau = scipy.stats.kendalltau(*best).statistic
    assert table["complex.sce", "2"][1:3] == ["12", f"{tau:.2f}"]
    assert table["complex.sce", "2"][0] == "24"  # all trials of the arm were validated there
    assert "those that were pruned are missing from it" in section.text
    assert ("complex.sce", "6") not in table  # no trial went on from there


def test_rungs_without_agreement_do_not_license_pruning(page: Callable[[StudyRecord], Node]) -> None:
    few = page(factory.finished(trials=8))
    assert "does not license pruning: fewer than 10 trials" in few.section("pruning").text
    notices = few.find("ul", id="notices")[0].text
    assert "The rank correlation with the final results does not license pruning: complex.sce after 2 epochs" in notices
    record = factory.finished(models=("complex",), losses=("sce",), trials=24)
    assert "licenses pruning here" in page(record).section("pruning").text
    turned = tuple(  # who leads at the first rung is last at the end
        replace(t, curve=tuple(replace(m, mrr=m.mrr if m.epoch > 2 else 0.1 - 0.2 * m.mrr) for m in t.curve))
        for t in record.trials
    )
    parsed = page(replace(record, trials=turned))
    assert "does not license pruning: tau is not at least 0.6" in parsed.section("pruning").text
    assert parsed.section("pruning").find("table")[0].rows()[1][4].startswith("−")


def test_a_trial_that_the_budget_ended_says_nothing_of_the_end(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished(trials=24)
    cut = replace(record.trials[0], reason="budget: ended after 6 of 9 epochs")
    parsed = page(replace(record, trials=(cut, *record.trials[1:])))
    assert parsed.section("pruning").find("table")[0].rows()[1][2:4] == ["24", "11"]
    assert parsed.section("outcomes").find("table")[0].rows()[1][2] == "121 ended by the budget"  # 12, one of them


def test_a_study_without_pruning_has_no_such_section(page: Callable[[StudyRecord], Node]) -> None:
    parsed = page(replace(factory.finished(), pruning=None))
    assert not parsed.find("section", id="pruning")
    assert "license" not in parsed.text


# ---- the headline


def test_headline_groups_by_objective_and_shows_the_replicates(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished(replicates=3)
    results = page(record).section("results")
    bodies = results.find("tbody")
    assert [body.attributes["data-objective"] for body in bodies] == ["p_d", "smoothed"]
    assert [row.attributes["data-arm"] for row in bodies[0].find("tr") if "data-arm" in row.attributes] == [
        "complex.sce",
        "transe.sce",
    ]
    assert all("Theory supports comparing these arms" in body.text for body in bodies)
    cells = results.find("tr", data_arm="complex.sce")[0].text
    values = [dict(r.test_metrics)["mrr"] for r in record.replicate_records if r.arm == "complex.sce"]
    std = np.std(values, ddof=1)
    half = 4.302653 * std / 3**0.5
    mean = np.mean(values)
    assert f"{mean:.4f} ± {std:.4f}[{mean - half:.4f}, {mean + half:.4f}]" in cells.replace(" [", "[")
    hits = [dict(r.test_metrics)["hits_at_10"] for r in record.replicate_records if r.arm == "complex.sce"]
    low, high = scipy.stats.t.interval(0.95, 2, loc=np.mean(hits), scale=scipy.stats.sem(hits))
    assert f"{np.mean(hits):.4f}± {np.std(hits, ddof=1):.4f}[{low:.4f}, {high:.4f}]" in cells
    best = next(s.valid_mrr for s in record.selections if s.arm == "complex.sce")
    assert f"{best:.4f}" in cells
    assert f"+{best - mean:.4f}" in cells
    assert "2 / 1 / 1" in cells
    header = results.find("thead")[0].text
    assert "optimistic" in header


def test_each_group_of_several_arms_marks_its_highest_mean(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished(replicates=3)
    leads = [row.attributes["data-arm"] for row in page(record).find("tr", class_="leads")]
    means = {
        arm.name: np.mean([dict(r.test_metrics)["mrr"] for r in record.replicate_records if r.arm == arm.name])
        for arm in record.arms
    }
    assert leads == [
        max(["complex.sce", "transe.sce"], key=lambda name: means[name]),
        max(["complex.sans", "transe.sans"], key=lambda name: means[name]),
    ]


def test_where_a_seed_of_an_arm_failed_its_group_marks_none(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished(replicates=3)
    failed = [
        replace(each, state=TrialState.FAIL, reason="DivergenceError: nan", test_metrics=())
        if (each.arm, each.index) == ("complex.sce", 2)
        else each
        for each in record.replicate_records
    ]
    parsed = page(replace(record, replicate_records=tuple(failed)))
    assert [row.attributes["data-arm"] for row in parsed.find("tr", class_="leads")] == ["transe.sans"]


@pytest.mark.parametrize("replicates", [0, 1])
def test_fewer_than_two_seeds_give_no_interval_and_no_leader(
    page: Callable[[StudyRecord], Node], replicates: int
) -> None:
    parsed = page(factory.finished(replicates=replicates))
    results = parsed.section("results").text
    assert ("one seed: no interval" in results) == (replicates == 1)
    assert ("not tested" in results) == (replicates == 0)
    assert "±" not in "".join(body.text for body in parsed.section("results").find("tbody"))
    assert not parsed.find("tr", class_="leads")
    assert "an interval needs at least two" in parsed.text


def test_a_group_of_one_arm_has_no_partner(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished()
    arms = tuple(replace(arm, objective=f"o{index}") for index, arm in enumerate(record.arms))
    parsed = page(replace(record, arms=arms))
    assert parsed.text.count("theory offers this arm no partner") == 4
    assert not parsed.find("tr", class_="leads")


# ---- curves


def test_curves_are_drawn_against_trials_and_epochs(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished(trials=6)
    figures = page(record).section("progress").find("figure")
    captions = [figure.find("figcaption")[0].text for figure in figures]
    assert captions == ["complex", "complex", "transe", "transe"]
    assert [figure.find("text", class_="axis")[0].text for figure in figures[:2]] == [
        "charged trials",
        "charged epochs",
    ]
    hover = [title.text for title in figures[0].find("title")]
    arm = [t for t in record.trials if t.arm == "complex.sce"]
    usable = [t.best_mrr for t in arm if t.state is not TrialState.FAIL and t.best_mrr is not None]
    assert f"complex.sce: {max(usable):.4f} after 6 trials" in hover
    total = sum(t.cost.epochs for t in arm)
    assert f"complex.sce: {max(usable):.4f} after {total} epochs" in [t.text for t in figures[1].find("title")]


def test_a_failed_trial_is_charged_and_offers_nothing(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished()
    trials = tuple(
        replace(t, best_mrr=0.9, curve=tuple(replace(m, mrr=0.9) for m in t.curve)) if t.state is TrialState.FAIL else t
        for t in record.trials
    )
    parsed = page(replace(record, trials=trials))
    assert "0.9000" not in parsed.section("progress").text
    assert "after 4 trials" in parsed.section("progress").text


def test_epochs_after_the_last_validation_are_charged(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished()
    late = replace(record.trials[2], cost=replace(record.trials[2].cost, epochs=record.trials[2].cost.epochs + 5))
    parsed = page(replace(record, trials=(*record.trials[:2], late, *record.trials[3:])))
    assert "after 21 epochs" in parsed.section("progress").text


def test_figures_are_well_formed_svg(page: Callable[[StudyRecord], Node], tmp_path: Path) -> None:
    page(factory.finished())
    found = re.findall(r"<svg.*?</svg>", (tmp_path / "index.html").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(found) > 5
    for figure in found:
        root = ElementTree.fromstring(figure)
        assert root.attrib["aria-label"]
        assert "nan" not in figure


# ---- budget, spaces, outcomes, selections


def test_what_was_trained_twice_is_said(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished()
    said = "Repeated after crashes and lost workers, and charged to no arm: 3 epochs, 4.2 device-seconds."
    assert said in page(replace(record, wasted=Cost(epochs=3, device_seconds=4.25))).text
    assert "charged to no arm" not in page(record).text


def test_what_an_epoch_took_is_shown(page: Callable[[StudyRecord], Node], tmp_path: Path) -> None:
    record = factory.finished()
    build(record, tmp_path)
    spent = [trial.charged for trial in record.trials if trial.arm == record.arms[0].name]
    expected = sum(each.device_seconds for each in spent) / sum(each.epochs for each in spent)
    assert float(rows(tmp_path / "arms.csv")[0]["search_seconds_per_epoch"]) == pytest.approx(expected)
    assert f"{expected:.3g}" in page(record).section("budget").text


def test_parity_is_shown_in_all_three_units(page: Callable[[StudyRecord], Node]) -> None:
    table = page(factory.finished()).section("budget").find("table")[0]
    assert table.rows()[0][1:4] == ["Trialsdeclared", "Epochs", "Device-seconds"]
    assert table.rows()[-1][:3] == ["largest / smallest", "1.00", "1.07"]


def lr_record(best: float, *, low: float = 1e-4, high: float = 1.0, log: bool = True) -> StudyRecord:
    """One arm with one dimension, whose best trial has this learning rate."""
    record = factory.finished()
    arm, trial = record.arms[0], record.trials[0]
    dimension = Dimension(path="optimizer.lr", kind="float", low=low, high=high, log=log)
    return replace(
        bare(record),
        arms=(arm,),
        trials=(replace(trial, params=(("optimizer.lr", best),)),),
        spaces=(SpaceCard(arm=arm.name, tuned=(dimension,), fixed=()),),
        budget=Cost(trials=1),
    )


@pytest.mark.parametrize(("name", "warns"), [("normal", True), ("xavier_normal", False)])
def test_a_value_that_decided_nothing_is_near_no_bound(
    page: Callable[[StudyRecord], Node], name: str, warns: bool
) -> None:
    record = lr_record(0.5)
    std = Dimension(path="model.init.std", kind="float", low=1e-5, high=1.0, log=True)
    card = replace(record.spaces[0], tuned=(std,), switches=(("model.init.std", "model.init.name", ("normal",)),))
    trial = replace(record.trials[0], params=(("model.init.name", name), ("model.init.std", 1.01e-5)))
    parsed = page(replace(record, spaces=(card,), trials=(trial,)))
    assert ("is within 5 % of its lower bound" in parsed.section("spaces").text) is warns


@pytest.mark.parametrize(
    ("record", "bound"),
    [
        (lr_record(1.5e-4), "lower bound 0.0001"),
        (lr_record(0.7), "upper bound 1"),
        (lr_record(0.5), None),  # 7.5 % below the upper bound in logarithms
        (lr_record(0.04, log=False, low=0.0), "lower bound 0"),
        (lr_record(0.5, log=False), None),
        (lr_record(0.98, log=False), "upper bound 1"),
        (lr_record(0.5, low=0.5, high=0.5), None),
    ],
)
def test_a_best_near_a_bound_is_warned_of(
    page: Callable[[StudyRecord], Node], record: StudyRecord, bound: str | None
) -> None:
    parsed = page(record)
    warnings = [
        item.text for node in parsed.section("spaces").find("ul", class_="warnings") for item in node.find("li")
    ]
    best = dict(record.trials[0].params)["optimizer.lr"]
    assert warnings == ([] if bound is None else [f"optimizer.lr = {best:g} is within 5 % of its {bound}"])
    assert ("1 best value within 5 % of a bound, in 1 arm" in parsed.text) == (bound is not None)


def test_space_cards_say_what_arms_share_and_what_differs(page: Callable[[StudyRecord], Node]) -> None:
    spaces = page(factory.finished()).section("spaces")
    assert "Fixed in every arm: model.dim = 32, training.max_epochs = 6" in spaces.text
    cards = {card.find("h3")[0].text: card for card in spaces.find("article")}
    assert list(cards) == ["complex.sce", "complex.sans", "transe.sce", "transe.sans"]
    assert "0.001 to 1, log" in cards["complex.sce"].text
    assert "adagrad · adam" in cards["complex.sce"].text
    assert "absent in 2 other arms" in cards["complex.sans"].text
    assert "Fixed: model.norm = 1, training.type = one_vs_all" in cards["transe.sce"].text


def test_failures_are_classed_and_shared(page: Callable[[StudyRecord], Node]) -> None:
    tables = page(factory.finished(trials=8)).section("outcomes").find("table")
    rows = {row[0]: row[1:] for row in tables[0].rows()}
    assert rows["complex.sce"] == ["8", "4", "2", "25 %", "2", "25 %", "0", "0 %", "0", "0", "2", "0", "2"]
    assert rows["complex.sans"][8:12] == ["0", "2", "0", "0"]
    assert ["complex.sce", "divergence", "2", "the loss is nan in epoch 3"] in tables[1].rows()


def test_selections_show_hash_and_openings(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished()
    section = page(record).section("selections")
    assert "Openings so far: 4." in section.text
    row = next(row for row in section.find("table")[0].rows() if row[0] == "transe.sce")
    chosen = next(s for s in record.selections if s.arm == "transe.sce")
    assert row[1:5] == [str(chosen.trial), str(chosen.epoch), f"{chosen.valid_mrr:.4f}", chosen.sha256[:16]]
    opening = next(each for each in record.openings if each.arm == "transe.sce")
    opened = datetime.fromtimestamp(opening.time, UTC)
    assert row[6:] == ["1", f"{opened:%Y-%m-%d %H:%M:%S} UTC", "held"]
    assert chosen.sha256 in {code.attributes.get("title") for code in section.find("code")}


@pytest.mark.parametrize(
    ("openings", "problem"),
    [
        (lambda s: (factory.opening(s, replicates=(t,), time=s.time + t, number=t) for t in (0, 1)), "opened 2 times"),
        (
            lambda s: (factory.opening(s, replicates=(0, 1), time=s.time - 1),),
            "before the selection was frozen",
        ),
        (
            lambda s: (replace(factory.opening(s, replicates=(0, 1), time=s.time + 1), selection_sha256="0"),),
            "a selection with another hash",
        ),
    ],
)
def test_a_broken_seal_is_said_at_the_top(
    page: Callable[[StudyRecord], Node], openings: Callable[[Selection], Iterable[Opening]], problem: str
) -> None:
    record = factory.finished()
    parsed = page(replace(record, openings=tuple(openings(record.selections[0]))))
    assert problem in parsed.find("ul", id="notices")[0].text
    assert problem in parsed.section("selections").text


def test_ties_in_the_ranks_raise_an_alarm(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished()
    metrics = (*record.replicate_records[0].test_metrics, ("mrr_optimistic", 0.3), ("mrr_pessimistic", 0.298))
    first = replace(record.replicate_records[0], test_metrics=metrics)
    parsed = page(replace(record, replicate_records=(first, *record.replicate_records[1:])))
    assert f"differ by more than 0.001 (many equal scores): {first.arm}." in parsed.find("ul", id="notices")[0].text
    assert "many equal scores" not in page(record).text


def test_missing_replicates_are_said(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished(replicates=3)
    missing, *present = record.replicate_records
    parsed = page(replace(record, replicate_records=tuple(present)))
    assert (
        f"Fewer replicates were tested than the 3 planned: {missing.arm} 2." in parsed.find("ul", id="notices")[0].text
    )


def test_one_checkpoint_under_all_seeds_is_said(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished()
    first = replace(record.arms[0], checkpoint="/home/me/a/best.pt", checkpoint_sha256="c4" * 32)
    parsed = page(replace(record, arms=(first, *record.arms[1:])))
    assert "how far they differ leaves pretraining out: complex.sce." in parsed.find("ul", id="notices")[0].text
    assert "started from the tables of a/best.pt (sha256 c4c4c4c4c4c4)" in parsed.section("methods").text


def test_the_hash_of_the_launch_outlives_an_amendment(page: Callable[[StudyRecord], Node]) -> None:
    record = replace(factory.finished(), launched_sha256="ab" * 32)
    parsed = page(record)
    assert f"sha256 {'ab' * 32}; as amended {record.spec_sha256}" in parsed.text
    assert f"the study file has a sha256 of {'ab' * 8}... at launch" in parsed.section("methods").text


def test_filtered_negatives_void_the_stated_optimum(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished()
    chosen = tuple(
        replace(s, config={**s.config, "negatives": {"filtered": True}}) if s.arm == "complex.sans" else s
        for s in record.selections
    )
    assert "so the stated optimum does not hold: complex.sans." in page(replace(record, selections=chosen)).text


# ---- data set, environment, study file


def test_passport_environment_and_commands(page: Callable[[StudyRecord], Node]) -> None:
    record = factory.finished()
    passport = {"train": 272115, "unseen": {"valid": 8}, "tags": ["a", "b"], "warnings": ["29 entities are unseen"]}
    parsed = page(replace(record, passport=passport))
    facts = {d.find("dt")[0].text: d.find("dd")[0].text for d in parsed.section("dataset").find("div")}
    assert facts == {"train": "272,115", "unseen.valid": "8", "tags": "a, b"}
    assert "29 entities are unseen" in parsed.find("ul", id="notices")[0].text
    assert "torch2.13.0" in parsed.section("environment").text.replace(" ", "")
    assert parsed.section("spec").find("pre")[0].children == [record.spec]
    commands = parsed.section("reproduce").find("pre")[0].children[0]
    assert commands == (
        "git checkout 0123abc\n"
        "make setup\n"
        f"sha256sum two-by-two.yaml   # {record.spec_sha256}\n"
        ".venv/bin/study run two-by-two.yaml --name two-by-two\n"
        ".venv/bin/study report two-by-two"
    )


def test_commands_quote_the_name_and_promise_no_hash_that_does_not_hold(page: Callable[[StudyRecord], Node]) -> None:
    parsed = page(replace(factory.finished(), name="a; rm b", spec="changed"))
    commands = parsed.section("reproduce").find("pre")[0].text
    assert "study run 'a; rm b.yaml'" in commands
    assert "sha256sum" not in commands


def test_the_page_fetches_nothing(page: Callable[[StudyRecord], Node]) -> None:
    parsed = page(factory.finished())
    assert {"script", "link", "img", "iframe"}.isdisjoint(node.tag for node in parsed.walk())
    links = {node.attributes["href"] for node in parsed.find("a")}
    assert {link for link in links if link and not link.startswith("#")} == set(FILES) - {"index.html"}
    ids = {node.attributes["id"] for node in parsed.walk() if "id" in node.attributes}
    assert {link[1:] for link in links if link and link.startswith("#")} <= ids
    style = parsed.find("style")[0].text
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style


# ---- odd records


def test_everything_from_the_record_is_escaped(page: Callable[[StudyRecord], Node], tmp_path: Path) -> None:
    record = factory.finished()
    name = f"complex.{HOSTILE}"
    trials = tuple(
        replace(t, arm=name, reason=HOSTILE, params=((HOSTILE, HOSTILE),)) if t.arm == "complex.sce" else t
        for t in record.trials
    )
    hostile = replace(
        record,
        name=HOSTILE,
        spec=HOSTILE,
        dataset=HOSTILE,
        arms=(replace(record.arms[0], name=name, training_type=HOSTILE, objective=HOSTILE), *record.arms[1:]),
        spaces=(
            SpaceCard(
                arm=name,
                tuned=(Dimension(path=HOSTILE, kind="categorical", choices=(HOSTILE,)),),
                fixed=((HOSTILE, HOSTILE),),
            ),
            *record.spaces[1:],
        ),
        trials=trials,
        passport={HOSTILE: HOSTILE, "warnings": [HOSTILE]},
        environment={HOSTILE: HOSTILE},
        selections=tuple(
            replace(s, arm=name, sha256=HOSTILE) if s.arm == "complex.sce" else s for s in record.selections
        ),
    )
    parsed = page(hostile)
    assert not parsed.find("script")
    assert parsed.find("h1")[0].text == HOSTILE
    assert parsed.section("spec").find("pre")[0].text == HOSTILE
    assert len(parsed.find("tr", data_arm=name)) == 1
    assert {row["arm"] for row in rows(tmp_path / "arms.csv")} == {name, "complex.sans", "transe.sce", "transe.sans"}


def only_one_arm(record: StudyRecord) -> StudyRecord:
    name = record.arms[0].name
    return replace(
        record,
        arms=record.arms[:1],
        spaces=record.spaces[:1],
        trials=tuple(t for t in record.trials if t.arm == name),
        selections=record.selections[:1],
        replicate_records=tuple(r for r in record.replicate_records if r.arm == name),
        openings=record.openings[:1],
    )


def long_named(record: StudyRecord) -> StudyRecord:
    name = "x" * 200 + "." + "y" * 200
    arms: tuple[Arm, ...] = (replace(record.arms[0], name=name), *record.arms[1:])
    trials = tuple(replace(t, arm=name) if t.arm == "complex.sce" else t for t in record.trials)
    return replace(bare(record), arms=arms, trials=trials, name="n" * 300)


ODD: dict[str, Callable[[StudyRecord], StudyRecord]] = {
    "no arms": lambda r: replace(bare(r), arms=(), spaces=(), trials=()),
    "no trials": lambda r: replace(bare(r), trials=()),
    "no spaces": lambda r: replace(r, spaces=()),
    "all failed": lambda r: replace(bare(r), trials=tuple(map(as_failed, r.trials))),
    "one arm": only_one_arm,
    "long names": long_named,
    "zero budget": lambda r: replace(r, budget=Cost()),
    "nothing known": lambda r: replace(r, passport={}, environment={}, spec=""),
    "name without a dot": lambda r: replace(
        bare(r), arms=(replace(r.arms[0], name="plain"),), spaces=(), trials=(replace(r.trials[0], arm="plain"),)
    ),
    "one validation": lambda r: replace(
        bare(r), trials=tuple(replace(t, curve=t.curve[:1], best_mrr=0.2) for t in r.trials)
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_records_still_make_a_report(page: Callable[[StudyRecord], Node], tmp_path: Path, name: str) -> None:
    record = ODD[name](factory.finished())
    parsed = page(record)
    assert verdict(parsed).text
    assert "None" not in parsed.text
    assert [row["arm"] for row in rows(tmp_path / "arms.csv")] == [arm.name for arm in record.arms]
    json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    for figure in re.findall(r"<svg.*?</svg>", (tmp_path / "index.html").read_text(encoding="utf-8"), flags=re.DOTALL):
        ElementTree.fromstring(figure)


def test_one_arm_has_nothing_to_compare(page: Callable[[StudyRecord], Node]) -> None:
    assert "there is nothing to compare it with" in verdict(page(only_one_arm(factory.finished()))).text


def test_an_arm_whose_trials_all_failed_has_no_best(page: Callable[[StudyRecord], Node]) -> None:
    parsed = page(ODD["all failed"](factory.finished()))
    assert "No trial has been validated." in parsed.section("progress").text
    assert "0 / 0 / 4" in parsed.section("results").text
    assert verdict(parsed).attributes["class"] == "verdict fair"  # failures are charged


# ---- CSV


def test_csv_files_hold_every_row_unrounded(tmp_path: Path) -> None:
    record = factory.finished()
    build(record, tmp_path)
    arms, trials = rows(tmp_path / "arms.csv"), rows(tmp_path / "trials.csv")
    assert [row["arm"] for row in arms] == [arm.name for arm in record.arms]
    values = [dict(r.test_metrics)["mrr"] for r in record.replicate_records if r.arm == "complex.sce"]
    assert float(arms[0]["test_mrr_mean"]) == pytest.approx(np.mean(values), rel=1e-15)
    assert arms[0]["budget_completion"] == "done"
    assert len(trials) == len(record.trials)
    first = record.trials[0]
    assert float(trials[1]["charged_epochs"]) >= 0
    match = next(row for row in trials if row["arm"] == first.arm and row["number"] == str(first.number))
    assert float(match["best_mrr"]) == first.best_mrr
    assert float(match["params.optimizer.lr"]) == dict(first.params)["optimizer.lr"]
    assert match["params.loss.temperature"] == ""
    assert match["random"] == "true"
    assert match["state"] == "COMPLETE"


def test_places_hold_every_attempt_and_the_checklist_names_the_devices(tmp_path: Path) -> None:
    place = Place(arm="complex.sce", stage="search", trial=1, attempt=2, node="f0", host="node-a", device="NVIDIA H100")
    build(replace(factory.finished(), places=(place,)), tmp_path)
    assert rows(tmp_path / "places.csv") == [{name: str(value) for name, value in vars(place).items()}]
    assert "1 training on NVIDIA H100 (1 host)" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_replicates_and_curves_have_a_column_for_each_metric(tmp_path: Path) -> None:
    record = factory.finished()
    build(record, tmp_path)
    replicates, curves = rows(tmp_path / "replicates.csv"), rows(tmp_path / "curves.csv")
    assert len(replicates) == len(record.replicate_records)
    assert float(replicates[0]["test_hits_at_10"]) > 0
    assert len(curves) == sum(len(t.curve) for t in record.trials)
    m = next(t for t in record.trials if t.arm == curves[0]["arm"]).curve[0]
    assert (float(curves[0]["mrr"]), float(curves[0]["valid_hits_at_10"])) == (m.mrr, dict(m.metrics)["hits_at_10"])


def test_a_replicate_that_failed_is_no_part_of_the_mean_on_validation(tmp_path: Path) -> None:
    record = factory.finished(replicates=3)
    *others, last = record.replicate_records
    broken = replace(last, state=TrialState.FAIL, valid_mrr=0.002, test_metrics=(), ranks_file=None)
    build(replace(record, replicate_records=(*others, broken)), tmp_path)
    found = {row["arm"]: float(row["valid_mrr_mean"]) for row in rows(tmp_path / "arms.csv")}
    whole = [each.valid_mrr for each in others if each.arm == last.arm]
    assert found[last.arm] == pytest.approx(sum(map(float, whole)) / 2)  # type: ignore[arg-type]


def test_empty_tables_keep_their_header(tmp_path: Path) -> None:
    build(ODD["no arms"](factory.finished()), tmp_path)
    for name in ("arms.csv", "trials.csv", "replicates.csv", "curves.csv", "timeline.csv"):
        assert (tmp_path / name).read_text(encoding="utf-8").startswith("arm,")
