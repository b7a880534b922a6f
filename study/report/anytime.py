"""Fair at every moment? How far apart the arms were, in words and in two figures over time.

A figure has one step per unit of its width at most, so that a study of many trials stays a small page;
timeline.csv has every moment.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from study import timeline
from study.budget import UNIT_NAMES, amount
from study.records import StudyRecord
from study.report import svg, text
from study.report.figures import Panel, Style
from study.timeline import Moment

_WIDTH, _HEIGHT = 520.0, 230.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, _WIDTH - 24, 12.0, _HEIGHT - 44
_UNITS = ((7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))  # from, seconds in it, name


@dataclass(frozen=True, kw_only=True)
class Anytime:
    """The largest distance between two arms, charged and reserved."""

    gap: float  # in trials' worth
    amount: float  # in the declared unit
    time: float
    ahead: str
    behind: str
    sentence: str


def anytime(record: StudyRecord, moments: tuple[Moment, ...]) -> Anytime | None:
    """The moment at which arms were furthest apart; None where nothing started or there is one arm."""
    if not moments or len(record.arms) < 2:
        return None
    widest = max(moments, key=lambda moment: moment.gap)
    apart = widest.gap * timeline.worth(record)
    after = text.duration(widest.time - moments[0].time)
    stopped = ", which got no more trials" if any(stop.arm == widest.behind for stop in record.stops) else ""
    return Anytime(
        gap=widest.gap,
        amount=apart,
        time=widest.time,
        ahead=widest.ahead,
        behind=widest.behind,
        sentence=f"The arms were never further apart than {_distance(record, widest.gap, apart)}: {after} after the "
        f"first trial started, {widest.ahead} was that far ahead of {widest.behind}{stopped}.",
    )


def panels(record: StudyRecord, moments: tuple[Moment, ...], styles: Mapping[str, Style]) -> tuple[Panel, ...]:
    """Charged + reserved of each arm over time, and the distance between the arms."""
    if not moments:
        return ()
    clock, limit = _clock(moments), amount(record.budget, record.budget_unit)
    up = svg.nice_scale(0, max(limit, *(moment.committed for moment in moments)), start=_BOTTOM, end=_TOP)
    lines = (_line(arm.name, moments, styles[arm.name], clock, up) for arm in record.arms)
    chart = _chart("of each arm", clock, up, [_level(up, limit, "budget"), *lines])
    found = [Panel(caption=f"Charged + reserved {UNIT_NAMES[record.budget_unit]}", svg=chart)]
    if len(record.arms) > 1:
        up = svg.nice_scale(0, max(1.0, *(moment.gap for moment in moments)), start=_BOTTOM, end=_TOP)
        chart = _chart("between the arms", clock, up, [_level(up, 1.0, "one trial's worth"), _gaps(moments, clock, up)])
        found.append(Panel(caption="Largest distance between two arms, in trials' worth", svg=chart))
    return tuple(found)


def _distance(record: StudyRecord, gap: float, apart: float) -> str:
    if record.budget_unit == "trials":
        return text.plural(round(apart), "trial")
    amount = f"{apart:,.1f}" if record.budget_unit == "device_seconds" else f"{apart:,.0f}"
    return f"{gap:.2f} trials' worth ({amount} {UNIT_NAMES[record.budget_unit]})"


@dataclass(frozen=True, kw_only=True)
class _Clock:
    """The lower axis: time since the first moment, in a unit that suits the study."""

    start: float
    seconds: float
    unit: str
    scale: svg.Scale

    def __call__(self, moment: Moment) -> int:
        return round(self.scale((moment.time - self.start) / self.seconds))


def _clock(moments: tuple[Moment, ...]) -> _Clock:
    start, span = moments[0].time, moments[-1].time - moments[0].time
    seconds, unit = next((seconds, unit) for least, seconds, unit in _UNITS if span >= least)
    scale = svg.nice_scale(0, span / seconds, start=_LEFT, end=_RIGHT)
    return _Clock(start=start, seconds=seconds, unit=unit, scale=scale)


def _chart(name: str, clock: _Clock, up: svg.Scale, parts: Iterable[str]) -> str:
    grid = [svg.vertical(clock.scale, tick, _TOP, _BOTTOM) for tick in clock.scale.ticks]
    grid += [svg.horizontal(up, tick, _LEFT, _RIGHT) for tick in up.ticks]
    says = f"{clock.unit} since the first trial started"
    axis = svg.label(says, x=(_LEFT + _RIGHT) / 2, y=_HEIGHT - 8, class_="axis", text_anchor="middle")
    return svg.figure(_WIDTH, _HEIGHT, f"Budget over time {name}", [*grid, *parts, axis])


def _level(up: svg.Scale, value: float, name: str) -> str:
    return svg.element("line", svg.title(name), x1=_LEFT, x2=_RIGHT, y1=up(value), y2=up(value), class_="budget")


def _line(arm: str, moments: Sequence[Moment], style: Style, clock: _Clock, up: svg.Scale) -> str:
    """One arm: steps, the last of each place, to the end of the study."""
    places = {clock(moment): up(moment.committed) for moment in moments if moment.arm == arm}
    path = "".join(f"H{x}V{svg.number(y)}" for x, y in places.items())
    line = svg.element(
        "path",
        svg.title(arm),
        d=f"M{svg.number(_LEFT)} {svg.number(_BOTTOM)}{path}H{clock(moments[-1])}",
        class_="curve thin",
        stroke_dasharray=style.dash or None,
    )
    return svg.element("g", line, class_=style.css)


def _gaps(moments: Sequence[Moment], clock: _Clock, up: svg.Scale) -> str:
    """The distance between the arms: steps, the largest and the last of each place."""
    places: dict[int, tuple[float, float]] = {}
    for moment in moments:
        x = clock(moment)
        places[x] = (max(moment.gap, places.get(x, (0.0, 0.0))[0]), moment.gap)
    path = "".join(f"H{x}V{svg.number(up(high))}V{svg.number(up(last))}" for x, (high, last) in places.items())
    bottom = svg.number(_BOTTOM)
    return svg.element("path", d=f"M{svg.number(_LEFT)} {bottom}{path}V{bottom}Z", class_="distance")
