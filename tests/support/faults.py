"""The 22 faults that must do no harm, what must hold for each, and the table of what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Measured:
    """What one test saw of one fault."""

    fault: int
    rounds: int
    figures: str
    held: bool


FAULTS: Mapping[int, tuple[str, str]] = MappingProxyType(
    {
        1: ("kill -9 of poller at random moments", "0 lost, 0 twice, chains whole, stream = account"),
        2: ("Redis replies lost after execution", "0 lost, 0 twice, none left open"),
        3: ("kill -9 of the Redis server", "the lost tail is told again, under the same ids"),
        4: ("Redis gone for a minute", "unready ≤ 5 s, < 20 MB more, ≤ 1 request a source, back ≤ 10 s"),
        5: ("READONLY, LOADING, NOSCRIPT, OOM, BUSY, MOVED", "0 ends, 0 half commits, 0 lost, 0 twice"),
        6: ("leader stopped past its lease", "0 stale commits, taken over ≤ lease + 1 s, one budget"),
        7: (
            "CRM accepts and never answers: half of 100 sources",
            "the others ≤ 1 s late (p99), deadline ± 0.5 s",
        ),
        8: ("requests cancelled at random moments", "the next 100 of 100 succeed, descriptors ± 2"),
        9: ("429 with and without Retry-After", "0 requests before that time, 0 windows over budget"),
        10: (
            "truncated, HTML, 500 MB, gzip bomb, wrong types",
            "0 false events, a reason, < 32 + 50 MB more",
        ),
        11: ("empty or short list", "0 removals while held; released by command"),
        12: ("clock an hour forth and back, DST", "≤ 1 poll skipped or more, 0 negative bounds, ids unique"),
        13: (
            "trigger, job, loop: raising or blocked for 5 s",
            "0 silent stops, the watchdog acts in 2 beats",
        ),
        14: ("SIGTERM and Ctrl-C at random moments", "exit 0 ≤ 25 s, 0 lost, 0 twice, others lead ≤ 1 s"),
        15: ("consumer an hour behind a trimmed stream", "0 unread trimmed within retention; else counted"),
        16: ("consumer dead with 1,000 entries; a poisonous one", "all taken over; the poison set aside"),
        17: ("Redis at maxmemory; its disk full", "0 half commits, goes on without a restart"),
        18: ("1 of 100 endpoints dead, slow, failing, resetting", "the others < 1 s later (p99)"),
        19: ("SSRF: 50 addresses, their spellings, rebinding, redirect", "0 connections, 0 public refused"),
        20: ("canaries in every secret setting, DEBUG", "0 in logs, page, API, metrics, events, tracebacks"),
        21: ("soak of sweeps and events", "< 1 MB per 10,000 sweeps, tasks and descriptors flat"),
        22: ("first run on 100,000 records", "0 change events, < 60 s, < 300 MB, no command > 50 ms"),
    }
)
"""Number, as in anchors/reliability.md A11 -> the fault, and what must hold."""


def table(measured: Sequence[Measured]) -> str:
    """What was measured, as Markdown, in the order of the faults."""
    lines = ["| | fault | must hold | measured | rounds | |", "|---|---|---|---|---|---|"]
    for number, (what, must) in FAULTS.items():
        mine = [each for each in measured if each.fault == number]
        if mine:
            told = "; ".join(dict.fromkeys(each.figures for each in mine))
            held = "✓" if all(each.held for each in mine) else "✗"
            rounds = max(each.rounds for each in mine)
            lines.append(f"| {number} | {what} | {must} | {told} | {rounds:,} | {held} |")
    return "\n".join(lines)
