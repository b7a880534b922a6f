"""The report of a study: one self-contained page, its tables as CSV, every number as JSON.

A report reads a StudyRecord and nothing else: no clock, no database, no cluster. The same record
gives the same bytes. The way of the data: record -> lookup -> fairness, anytime, tables, curves, pruning,
spaces, outcomes, seal -> page -> html, csv_tables, json_file.
"""

from pathlib import Path

from study.records import StudyRecord
from study.report import csv_tables, files, html, json_file
from study.report.page import assemble
from study.timeline import timeline

__all__ = ["build"]


def build(record: StudyRecord, folder: Path) -> tuple[Path, ...]:
    """Write index.html, the tables as CSV and record.json; each whole or not at all."""
    moments = timeline(record)
    page = assemble(record, moments)
    contents = {
        "index.html": html.render(record, page, moments),
        "arms.csv": csv_tables.arms(record, page),
        "trials.csv": csv_tables.trials(record),
        "replicates.csv": csv_tables.replicates(record),
        "curves.csv": csv_tables.curves(record),
        "timeline.csv": csv_tables.timeline(moments),
        "record.json": json_file.dump(record, page),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(files.write(folder / name, content) for name, content in contents.items())
