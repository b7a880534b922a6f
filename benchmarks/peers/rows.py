"""What was measured as a table: a block for each case, a line for each library."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.peers.cases import Case
from benchmarks.peers.floors import Stage
from benchmarks.peers.workers import BF16, OURS

Lap = tuple[float, float]  # wall, CPU seconds


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case in one library, in seconds of the clock that counts."""

    system: str
    low: float  # quartile of a batch
    median: float
    high: float  # quartile
    wall: float  # median of a batch
    batches: int  # of an epoch or a ranking
    count: int  # batches measured
    turns: tuple[float, ...] = ()  # median of a batch in each turn
    note: str = ""
    failed: str = ""

    @classmethod
    def of(cls, system: str, turns: Sequence[Sequence[Lap]], *, clock: int, batches: int, note: str) -> "Row":
        """The row of the batches of some turns."""
        laps = [lap for turn in turns for lap in turn]
        times = [lap[clock] for lap in laps]
        low, median, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
        return cls(
            system=system,
            low=low,
            median=median,
            high=high,
            wall=statistics.median(lap[0] for lap in laps),
            batches=batches,
            count=len(laps),
            turns=tuple(statistics.median(lap[clock] for lap in turn) for turn in turns),
            note=note,
        )

    @classmethod
    def without(cls, system: str, reason: str) -> "Row":
        """The row of a library that cannot."""
        return cls(system=system, low=0, median=0, high=0, wall=0, batches=0, count=0, failed=reason)

    @property
    def whole(self) -> float:
        """Seconds of a whole pass: an epoch, a ranking, a start."""
        return self.median * self.batches

    def times(self, other: "Row") -> tuple[float, float, float]:
        """How many times longer than another, turn by turn: least, median, most."""
        pairs = zip(self.turns, other.turns, strict=True)
        found = [mine * self.batches / (theirs * other.batches) for mine, theirs in pairs]
        return min(found), statistics.median(found), max(found)


@dataclass(frozen=True, kw_only=True)
class Floor:
    """The least seconds of a batch of ours in a precision, and its work."""

    precision: str
    seconds: float
    flops: float
    bytes: float
    rates: dict[str, float]  # GFLOP/s or GB/s of each kind of bound: the slowest

    @classmethod
    def of(cls, precision: str, stages: Sequence[Stage], answers: Sequence[list[list[Lap]]], clock: int) -> "Floor":
        """Of what was answered in each round."""
        times = [[[lap[clock] for lap in stage] for stage in answer] for answer in answers]
        least = [[statistics.median(each) for each in zip(*stage, strict=True)] for stage in zip(*times, strict=True)]
        bounds = [pair for stage, found in zip(stages, least, strict=True) for pair in zip(stage, found, strict=True)]
        rates: dict[str, float] = {}
        for bound, seconds in bounds:
            rate = (bound["bytes"] if bound["kind"] == "moved" else bound["flops"]) / seconds / 1e9
            rates[bound["kind"]] = min(rate, rates.get(bound["kind"], rate))
        return cls(
            precision=precision,
            seconds=sum(max(found) for found in least),
            flops=sum(bound["flops"] for bound, _ in bounds),
            bytes=sum(bound["bytes"] for bound, _ in bounds),
            rates=rates,
        )


def table(case: Case, rows: Sequence[Row], floors: Sequence[Floor], *, clock: str) -> Iterator[str]:
    """The block of a case."""
    line = "  {:<16}{:>11}  {:<22}{:>10}{:>9}{:>8}{:>9}  {:<16}{:>9}  {}".format
    measured = {row.system: row for row in rows if not row.failed}
    of_precision = {floor.precision: floor for floor in floors}
    yield ""
    yield f"{case.name}, {_batch(case)}"
    for floor in floors:
        rates = ", ".join(f"{kind} {rate:.1f} {_UNITS.get(kind, 'GFLOP/s')}" for kind, rate in floor.rates.items())
        work = f"{floor.flops / 1e9:.2f} GFLOP, {floor.bytes / 1e6:.0f} MB, at least {ms(floor.seconds)} ms"
        yield f"  floor, {floor.precision}: {work} ({rates})"
    yield line("", f"{clock} ms", "quartiles", "wall ms", "times", "all, s", "x ours", "turns", "x floor", "")
    for row in rows:
        if row.failed:
            yield f"  {row.system:<16}failed: {row.failed}"
            continue
        bound = of_precision.get("bfloat16" if row.system == BF16 else "float32")
        least = bound.seconds * measured[OURS].batches if bound and OURS in measured else None
        ratio, turns = _ratio(row, measured.get(OURS))
        spread, over = f"{ms(row.low)} - {ms(row.high)}", f"{row.whole / least:.2f}" if least else ""
        whole = f"{row.batches:,}", f"{row.whole:.1f}"
        yield line(row.system, ms(row.median), spread, ms(row.wall), *whole, ratio, turns, over, row.note)


def _ratio(row: Row, ours: Row | None) -> tuple[str, str]:
    """The median over turns, and its range."""
    if ours is None or not ours.turns:
        return "", ""
    least, median, most = row.times(ours)
    return f"{median:.2f}", f"{least:.2f} - {most:.2f}"


_UNITS = {"moved": "GB/s"}


def _batch(case: Case) -> str:
    rows = {"k_vs_all": "queries", "ranking": "triples of the others", "start": "triples"}.get(case.kind, "triples")
    negatives = f", {case.negatives} + {case.negatives} negatives" if case.negatives else ""
    return f"dim {case.dim}, {case.batch_size} {rows} a batch{negatives}"


def ms(seconds: float) -> str:
    """Milliseconds."""
    return f"{1000 * seconds:,.2f}" if seconds < 0.01 else f"{1000 * seconds:,.1f}"
