"""Numbers and verdicts as a reader sees them, in the page, in report.md and in the terminal."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from src.analysis.claims import Component, Reading, Result

DASH = "\N{EN DASH}"
MARKS = {
    "supported": "✓",
    "contradicted": "✗",
    "mixed": "±",
    "inconclusive": "?",
    "not run": DASH,
}
KEY = {
    "supported": "the number lies where the claim's rule says, with its 95 % interval: that of the "
    "whole, where the claim has one, or else those of all its parts.",
    "contradicted": "it lies on the other side, likewise.",
    "mixed": "some part says the opposite of the whole or, where there is none, of another part, "
    "beyond what so many parts say by chance (Holm's correction).",
    "inconclusive": "an interval or a bound leaves it open, a part cannot be compared, there are "
    "fewer than five paired seeds, or Holm's correction over the confirmatory claims leaves too "
    "little.",
    "not run": "no seed has all that the rule asks for.",
}
NUMBERS = (
    "Intervals are over paired seeds. The effect shown is of the whole, or else of the part the "
    "verdict rests on (a mixed claim without a whole has none); p is of its test, against what "
    "the rule compares it with, corrected where it says Holm. Confirmatory claims were named "
    "before the runs and form one family for Holm's correction; the rest are exploratory, each "
    "judged as if it were the only one, so that some verdicts of so many may be due to chance. "
    "What is at least or at most so large has the interval of that bound. The hash is of the rules "
    "as they are written; what was corrected in them, or in the code that judges by them, is in "
    "the lab log, and where it changed a claim's numbers or verdict, that has a date of its "
    "own."
)

DEFINITIONS = {
    "Trains": "its final training accuracy is what the scale asks for: 20 % (smoke), 40 % (small), "
    "60 % (paper). A run that diverged counts as at chance, 10 %.",
    "Steps to a level": "at the last of five records whose mean is there first, or at the first "
    "evaluation that is. Who never gets there counts as there at the end, which makes the ratio a "
    "bound; so does being there at the first evaluation. Each is known to within the steps between "
    "two records, d, with the error d / √12.",
    "Accuracies": "of n images err by at most 50 / √n points. Where seeds agree better than such "
    "an error, of steps, accuracies or shares of a grid, it takes the place of their spread.",
    "On a grid of rates": "what is largest lies between the last rate that holds and the next. So "
    "the mean over seeds lies between those of the least and of the most that this leaves each; "
    "the interval reaches from the lower end of the one's to the upper of the other's, and has no "
    "p. Seeds that all agree say so five times, and no more than that.",
    "Distributions": "move, from a step to the next, by the change of a unit's mean over its "
    "standard deviation at the first of them, or by the 2-Wasserstein distance of normal "
    "distributions of its means and deviations over it: the median over the units, then, of the "
    "log ratio of two runs, over layers and steps.",
    "Along the gradient": "the loss band is from the least to the greatest loss over the step "
    "sizes, the start left out; the rest are the largest over the step sizes, of the gradient's "
    "length over the start, too.",
    "Parts of training": "begin after 0, 6.67, 33.33 and 66.67 % of the steps.",
    "The training loss": "at a step is the mean of the five records around it.",
    "A spread over initialisations": "is divided by their number, not by one less.",
    "Test accuracy at equal training accuracy": "is interpolated between evaluations.",
    "The share of a gap": "is a ratio of means over seeds, with Fieller's interval.",
    "p": "of what must not be lower, or must be as fast, is against the margin where it is "
    "supported or open, and against no difference where it is contradicted.",
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


def each(result: Result | Component) -> str:
    """Return what each seed alone says; where runs were censored, the bounds these are."""
    alone = ", ".join(f"{number(value)} (seed {seed})" for seed, value in result.values.items())
    return f"{result.bound} {alone}" if result.bound and alone else alone


def older(result: Result) -> str:
    """Say how many of a claim's runs are older than its rule."""
    if not result.older_than_rule:
        return ""
    runs = plural(result.runs, "run")
    return f"{result.older_than_rule} of its {runs} began before the rule was fixed"


def settings(result: Result) -> str:
    """Return the numbers a claim was judged by."""
    return "; ".join(f"{name} {_listed(value)}" for name, value in result.settings.items())


def _listed(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_listed, value))
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def parts(result: Result | Reading) -> str:
    """Say what came of the parts of a claim, where these are not of one verdict."""
    counts = _counted(part.verdict for part in result.components)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts) if len(counts) > 1 else ""


def otherwise(result: Result) -> str:
    """Say by which readings a claim has the opposite verdict."""
    opposite = {"supported": "contradicted", "contradicted": "supported"}.get(result.verdict)
    named = [r.reading for r in result.readings[1:] if r.verdict == opposite]
    return f"{opposite} with {'; with '.join(named)}" if named else ""


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
