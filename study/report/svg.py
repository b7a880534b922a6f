"""A small generator of SVG text: elements, rounded coordinates, axis ticks, labels that do not collide.

Figures are inline in the page and styled by its sheet, so that they follow light and dark. Each
coordinate has at most two decimals, which keeps files small and the same everywhere.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise


def number(value: float) -> str:
    """A coordinate: at most two decimals, no trailing zeros, no negative zero."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def element(tag: str, *children: str, **attributes: str | float | None) -> str:
    """`<tag attributes>children</tag>`; children are SVG already, attributes are escaped here.

    `class_` becomes class and `text_anchor` text-anchor; an attribute that is None is left out.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_attribute(value), quote=True)}"'
        for name, value in attributes.items()
        if value is not None
    )
    return f"<{tag}{written}>{''.join(children)}</{tag}>" if children else f"<{tag}{written}/>"


def label(content: str, **attributes: str | float | None) -> str:
    """A text element; the content is escaped."""
    return element("text", escape(content), **attributes)


def title(content: str) -> str:
    """What hovering shows and a screen reader says."""
    return element("title", escape(content))


def shorten(content: str, limit: int) -> str:
    """At most `limit` characters, cut in the middle, where names of arms differ least."""
    if len(content) <= limit:
        return content
    head = (limit - 1) // 2
    return f"{content[:head]}…{content[len(content) - (limit - 1 - head) :]}"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A linear map from values to coordinates, with the ticks that it shows."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    decimals: int

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def text(self, tick: float) -> str:
        """A tick as the axis writes it."""
        return f"{tick:,.{self.decimals}f}"


def nice_scale(low: float, high: float, *, start: float, end: float, ticks: int = 5, step: float = 0.0) -> Scale:
    """A scale whose bounds are ticks and whose ticks are 1, 2 or 5 times a power of ten, `step` at least."""
    if not high > low:
        high = low + max(abs(low) * 0.1, 1e-3)
    raw = max((high - low) / ticks, step)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    width = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= raw * (1 - 1e-9))
    first, last = math.floor(low / width + 1e-9), math.ceil(high / width - 1e-9)
    return Scale(
        low=first * width,
        high=last * width,
        start=start,
        end=end,
        ticks=tuple(i * width for i in range(first, last + 1)),
        decimals=max(0, -math.floor(math.log10(width) + 1e-9)),
    )


def figure(width: float, height: float, name: str, parts: Iterable[str], css: str = "chart") -> str:
    """A whole figure; its name is what a screen reader says."""
    box = f"0 0 {number(width)} {number(height)}"
    return element("svg", *parts, viewBox=box, role="img", aria_label=name, class_=css)


def vertical(scale: Scale, tick: float, top: float, bottom: float) -> str:
    """The grid line of a tick of the lower axis, with its number."""
    x = scale(tick)
    line = element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid")
    return line + label(scale.text(tick), x=x, y=bottom + 16, class_="tick", text_anchor="middle")


def horizontal(scale: Scale, tick: float, left: float, right: float) -> str:
    """The grid line of a tick of the left axis, with its number."""
    y = scale(tick)
    line = element("line", x1=left, x2=right, y1=y, y2=y, class_="grid")
    return line + label(scale.text(tick), x=left - 6, y=y + 4, class_="tick", text_anchor="end")


def spread(places: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Move places apart until neighbours are `gap` apart, in their order and within the bounds.

    The gap shrinks where there is no room for it.
    """
    if not places:
        return []
    gap = min(gap, (high - low) / max(len(places) - 1, 1))
    order = sorted(range(len(places)), key=lambda i: (places[i], i))
    moved = [min(max(place, low), high) for place in places]
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + gap)
    ceiling = high
    for index in reversed(order):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return moved


def _attribute(value: str | float | None) -> str:
    return value if isinstance(value, str) else number(float(value or 0.0))
