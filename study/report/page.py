"""All the rows of a report, assembled once; the page, the tables and record.json show the same ones."""

from dataclasses import dataclass

from study.records import StudyRecord, Value
from study.report import fairness, lookup
from study.report.amendments import AmendmentRow, amendment_rows
from study.report.anytime import Anytime, anytime
from study.report.curves import Curve, curves
from study.report.notices import Notice, notices
from study.report.outcomes import OutcomeRow, outcomes
from study.report.pruning import RungRow, rung_rows
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
    trial_curves: tuple[Curve, ...]
    cost_curves: tuple[Curve, ...]  # against device-seconds where the budget counts these, or epochs
    spendings: tuple[fairness.Spending, ...]
    parities: tuple[fairness.Parity, ...]
    anytime: Anytime | None
    rungs: tuple[RungRow, ...]
    cards: tuple[CardRow, ...]
    fixed_everywhere: tuple[tuple[str, Value], ...]
    outcomes: tuple[OutcomeRow, ...]
    seals: tuple[SealRow, ...]
    amendments: tuple[AmendmentRow, ...]

    @property
    def names_a_leader(self) -> bool:
        """True when some group marks its highest mean."""
        return any(row.leads for group in self.groups for row in group.rows)


def assemble(record: StudyRecord, moments: tuple[Moment, ...]) -> Page:
    """The rows of a record and of its timeline."""
    arms = lookup.by_arm(record)
    spent = fairness.spendings(record)
    verdict = fairness.verdict(record, spent)
    space_cards, sealed, rungs = cards(arms), seals(arms, record.amendments), rung_rows(record, arms)
    changed = amendment_rows(record)
    return Page(
        verdict=verdict,
        notices=notices(record, arms, cards=space_cards, seals=sealed, rungs=rungs, changed=changed, spent=spent),
        groups=headline(arms, planned=record.replicates, comparable=verdict.comparable),
        trial_curves=curves(arms, "trials"),
        cost_curves=curves(arms, "device_seconds" if record.budget_unit == "device_seconds" else "epochs"),
        spendings=spent,
        parities=fairness.parities(record, spent),
        anytime=anytime(record, moments),
        rungs=rungs,
        cards=space_cards,
        fixed_everywhere=fixed_everywhere(arms),
        outcomes=outcomes(arms),
        seals=sealed,
        amendments=changed,
    )
