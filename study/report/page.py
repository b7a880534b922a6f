"""All the rows of a report, assembled once; the page, the tables and record.json show the same ones."""

from dataclasses import dataclass

from study.records import StudyRecord, Value
from study.report import fairness, lookup
from study.report.curves import Curve, curves
from study.report.notices import Notice, notices
from study.report.outcomes import OutcomeRow, outcomes
from study.report.seal import SealRow, seals
from study.report.spaces import CardRow, cards, fixed_everywhere
from study.report.tables import Group, headline


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a report says of a record."""

    verdict: fairness.Verdict
    notices: tuple[Notice, ...]
    groups: tuple[Group, ...]
    trial_curves: tuple[Curve, ...]
    epoch_curves: tuple[Curve, ...]
    spendings: tuple[fairness.Spending, ...]
    parities: tuple[fairness.Parity, ...]
    cards: tuple[CardRow, ...]
    fixed_everywhere: tuple[tuple[str, Value], ...]
    outcomes: tuple[OutcomeRow, ...]
    seals: tuple[SealRow, ...]

    @property
    def names_a_leader(self) -> bool:
        """True when some group marks its highest mean."""
        return any(row.leads for group in self.groups for row in group.rows)


def assemble(record: StudyRecord) -> Page:
    """The rows of a record."""
    arms = lookup.by_arm(record)
    spent = fairness.spendings(record)
    verdict = fairness.verdict(record, spent)
    space_cards, sealed = cards(arms), seals(arms)
    return Page(
        verdict=verdict,
        notices=notices(record, arms, space_cards, sealed),
        groups=headline(arms, planned=record.replicates, comparable=verdict.comparable),
        trial_curves=curves(arms, "trials"),
        epoch_curves=curves(arms, "epochs"),
        spendings=spent,
        parities=fairness.parities(record, spent),
        cards=space_cards,
        fixed_everywhere=fixed_everywhere(arms),
        outcomes=outcomes(arms),
        seals=sealed,
    )
