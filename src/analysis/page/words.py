"""Numbers and verdicts as a reader sees them, in the page, in report.md and in the terminal."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from src.analysis.claims import Component, Reading, Result

DASH = "\N{EN DASH}"
MARKS = {
    "supported": "✓",
    "contradicted": "✗",
    "mixed": "±",
    "inconclusive": "?",
    "not run": DASH,
}
KEY = (
    "Intervals are over seeds, paired, at 95 %. A claim is supported, or contradicted, where its "
    "interval lies as its rule says: that of the whole, where there is one, and a part that says "
    "the opposite then makes it mixed; else those of all its parts, mixed where two say the "
    "opposite of each other. Inconclusive: an interval or a bound leaves it open, a part cannot be "
    "compared, there are fewer than five paired seeds, or Holm's correction leaves too little. "
    "Not run: no seed has all that the rule asks for. "
    "The effect shown is of the whole, or else of the part the verdict rests "
    "on, of a mixed claim the first; p is of its test, against what the rule compares it with. "
    "Confirmatory claims were named before the runs and form one family, their p, where it speaks "
    "for the verdict, corrected by Holm's method; the rest are exploratory."
)


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


def each(result: Result | Component) -> str:
    """Return what each seed alone says; where runs were censored, the bounds these are."""
    alone = ", ".join(f"{number(value)} (seed {seed})" for seed, value in result.values.items())
    return f"{result.bound} {alone}" if result.bound and alone else alone


def parts(result: Result | Reading) -> str:
    """Say what came of the parts of a claim, where these are not of one verdict."""
    counts = _counted(part.verdict for part in result.components)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts) if len(counts) > 1 else ""


def tally(results: Sequence[Result]) -> str:
    """Say how many claims have each verdict."""
    counts = _counted(result.verdict for result in results)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts)


def _counted(verdicts: Iterable[str]) -> list[tuple[str, int]]:
    counts = Counter(verdicts)
    return [(verdict, counts[verdict]) for verdict in MARKS if counts[verdict]]


def plural(count: int, thing: str) -> str:
    """Return ``1 run``, ``2 runs``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
