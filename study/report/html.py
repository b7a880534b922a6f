"""The page: rows and figures poured into page.html.j2, one file with nothing to fetch.

Every string of the record passes the template's escaping; only the SVG made in figures.py, which
escapes for itself, does not.
"""

import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

import jinja2

from study.budget import UNIT_NAMES, amount
from study.expected_best import is_pruned
from study.records import StudyRecord
from study.report import anytime, decisions, figures, hardware, outcomes, readings, text
from study.report.expected import FlipRow
from study.report.fairness import budget_text, cost_unit, repeated
from study.report.json_file import plain
from study.report.notices import passport_warnings
from study.report.page import Page
from study.report.slices import slice_tables
from study.timeline import Moment

_FORMATS = (
    text.score,
    text.gap,
    text.signed,
    text.correlation,
    text.whole,
    text.p_value,
    text.spent,
    text.percent,
    text.factor,
    text.value,
    text.duration,
    text.moment,
)


_ROWS = 15  # of a table of pairs; the rest is in its CSV file


def render(record: StudyRecord, page: Page, moments: tuple[Moment, ...], *, files: tuple[str, ...]) -> str:
    """The text of index.html; `files` are those beside it."""
    look = figures.styles(page.groups)
    by_arm = {row.arm: look[row.objective, row.loss] for group in page.groups for row in group.rows}
    passport = {key: value for key, value in record.passport.items() if key != "warnings"}
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            record=record,
            page=page,
            budget=budget_text(record),
            repeated=repeated(record),
            unit_names=UNIT_NAMES,
            hues=figures.HUES,
            scores=figures.scores(page.groups, look),
            differences=figures.difference_scale(page.decisions.rows),
            resamples=decisions.RESAMPLES,
            power=decisions.POWER,
            expected=_expected_panels(record, page, look),
            pruned_arms=[arm.name for arm in record.arms if is_pruned(record.trials_of(arm.name))],
            flips=_most_flipped(page),
            reading_summary=readings.summary(page.readings),
            crossings=page.crossings[:_ROWS],
            slices=slice_tables(page.slices),
            chance=outcomes.chance(record),
            panels=_panels(record, page, look),
            over_time=anytime.panels(record, moments, by_arm),
            passport=tuple(_facts(passport)),
            passport_warnings=passport_warnings(record),
            environment=tuple(_facts(record.environment)),
            commands=_commands(record),
            files=files,
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {function.__name__: function for function in _FORMATS}
    environment.filters |= {"strip": figures.strip, "interval": figures.interval_strip}
    return environment


def _most_flipped(page: Page) -> tuple[FlipRow, ...]:
    """The pairs in their order, or the few whose order is least settled."""
    if len(page.flips) <= _ROWS:
        return page.flips
    return tuple(sorted(page.flips, key=lambda row: -sum(probability for _, probability in row.shown))[:_ROWS])


def _panels(record: StudyRecord, page: Page, look: figures.Styles) -> tuple[figures.Panel, ...]:
    """For each model the panel against trials, then the one against epochs or device-seconds."""
    limit = amount(record.budget, record.budget_unit)
    in_trials, in_cost = (limit, None) if record.budget_unit == "trials" else (None, limit)
    floor = figures.floor(page.trial_curves or page.cost_curves)
    by_trials = figures.curve_panels(page.trial_curves, look, floor=floor, budget=in_trials)
    by_cost = figures.curve_panels(page.cost_curves, look, floor=floor, budget=in_cost)
    return _side_by_side(by_trials, by_cost)


def _expected_panels(record: StudyRecord, page: Page, look: figures.Styles) -> tuple[figures.Panel, ...]:
    """For each model the panel against trials, then the one against what these cost."""
    return _side_by_side(
        *(figures.expected_panels(page.expected, look, unit=unit) for unit in ("trials", cost_unit(record)))
    )


def _side_by_side(*panels: Iterable[figures.Panel]) -> tuple[figures.Panel, ...]:
    """Those of one model together."""
    every = tuple(chain(*panels))
    models = dict.fromkeys(panel.caption for panel in every)
    return tuple(panel for model in models for panel in every if panel.caption == model)


def _facts(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """A nested mapping as (dotted path, text), sorted by path."""
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from _facts(value[key], f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        simple = all(not isinstance(item, Mapping | list | tuple) for item in value)
        yield path, ", ".join(_fact(item) for item in value) if simple else json.dumps(plain(value), sort_keys=True)
    else:
        yield path, _fact(value)


def _fact(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return text.whole(value)
    return text.value(value) if isinstance(value, float | bool | None) else str(value)


def _commands(record: StudyRecord) -> str:
    """What to type to run the study again."""
    file, name = shlex.quote(f"{record.name}.yaml"), shlex.quote(record.name)
    commit, _, note = hardware.commit(record.environment).partition(" ")
    lines = [f"git checkout {shlex.quote(commit)}" + (f"   # {note}" if note else "")] if commit else []
    lines.append("make setup")
    if hashlib.sha256(record.spec.encode()).hexdigest() == record.spec_sha256:
        lines.append(f"sha256sum {file}   # {record.spec_sha256}")
    lines += [f".venv/bin/study run {file} --name {name}", f".venv/bin/study report {name}"]
    return "\n".join(lines)
