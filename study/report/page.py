"""All the rows of a report, assembled once; the page, the tables and record.json show the same ones."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from study.budget import UNITS
from study.records import Importance, SliceRecord, StudyRecord, Value
from study.report import fairness, lookup, methods
from study.report.amendments import AmendmentRow, amendment_rows
from study.report.anytime import Anytime, anytime
from study.report.checklist import Item, checklist
from study.report.curves import Curve, curves
from study.report.decisions import Decisions, Ranks, decisions, pairs_of
from study.report.expected import ExpectedCurve, FlipRow, expected_curves, flip_rows
from study.report.imported import Withheld, withheld
from study.report.notices import Notice, notices
from study.report.outcomes import OutcomeRow, chance, outcomes
from study.report.pruning import RungRow, rung_rows
from study.report.readings import Crossing, Reading, crossings, readings
from study.report.seal import SealRow, seals
from study.report.spaces import CardRow, cards, fixed_everywhere
from study.report.tables import Group, headline
from study.timeline import Moment


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a report says of a record."""

    verdict: fairness.Verdict
    notices: tuple[Notice, ...]
    groups: tuple[Group, ...]
    decisions: Decisions
    expected: tuple[ExpectedCurve, ...]
    flips: tuple[FlipRow, ...]
    readings: tuple[Reading, ...]
    crossings: tuple[Crossing, ...]
    slices: tuple[SliceRecord, ...]
    trial_curves: tuple[Curve, ...]
    cost_curves: tuple[Curve, ...]  # against epochs or device-seconds (fairness.cost_unit)
    spendings: tuple[fairness.Spending, ...]
    num_parameters: Mapping[str, int]  # of the selection of each arm, where it is known
    parities: tuple[fairness.Parity, ...]
    anytime: Anytime | None
    rungs: tuple[RungRow, ...]
    cards: tuple[CardRow, ...]
    fixed_everywhere: tuple[tuple[str, Value], ...]
    outcomes: tuple[OutcomeRow, ...]
    seals: tuple[SealRow, ...]
    amendments: tuple[AmendmentRow, ...]
    methods: str
    checklist: tuple[Item, ...]
    withheld: tuple[Withheld, ...]  # of a table of another tool's trials

    @property
    def names_a_leader(self) -> bool:
        """True when some group marks its highest mean."""
        return any(row.leads for group in self.groups for row in group.rows)


def assemble(
    record: StudyRecord,
    moments: tuple[Moment, ...],
    *,
    ranks: Ranks | None = None,
    importances: Iterable[Importance] = (),
    slices: Iterable[SliceRecord] = (),
    num_parameters: Mapping[str, int] | None = None,
) -> Page:
    """The rows of a record, of its timeline, and of what was read beside it."""
    arms = lookup.by_arm(record)
    spent = fairness.spendings(record)
    verdict = fairness.verdict(record, spent)
    space_cards, sealed, rungs = cards(arms, importances), seals(arms, record.amendments), rung_rows(record, arms)
    changed, pairs = amendment_rows(record), pairs_of(record)
    by_unit = {unit: curves(arms, unit) for unit in UNITS}
    read = readings([arm.name for arm in record.arms], by_unit.values()) if verdict.comparable else ()
    decided = decisions(record, arms, ranks, verdict)
    return Page(
        verdict=verdict,
        notices=notices(record, arms, cards=space_cards, seals=sealed, rungs=rungs, changed=changed, spent=spent),
        groups=headline(arms, planned=record.replicates, comparable=verdict.comparable),
        decisions=decided,
        expected=expected_curves(arms, confidence=record.comparison.confidence),
        flips=flip_rows(arms, pairs, seed=record.seed, comparable=verdict.comparable),
        readings=read,
        crossings=crossings(read, by_unit.values(), pairs),
        slices=tuple(slices),
        trial_curves=by_unit["trials"],
        cost_curves=by_unit[fairness.cost_unit(record)],
        spendings=spent,
        num_parameters=num_parameters or {},
        parities=fairness.parities(record, spent),
        anytime=anytime(record, moments),
        rungs=rungs,
        cards=space_cards,
        fixed_everywhere=fixed_everywhere(arms),
        outcomes=outcomes(arms, chance=chance(record)),
        seals=sealed,
        amendments=changed,
        methods=methods.paragraph(record, verdict=verdict, seals=sealed, decided=decided),
        checklist=checklist(record, verdict=verdict, seals=sealed),
        withheld=withheld(record),
    )
