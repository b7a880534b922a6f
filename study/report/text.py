"""How a number reads: one fixed format per kind of quantity, so that a record has one page."""

import math
from datetime import UTC, datetime

from study.records import Value

DASH = "–"  # stands where there is no number
_MINUS = "−"  # as wide as a plus sign


def score(value: float | None) -> str:
    """An MRR or a share of hits: four decimals."""
    return DASH if value is None else f"{value:.4f}".replace("-", _MINUS)


def gap(difference: float, beyond: str) -> str:
    """A difference of two MRRs; what to say of one above 1, by which no two differ."""
    return score(difference) if difference <= 1 else beyond


def signed(value: float | None) -> str:
    """A difference of two scores, with its sign."""
    return DASH if value is None else f"{value:+.4f}".replace("-", _MINUS)


def correlation(value: float | None) -> str:
    """A coefficient between -1 and 1: two decimals."""
    return DASH if value is None else f"{value:.2f}".replace("-", _MINUS)


def p_value(value: float) -> str:
    """A probability of the null: three decimals, and no zero that it is not."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def spent(value: float) -> str:
    """An amount of a budget: whole, and with a decimal where it is not."""
    return f"{value:,.1f}".removesuffix(".0")


def whole(value: float | None) -> str:
    """A whole number with thousands separated."""
    return DASH if value is None else f"{value:,.0f}"


def percent(share: float | None) -> str:
    """A share of one in per cent; one decimal, and none when it is whole."""
    if share is None:
        return DASH
    text = f"{100 * share:.1f}"
    return f"{text.removesuffix('.0')} %"


def factor(value: float) -> str:
    """Largest over smallest, never rounded to a 1.00 that it is not."""
    if math.isinf(value):
        return "∞"
    return f"{value:.6g}" if 1 < value < 1.005 else f"{value:.2f}"


def value(value: Value) -> str:
    """A configuration value as a study file would write it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 7 min 3 s, 5 h 12 min."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def moment(time: float | None) -> str:
    """A unix time in UTC, to the second."""
    return DASH if time is None else datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def listing(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(([", ".join(names[:-1])] if names[:-1] else []) + names[-1:])


def plural(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def quantity(amount: float, unit: str) -> str:
    """An amount with its unit, which is given in the plural."""
    return f"{amount:,.10g} {unit.removesuffix('s') if amount == 1 else unit}"
