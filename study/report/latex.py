r"""tables.tex: the tables of the page for a paper, with booktabs, and the methods paragraph.

The file is a document of its own (`pdflatex tables.tex`), and can be brought into another one after its
\begin{document} (`\input{tables}`; needs booktabs and the T1 font encoding there). Text is ASCII and Latin-1
when it leaves here: what pdflatex has no letter for is written as its code point.
"""

import re
from collections.abc import Iterable, Sequence

from study.budget import UNIT_NAMES, UNITS
from study.records import StudyRecord
from study.report import text
from study.report.decisions import Decision, Decisions
from study.report.fairness import Parity, Spending, budget_text
from study.report.page import Page
from study.report.tables import HITS, Group, HeadlineRow
from study.stats import Summary

# \@nodocument is \relax from \begin{document} on, so that the file knows where it is read.
_BEGIN = r"""% Alone: pdflatex tables.tex.  In a paper with \usepackage{booktabs}: \input{tables}
\expandafter\ifx\csname @nodocument\endcsname\relax
\let\finishtables\relax
\else
\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs}
\setlength{\belowcaptionskip}{4pt}
\def\finishtables{\end{document}}
\begin{document}
\fi
"""
_END = "\\finishtables\n"
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    '"': "''{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\n": " ",
    "\u00ad": "",
    "–": r"\textendash{}",
    "−": r"$-$",
    "×": r"$\times$",
    "∞": r"$\infty$",
    "…": r"\dots{}",
}


def render(record: StudyRecord, page: Page) -> str:
    """The text of tables.tex."""
    tables = [_searches(page.groups)] if page.withheld else [_results(record, group) for group in page.groups]
    tables += [_decisions(record, page.decisions)] if page.decisions.rows else []
    tables += [_budgets(record, page.spendings, page.parities)]
    methods = f"\\paragraph{{Methods}} {escape(page.methods)}\n"
    return "\n".join((_BEGIN, *tables, methods, _END))


def escape(content: str) -> str:
    """Any text as LaTeX shows it."""
    return re.sub("-(?=-)", "-{}", "".join(_character(each) for each in content))  # hyphens in a row are no dash


def table(*, caption: str, label: str, columns: str, head: Sequence[str], rows: Iterable[str]) -> str:
    """A floating table; rows are LaTeX already, the rest is escaped where it is text."""
    lines = (
        r"\begin{table}[htbp]",
        r"\centering",
        r"\small",
        f"\\caption{{{escape(caption)}}}",
        f"\\label{{{label}}}",
        f"\\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        row(head),
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    )
    return "\n".join(lines) + "\n"


def row(cells: Iterable[str]) -> str:
    """One line of a table. LaTeX would take a [ or * at its start for an option of what stands before it."""
    line = " & ".join(cells)
    return ("{}" if line.startswith(("[", "*")) else "") + line + r" \\"


def _results(record: StudyRecord, group: Group) -> str:
    about = f"{record.dataset_name}, losses that aim at {group.title}"
    said = f"Test results on {about}: mean and standard deviation over seeds."
    if any(each.leads for each in group.rows):
        said += " Bold: the highest mean, which orders means and decides nothing."
    return table(
        caption=said,
        label=f"tab:results-{_slug(group.objective)}",
        columns="llcccccc",
        head=("Model", "Loss", "MRR", r"95\,\% interval", *(_hits(name) for name in HITS), "Seeds"),
        rows=[row(_result(each)) for each in group.rows],
    )


def _result(each: HeadlineRow) -> Iterable[str]:
    mrr = each.test_mrr
    yield escape(each.model)
    yield escape(each.loss)
    yield f"\\textbf{{{_spread(mrr)}}}" if each.leads else _spread(mrr)
    yield "--" if mrr.low is None else f"[{_score(mrr.low)}, {_score(mrr.high)}]"
    yield from (_spread(each.hits[name]) for name in HITS)
    yield str(mrr.count) if mrr.count == each.seeds_planned else f"{mrr.count} of {each.seeds_planned}"


def _searches(groups: Iterable[Group]) -> str:
    """Where nothing was tested there is only what the searches found."""
    rows = [each for group in groups for each in group.rows]
    ends = ("complete", "pruned", "failed")
    return table(
        caption="The best validation score of each search, a maximum over its trials and therefore optimistic.",
        label="tab:searches",
        columns="lcrrr",
        head=("Arm", "Best", *(end.capitalize() for end in ends)),
        rows=[
            row((escape(each.arm), _score(each.search_best), *(str(getattr(each.counts, end)) for end in ends)))
            for each in rows
        ],
    )


def _decisions(record: StudyRecord, decisions: Decisions) -> str:
    share = text.percent(record.comparison.confidence)
    return table(
        caption=f"Pairs of arms: difference of mean reciprocal ranks with its {share} interval (paired bootstrap over"
        " test triples and seeds), p-value adjusted over all pairs after Holm, probability that a new seed of A scores"
        " above one of B, Hedges' g.",
        label="tab:decisions",
        columns="llcccccl",
        head=("A", "B", "A $-$ B", "Interval", "Adjusted $p$", "A beats B", "$g$", "Verdict"),
        rows=[row(_decision(each)) for each in decisions.rows],
    )


def _decision(each: Decision) -> Iterable[str]:
    pair = each.pair
    yield escape(pair.first)
    yield escape(pair.second)
    yield escape(text.signed(pair.difference))
    yield escape(f"[{text.signed(pair.low)}, {text.signed(pair.high)}]")
    yield escape(text.p_value(pair.adjusted))
    yield f"{pair.beats:.2f}"
    yield escape(text.correlation(pair.effect))
    yield escape(each.outcome.value if each.better is None else f"{each.better} better")


def _budgets(record: StudyRecord, spendings: Iterable[Spending], parities: Sequence[Parity]) -> str:
    factors = {parity.unit: escape(text.factor(parity.factor)) for parity in parities}
    rows = [row(_spent(each)) for each in spendings]
    last = row(("largest / smallest", *(factors[unit] for unit in UNITS), "", ""))
    return table(
        caption=f"What each arm spent on its search; the budget is {budget_text(record)}.",
        label="tab:budgets",
        columns="lrrrrl",
        head=("Arm", *(escape(UNIT_NAMES[unit].capitalize()) for unit in UNITS), "Share", "State"),
        rows=[*rows, r"\midrule", last],
    )


def _spent(each: Spending) -> Iterable[str]:
    yield escape(each.arm)
    yield from (text.whole(getattr(each.search, unit)) for unit in UNITS)
    yield escape(text.percent(each.share))
    yield escape(each.completion.value)


def _hits(name: str) -> str:
    return f"Hits@{name.removeprefix('hits_at_')}"


def _spread(summary: Summary) -> str:
    return _score(summary.mean) + ("" if summary.std is None else f" $\\pm$ {_score(summary.std)}")


def _score(value: float | None) -> str:
    return escape(text.score(value))


def _slug(name: str) -> str:
    return "".join(each if each.isascii() and each.isalnum() else "-" for each in name)


def _character(each: str) -> str:
    if each in _ESCAPES:
        return _ESCAPES[each]
    if each.isprintable() and (each.isascii() or "\u00a1" <= each <= "\u00ff"):
        return each
    return " " if each.isspace() else f"[U+{ord(each):04X}]"
