"""The report of a study: one self-contained page, its tables as CSV and LaTeX, every number as JSON.

A report reads a StudyRecord and the plain numbers that it is handed (study.evidence): no clock, no database, no
cluster. The same ones give the same bytes. The way of the data: record -> lookup -> fairness, anytime, tables,
decisions, expected, readings, curves, pruning, spaces, outcomes, seal, methods, checklist -> page -> html,
csv_tables, latex, methods_file, json_file.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from study.records import Importance, SliceRecord, StudyRecord
from study.report import csv_tables, files, html, json_file, latex, methods_file
from study.report.decisions import Ranks
from study.report.page import assemble
from study.timeline import timeline

__all__ = ["SLICES", "build"]

SLICES = "slices.csv"


def build(
    record: StudyRecord,
    folder: Path,
    *,
    ranks: Ranks | None = None,
    importances: Iterable[Importance] = (),
    slices: Iterable[SliceRecord] = (),
    num_parameters: Mapping[str, int] | None = None,
) -> tuple[Path, ...]:
    """Write the page, the tables and record.json; each whole or not at all.

    Args:
        record: the study.
        folder: where the files go.
        ranks: reciprocal ranks of the tested replicates, a row a seed (study.ranks); without them nothing is decided.
        importances: of the tuned dimensions (study.importance).
        slices: of the test results (study.evidence).
        num_parameters: of the selection of each arm.
    """
    moments = timeline(record)
    page = assemble(record, moments, ranks=ranks, importances=importances, slices=slices, num_parameters=num_parameters)
    tables = {
        "arms.csv": csv_tables.arms(record, page),
        "trials.csv": csv_tables.trials(record),
        "replicates.csv": csv_tables.replicates(record),
        "curves.csv": csv_tables.curves(record),
        "timeline.csv": csv_tables.timeline(moments),
        "decisions.csv": csv_tables.decisions(page),
        "expected_best.csv": csv_tables.expected_best(page),
        "flips.csv": csv_tables.flips(page),
        "readings.csv": csv_tables.readings(page),
        "crossings.csv": csv_tables.crossings(page),
        "importances.csv": csv_tables.importances(page),
        SLICES: csv_tables.slices(page),
        "places.csv": csv_tables.places(record),
        "tables.tex": latex.render(record, page),
        "methods.txt": methods_file.render(record, page),
        "record.json": json_file.dump(record, page),
    }
    contents = {"index.html": html.render(record, page, moments, files=tuple(tables)), **tables}
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(files.write(folder / name, content) for name, content in contents.items())
