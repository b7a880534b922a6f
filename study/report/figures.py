"""Figures as inline SVG: test scores with intervals, curves, where trials lie in a range, differences.

Colour says which objective distribution an arm has, the dash which loss within it; both are the same
in every figure. Curves are labelled where they end, so no reading depends on colour alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from study.budget import UNIT_NAMES
from study.expected_best import ExpectedBest
from study.report import svg, text
from study.report.curves import Curve
from study.report.decisions import Decision
from study.report.expected import ExpectedCurve
from study.report.spaces import DimensionRow
from study.report.tables import Group, HeadlineRow

HUES = 6  # series-0 to series-5 of the style sheet
_DASHES = ("", "7 4", "2 3", "9 3 2 3", "12 4", "4 2 1 2")

_WIDTH = 520.0
_PANEL_HEIGHT = 270.0
_LABEL_CHARACTERS = 12


@dataclass(frozen=True, kw_only=True)
class Style:
    """How one loss of one objective is drawn."""

    css: str
    dash: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One chart with its caption."""

    caption: str
    svg: str


Styles = dict[tuple[str, str], Style]


def styles(groups: Iterable[Group]) -> Styles:
    """(objective, loss label) -> style, by order of appearance."""
    found: Styles = {}
    for hue, group in enumerate(groups):
        losses = list(dict.fromkeys(row.loss for row in group.rows))
        for index, loss in enumerate(losses):
            css, dash = f"series-{hue % HUES}", _DASHES[index % len(_DASHES)]
            found[group.objective, loss] = Style(css=css, dash=dash)
    return found


def scores(groups: Sequence[Group], look: Styles) -> str:
    """Test MRR of each arm: mean, interval, single seeds, and the search best as an open diamond."""
    rows = [row for group in groups for row in group.rows]
    values = [value for row in rows for value in _extent(row)]
    if not any(row.test_values for row in rows):
        return ""
    left, line = 200.0, 24.0
    width = 860.0
    scale = svg.nice_scale(min(values), max(values), start=left, end=width - 24, ticks=8)
    parts: list[str] = []
    y = 18.0
    for group in groups:
        parts.append(svg.label(group.title, x=0, y=y + 4, class_="group"))
        y += line
        for row in group.rows:
            parts.append(_score_row(row, look[row.objective, row.loss], scale, y))
            y += line
        y += 6
    grid = [svg.vertical(scale, tick, 8, y) for tick in scale.ticks]
    axis = svg.label("MRR", x=(left + width) / 2, y=y + 36, class_="axis", text_anchor="middle")
    return svg.figure(width, y + 42, "Test MRR of each arm with 95 % intervals", [*grid, *parts, axis])


def floor(curves: Sequence[Curve]) -> float:
    """Where the vertical axis starts: the lowest first best, below which nothing is worth the room."""
    return min((curve.points[0].best for curve in curves), default=0.0)


def curve_panels(curves: Sequence[Curve], look: Styles, *, floor: float, budget: float | None) -> tuple[Panel, ...]:
    """One panel a model, all on the same axes, so that panels can be read against one another."""
    if not curves:
        return ()
    highest = max(curve.points[-1].best for curve in curves)
    across = svg.nice_scale(0, max([*(curve.end for curve in curves), budget or 0]), start=46, end=_WIDTH - 116, step=1)
    up = svg.nice_scale(floor, highest, start=_PANEL_HEIGHT - 44, end=14)
    models = list(dict.fromkeys(curve.model for curve in curves))
    return tuple(
        Panel(caption=model, svg=_panel([c for c in curves if c.model == model], look, across, up, budget))
        for model in models
    )


def expected_panels(curves: Sequence[ExpectedCurve], look: Styles, *, unit: str) -> tuple[Panel, ...]:
    """The expected best of fewer random trials: one panel a model, all on the same axes; none if one cost nothing."""
    if not curves or not all(curve.places(unit)[-1] for curve in curves):
        return ()
    every = [point for curve in curves for point in curve.points]
    longest = max(curve.places(unit)[-1] for curve in curves)
    across = svg.nice_scale(0, longest, start=46, end=_WIDTH - 116, step=1)
    highest = max(point.mean if point.high is None else max(point.mean, point.high) for point in every)
    up = svg.nice_scale(min(curve.points[0].mean for curve in curves), highest, start=_PANEL_HEIGHT - 44, end=14)
    models = list(dict.fromkeys(curve.model for curve in curves))
    return tuple(
        Panel(caption=model, svg=_expected_panel([c for c in curves if c.model == model], look, across, up, unit))
        for model in models
    )


def interval_strip(row: Decision, scale: svg.Scale) -> str:
    """The interval of a difference beside zero, on the scale that all rows share."""
    pair = row.pair
    says = f"{pair.first} - {pair.second}: {text.signed(pair.difference)}"
    parts = [
        svg.title(f"{says} [{text.signed(pair.low)}, {text.signed(pair.high)}]"),
        svg.element("line", x1=scale(0), x2=scale(0), y1=0, y2=16, class_="zero"),
        svg.element("line", x1=scale(pair.low), x2=scale(pair.high), y1=8, y2=8, class_=f"difference {row.outcome}"),
        svg.element("circle", cx=scale(pair.difference), cy=8, r=3.5, class_=f"difference {row.outcome}"),
    ]
    return svg.figure(132, 16, says, parts, css="strip")


def difference_scale(rows: Iterable[Decision]) -> svg.Scale:
    """From the lowest to the highest end of an interval, zero included."""
    ends = [0.0, *(end for row in rows for end in (row.pair.low, row.pair.high))]
    low, high = min(ends), max(ends)
    if not high > low:
        low, high = -1.0, 1.0
    return svg.Scale(low=low, high=high, start=6, end=126, ticks=(), decimals=0)


def strip(row: DimensionRow) -> str:
    """Where the trials (ticks) and the best one (dot) lie between the bounds of a dimension."""
    if row.position is None:
        return ""
    width, start, end, middle = 132.0, 6.0, 126.0, 8.0

    def x(place: float) -> float:
        return start + place * (end - start)

    tried = "".join(f"M{svg.number(x(place))} 4V12" for place in row.tried)
    parts = [
        svg.title(f"best: {row.path} = {text.value(row.best)} in {row.range}"),
        svg.element("line", x1=start, x2=end, y1=middle, y2=middle, class_="range"),
        svg.element("path", d=tried, class_="tried") if tried else "",
        svg.element("circle", cx=x(row.position), cy=middle, r=4, class_="edge" if row.warning else "best"),
    ]
    return svg.figure(width, 16, f"best of {row.path} within its range", parts, css="strip")


def _extent(row: HeadlineRow) -> list[float]:
    """All values that a row of the score figure shows."""
    found = [*row.test_values, row.test_mrr.low, row.test_mrr.high, row.search_best]
    return [value for value in found if value is not None]


def _score_row(row: HeadlineRow, style: Style, scale: svg.Scale, y: float) -> str:
    test = row.test_mrr
    says = f"{row.arm}: {_summary(row)}; search best on validation {text.score(row.search_best)} (optimistic)"
    parts = [svg.title(says), svg.label(svg.shorten(row.arm, 28), x=188, y=y + 4, class_="name", text_anchor="end")]
    parts += [svg.element("circle", cx=scale(value), cy=y, r=2.2, class_="seed") for value in row.test_values]
    if test.low is not None and test.high is not None:
        parts.append(svg.element("line", x1=scale(test.low), x2=scale(test.high), y1=y, y2=y, class_="interval"))
    if test.mean is not None:
        parts.append(svg.element("circle", cx=scale(test.mean), cy=y, r=5, class_="mean"))
    if row.search_best is not None:
        x = svg.number(scale(row.search_best))
        parts.append(svg.element("path", d=f"M{x} {svg.number(y - 5)}l5 5l-5 5l-5 -5z", class_="optimistic"))
    return svg.element("g", *parts, class_=style.css)


def _summary(row: HeadlineRow) -> str:
    test = row.test_mrr
    if test.mean is None:
        return "no tested replicate"
    interval = "" if test.low is None else f" [{text.score(test.low)}, {text.score(test.high)}]"
    return f"test MRR {text.score(test.mean)}{interval} over {text.plural(test.count, 'seed')}"


def _panel(curves: Sequence[Curve], look: Styles, across: svg.Scale, up: svg.Scale, budget: float | None) -> str:
    left, right, bottom = across.start, across.end, up.start
    unit = UNIT_NAMES[curves[0].unit]
    parts = [svg.vertical(across, tick, up.end, bottom) for tick in across.ticks]
    parts += [svg.horizontal(up, tick, left, right) for tick in up.ticks]
    if budget:
        x = across(budget)
        parts.append(svg.element("line", svg.title("budget"), x1=x, x2=x, y1=up.end, y2=bottom, class_="budget"))
    parts += [_curve(curve, look[curve.objective, curve.loss], across, up) for curve in curves]
    parts += _end_labels(curves, look, up, right)
    parts.append(svg.label(f"charged {unit}", x=(left + right) / 2, y=bottom + 36, class_="axis", text_anchor="middle"))
    name = f"Best validation MRR so far against charged {unit}, {curves[0].model}"
    return svg.figure(_WIDTH, _PANEL_HEIGHT, name, parts)


def _expected_panel(curves: Sequence[ExpectedCurve], look: Styles, across: svg.Scale, up: svg.Scale, unit: str) -> str:
    left, right, bottom = across.start, across.end, up.start
    parts = [svg.vertical(across, tick, up.end, bottom) for tick in across.ticks]
    parts += [svg.horizontal(up, tick, left, right) for tick in up.ticks]
    styles = [look[curve.objective, curve.loss] for curve in curves]
    parts += [_band(curve, style, across, up, unit) for curve, style in zip(curves, styles, strict=True)]
    parts += [_expected(curve, style, across, up, unit) for curve, style in zip(curves, styles, strict=True)]
    ends = [(curve.arm, curve.loss, curve.points[-1].mean, style) for curve, style in zip(curves, styles, strict=True)]
    parts += _labels_at_end(ends, up, right)
    axis = "random trials" if unit == "trials" else f"{UNIT_NAMES[unit]} of that many random trials, on average"
    parts.append(svg.label(axis, x=(left + right) / 2, y=bottom + 36, class_="axis", text_anchor="middle"))
    name = f"Expected best validation MRR against {axis}, {curves[0].model}"
    return svg.figure(_WIDTH, _PANEL_HEIGHT, name, parts)


def _band(curve: ExpectedCurve, style: Style, across: svg.Scale, up: svg.Scale, unit: str) -> str:
    """Where the median best lies, as far as the trials bound it from both sides."""
    bounds = [
        (across(charge), up(max(p.low, up.low)), up(p.high))
        for p, charge in zip(curve.points, curve.places(unit), strict=True)
        if p.low is not None and p.high is not None
    ]
    if len(bounds) < 2:
        return ""
    over = "L".join(f"{svg.number(x)} {svg.number(high)}" for x, _, high in bounds)
    under = "L".join(f"{svg.number(x)} {svg.number(low)}" for x, low, _ in reversed(bounds))
    return svg.element("g", svg.element("path", d=f"M{over}L{under}Z", class_="band"), class_=style.css)


def _expected(curve: ExpectedCurve, style: Style, across: svg.Scale, up: svg.Scale, unit: str) -> str:
    places = [(p, charge, across(charge)) for p, charge in zip(curve.points, curve.places(unit), strict=True)]
    path = "L".join(f"{svg.number(x)} {svg.number(up(max(p.mean, up.low)))}" for p, _, x in places)
    marks = [
        svg.element("circle", svg.title(_says(curve, p, charge, unit)), cx=x, cy=up(p.mean), r=4, class_="probe")
        for p, charge, x in places
    ]
    line = svg.element("path", d=f"M{path}", class_="curve", stroke_dasharray=style.dash or None)
    return svg.element("g", line, *marks, class_=style.css)


def _says(curve: ExpectedCurve, point: ExpectedBest, charge: float, unit: str) -> str:
    low, high = text.score(point.low), text.score(point.high)
    cost = "" if unit == "trials" else f", {text.whole(charge)} {UNIT_NAMES[unit]} on average"
    return (
        f"{curve.arm}: best of {text.plural(point.trials, 'random trial')}{cost}: mean {text.score(point.mean)}, "
        f"median {text.score(point.median)} [{low}, {high}]"
    )


def _curve(curve: Curve, style: Style, across: svg.Scale, up: svg.Scale) -> str:
    """Steps: a best stands until a later charge improves on it; what is below the axis runs along it."""
    first, last = curve.points[0], curve.points[-1]

    def y(best: float) -> str:
        return svg.number(up(max(best, up.low)))

    path = f"M{svg.number(across(first.charged))} {y(first.best)}"
    path += "".join(f"H{svg.number(across(point.charged))}V{y(point.best)}" for point in curve.points[1:])
    path += f"H{svg.number(across(curve.end))}"
    unit = UNIT_NAMES[curve.unit]
    marks = [
        svg.element(
            "circle",
            svg.title(f"{curve.arm}: {text.score(point.best)} after {text.whole(point.charged)} {unit}"),
            cx=across(point.charged),
            cy=up(point.best),
            r=2.6 if curve.unit == "trials" else 4,
            class_="point" if curve.unit == "trials" else "probe",
        )
        for point in curve.points
        if point.best >= up.low
    ]
    says = f"{curve.arm}: {text.score(last.best)} after {text.whole(curve.end)} {unit}"
    line = svg.element("path", svg.title(says), d=path, class_="curve", stroke_dasharray=style.dash or None)
    return svg.element("g", line, *marks, class_=style.css)


def _end_labels(curves: Sequence[Curve], look: Styles, up: svg.Scale, right: float) -> list[str]:
    ends = [(c.arm, c.loss, c.points[-1].best, look[c.objective, c.loss]) for c in curves]
    return _labels_at_end(ends, up, right)


def _labels_at_end(ends: Sequence[tuple[str, str, float, Style]], up: svg.Scale, right: float) -> list[str]:
    """For each (arm, loss, value, style) a piece of its line and its loss, beside where it ends."""
    places = svg.spread([up(value) for _, _, value, _ in ends], gap=14, low=up.end, high=up.start)
    return [
        svg.element(
            "g",
            svg.title(arm),
            svg.element(
                "line", x1=right + 4, x2=right + 24, y1=y, y2=y, class_="curve", stroke_dasharray=style.dash or None
            ),
            svg.label(svg.shorten(loss, _LABEL_CHARACTERS), x=right + 28, y=y + 4, class_="name"),
            class_=style.css,
        )
        for (arm, loss, _, style), y in zip(ends, places, strict=True)
    ]
