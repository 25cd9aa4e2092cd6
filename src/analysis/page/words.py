"""Numbers and verdicts as a reader sees them, in the page, in report.md and in the terminal."""

import math
from collections.abc import Sequence

from src.analysis.claims import Component, Reading, Result

DASH = "\N{EN DASH}"
MARKS = {
    "supported": "✓",
    "contradicted": "✗",
    "mixed": "±",
    "inconclusive": "?",
    "not run": DASH,
}


def number(value: float | None) -> str:
    """Return a number with three significant digits; a dash where there is none."""
    if value is None or math.isnan(value):
        return DASH
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def effect(result: Result | Component | Reading) -> str:
    """Return an effect; where runs were censored, the bound it is."""
    return f"{result.bound} {number(result.effect)}" if result.bound else number(result.effect)


def interval(result: Result | Component | Reading) -> str:
    """Return the 95 % interval; a dash where there is none."""
    if result.interval is None:
        return DASH
    low, high = result.interval
    return f"{number(low)} to {number(high)}"


def each(result: Result) -> str:
    """Return what each seed alone says; where runs were censored, the bounds these are."""
    alone = ", ".join(f"{number(value)} (seed {seed})" for seed, value in result.values.items())
    return f"{result.bound} {alone}" if result.bound and alone else alone


def tally(results: Sequence[Result]) -> str:
    """Say how many claims have each verdict."""
    counts = [(v, sum(r.verdict == v for r in results)) for v in MARKS]
    return ", ".join(f"{count} {verdict}" for verdict, count in counts if count)


def plural(count: int, thing: str) -> str:
    """Return ``1 run``, ``2 runs``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
