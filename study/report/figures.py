"""Figures as inline SVG: test scores with intervals, best-so-far curves, where trials lie in a range.

Colour says which objective distribution an arm has, the dash which loss within it; both are the same
in every figure. Curves are labelled where they end, so no reading depends on colour alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from study.report import svg, text
from study.report.curves import Curve
from study.report.fairness import UNIT_NAMES
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
    places = svg.spread([up(curve.points[-1].best) for curve in curves], gap=14, low=up.end, high=up.start)
    return [
        svg.element(
            "g",
            svg.title(curve.arm),
            svg.element(
                "line",
                x1=right + 4,
                x2=right + 24,
                y1=y,
                y2=y,
                class_="curve",
                stroke_dasharray=look[curve.objective, curve.loss].dash or None,
            ),
            svg.label(svg.shorten(curve.loss, _LABEL_CHARACTERS), x=right + 28, y=y + 4, class_="name"),
            class_=look[curve.objective, curve.loss].css,
        )
        for curve, y in zip(curves, places, strict=True)
    ]
