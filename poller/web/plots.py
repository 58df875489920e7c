"""Figures as coordinates of small SVG plots. Pure: templates draw what is worked out here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from poller.store.letters import Attempt

from .trends import Day

WIDTH, HEIGHT = 720.0, 120.0
BARS = 60
NICE = (1, 2, 5)
DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, from the bottom up: `good`, then `bad` on top, in units of the plot."""

    x: float
    width: float
    plain: float
    good: float
    bad: float
    label: str


@dataclass(frozen=True, slots=True)
class Bars:
    """A plot of bars."""

    bars: tuple[Bar, ...]
    top: int
    """What the upper edge stands for."""
    labels: tuple[str, ...]
    """Under the axis, evenly spread."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A plot of a share of something over the last day."""

    points: str
    """For a polyline; empty where nothing is known."""
    area: str
    most: float
    last: float


def nice_top(most: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50 … that is not below."""
    if most <= 1:
        return 1
    unit = 10 ** math.floor(math.log10(most))
    return int(next((each * unit for each in NICE if each * unit >= most), 10 * unit))


def day_bars(day: Day) -> Bars:
    """Events by hour; won and lost deals are parts of their bars."""
    top = nice_top(max((each.events for each in day.hours), default=0))
    step = WIDTH / max(1, len(day.hours))
    bars = []
    for at, each in enumerate(day.hours):
        clock = f"{each.hour % 24:02d}:00 UTC"
        others = each.events - each.won - each.lost
        bars.append(
            Bar(
                x=round(at * step + step * 0.12, 1),
                width=round(step * 0.76, 1),
                plain=_height(others, top),
                good=_height(each.won, top),
                bad=_height(each.lost, top),
                label=f"{clock}: {each.events} events, {each.won} won, {each.lost} lost",
            )
        )
    ends = [f"{day.hours[at].hour % 24:02d}:00" for at in (0, 6, 12, 18)] if len(day.hours) == 24 else []
    return Bars(tuple(bars), top, (*ends, "now"))


def _height(count: int, top: int) -> float:
    return round(count / top * HEIGHT, 1)


def share_curve(points: Sequence[tuple[float, float]], *, now: float) -> Curve:
    """Shares (0 to 1) over the last day as a line and the area under it."""
    if len(points) < 2:  # one point is no line
        return Curve("", "", 0.0, 0.0)
    start = now - DAY_S
    drawn = [
        (round((at - start) / DAY_S * WIDTH, 1), round(HEIGHT * (1 - min(1.0, share)), 1))
        for at, share in points
    ]
    line = " ".join(f"{x},{y}" for x, y in drawn)
    area = f"{drawn[0][0]},{HEIGHT} {line} {drawn[-1][0]},{HEIGHT}"
    return Curve(line, area, max(share for _, share in points), points[-1][1])


@dataclass(frozen=True, slots=True)
class Record:
    """How an endpoint fared over its last attempts."""

    bars: Bars
    delays: str
    """Of the successes, for a polyline."""
    slowest_ms: int
    """What the upper edge of the delays stands for."""
    good: int
    bad: int
    median_ms: float
    worst_ms: float
    since: float


def attempts_record(attempts: Sequence[Attempt], *, now: float) -> Record | None:
    """Attempts (newest first) as success, failure and delay over time; None where there are none."""
    if not attempts:
        return None
    start = attempts[-1].at
    step_s = max(1.0, now - start) / BARS
    good, bad, slow = [0] * BARS, [0] * BARS, list[list[float]]([] for _ in range(BARS))
    for each in attempts:
        slot = min(BARS - 1, max(0, int((each.at - start) / step_s)))
        if each.outcome == "delivered":
            good[slot] += 1
            slow[slot].append(each.ms)
        else:
            bad[slot] += 1
    top = nice_top(max(a + b for a, b in zip(good, bad, strict=True)))
    taken = sorted(each.ms for each in attempts if each.outcome == "delivered")
    slowest = nice_top(taken[-1]) if taken else 1
    step = WIDTH / BARS
    bars = tuple(
        Bar(
            x=round(at * step + step * 0.1, 1),
            width=round(step * 0.8, 1),
            plain=0.0,
            good=_height(good[at], top),
            bad=_height(bad[at], top),
            label=f"{good[at]} delivered, {bad[at]} failed",
        )
        for at in range(BARS)
    )
    points = [
        (round((at + 0.5) * step, 1), round(HEIGHT * (1 - max(each) / slowest), 1))
        for at, each in enumerate(slow)
        if each
    ]
    return Record(
        bars=Bars(bars, top, ()),
        delays=" ".join(f"{x},{y}" for x, y in points),
        slowest_ms=slowest,
        good=sum(good),
        bad=sum(bad),
        median_ms=taken[len(taken) // 2] if taken else 0.0,
        worst_ms=taken[-1] if taken else 0.0,
        since=start,
    )
