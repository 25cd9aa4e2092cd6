"""Tests that hold for a handful of seeds.

Bootstrap intervals are not used: at three seeds they cover about three quarters of the time where
they should cover 95 %.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy
from numpy.typing import ArrayLike
from scipy import stats

Bound = Literal["at least", "at most"]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or a ratio of two such means.

    Attributes:
        effect: NaN where there is no value, or no mean of them.
        interval: From low to high; None where the values leave it undefined: fewer than two, no
            spread at all, or some of them infinite. All infinite alike, they are a point.
        p: Two-sided, that the null holds; None where the interval is.
        n: How many values it rests on.
    """

    effect: float
    interval: tuple[float, float] | None
    p: float | None
    n: int


def mean(values: ArrayLike, null: float = 0.0, floor: float = 0.0, level: float = 0.95) -> Estimate:
    """Return the mean of some differences or log ratios, and Student's t test of it.

    Args:
        values: One a pair; NaN says that the pair has none, and is not counted.
        null: What the mean is tested against.
        floor: The least standard deviation to believe in: that of the measurement itself, where
            seeds may agree better than it can tell, as on a grid of rates.
        level: Of the interval.
    """
    x = _values(values)
    n = len(x)
    with numpy.errstate(invalid="ignore"):  # infinite either way: there is no mean
        centre = float(x.mean()) if n else math.nan
    if n > 1 and math.isinf(centre) and (x == centre).all():
        return Estimate(centre, (centre, centre), 0.0, n)  # what t and p come to, far enough out
    error = _error(x, floor)
    if error is None:
        return Estimate(centre, None, None, n)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    p = 2 * float(stats.t.sf(abs(centre - null) / error, n - 1))
    return Estimate(centre, (centre - half, centre + half), p, n)


def equivalence(values: ArrayLike, low: float, high: float, floor: float = 0.0) -> float | None:
    """Return p of two one-sided t tests (Schuirmann 1987) that the mean is not in [low, high].

    None where they have no spread, or one of them is infinite.
    """
    x = _values(values)
    error = _error(x, floor)
    if error is None:
        return None
    below, above = (x.mean() - low) / error, (high - x.mean()) / error
    return float(stats.t.sf(min(below, above), len(x) - 1))


def ratio_of_means(
    numerator: ArrayLike,
    denominator: ArrayLike,
    null: float,
    level: float = 0.95,
    floor: float = 0.0,
) -> Estimate:
    """Return mean(numerator) / mean(denominator), paired, with Fieller's (1954) interval.

    Fieller's inverts the t test of ``numerator - ratio * denominator``, so it excludes ``null``
    where p, of that test, is below ``1 - level``. It is None where the denominator's mean is not
    itself distinguishable from 0: then any ratio is possible. ``floor`` is the least standard
    deviation to believe in of ``numerator - null * denominator``, see :func:`mean`; an interval of
    that spread alone takes the place of Fieller's ends where it reaches beyond them.
    """
    x, y = numpy.broadcast_arrays(*(numpy.asarray(v, float) for v in (numerator, denominator)))
    paired = ~(numpy.isnan(x) | numpy.isnan(y))
    x, y = x[paired], y[paired]
    n = len(x)
    effect = float(x.mean() / y.mean()) if n and y.mean() != 0 else math.nan
    tested = mean(x - null * y, 0.0, floor, level)
    if tested.interval is None:
        return Estimate(effect, None, None, n)
    quantile = float(stats.t.ppf((1 + level) / 2, n - 1))
    (xx, xy), (_, yy) = numpy.outer((x.mean(), y.mean()), (x.mean(), y.mean())) - (
        quantile**2 / n
    ) * numpy.cov(x, y)
    if yy <= 0:
        return Estimate(effect, None, tested.p, n)
    root = math.sqrt(max(xy**2 - xx * yy, 0.0))  # below 0 by rounding alone
    low, high = (float((xy + sign * root) / yy) for sign in (-1, 1))
    half = quantile * floor / math.sqrt(n) / abs(float(y.mean()))
    return Estimate(effect, (min(low, effect - half), max(high, effect + half)), tested.p, n)


def holm(p: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return Holm's (1979) adjusted p values of a family, by name.

    One that was not tested stays None and counts, as if its p were 1.
    """
    tested = sorted((value, name) for name, value in p.items() if value is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(p)
    left, least = len(p), 0.0
    for value, name in tested:
        least = max(least, min(1.0, left * value))
        adjusted[name] = least
        left -= 1
    return adjusted


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p of McNemar's (1947) test: which of a pair reached it is chance.

    Args:
        only_first: Pairs of which the first alone did.
        only_second: Pairs of which the second alone did.
    """
    discordant = only_first + only_second
    return float(stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0


def first_reached(
    steps: Sequence[int], values: Sequence[float], level: float, points: int = 5
) -> float:
    """Return the first step at which the mean of the last ``points`` values reaches a level.

    Infinity where it never does; a mean over a value that is not finite reaches nothing.
    """
    if len(values) < points:
        return math.inf
    windows = numpy.lib.stride_tricks.sliding_window_view(numpy.asarray(values, float), points)
    # A tolerance for the sum's rounding: the mean of equal values must reach that value.
    reached = numpy.flatnonzero(windows.mean(axis=1) >= level - 1e-12)
    return float(steps[reached[0] + points - 1]) if len(reached) else math.inf


@dataclass(frozen=True)
class StepsRatio:
    """How many steps the second of each pair took, by those the first took.

    Attributes:
        log_ratio: One a pair, of steps restricted to the horizon: who never got there counts as
            arriving there then, so a pair of which neither did has 0.
        bound: Where pairs are censored on one side alone, what their ratios are of the true ones.
        neither: In how many pairs neither got there.
        reached: How many got there: (first, second).
        p_reached: McNemar's exact p that neither gets there more often.
    """

    log_ratio: list[float]
    bound: Bound | None
    neither: int
    reached: tuple[int, int]
    p_reached: float


def steps_ratio(
    first: Sequence[float], second: Sequence[float], horizon: Sequence[float]
) -> StepsRatio:
    """Compare paired steps to a level, infinite for those that never reached it.

    Args:
        first: Steps of the first of each pair, above 0.
        second: Of the second.
        horizon: The steps each pair was trained for.
    """
    pairs = list(zip(first, second, horizon, strict=True))
    only_first = sum(b == math.inf > a for a, b, _ in pairs)
    only_second = sum(a == math.inf > b for a, b, _ in pairs)
    neither = sum(a == b == math.inf for a, b, _ in pairs)
    bound: Bound | None = None
    if not neither and bool(only_first) != bool(only_second):
        bound = "at least" if only_first else "at most"
    return StepsRatio(
        log_ratio=[math.log(min(b, h) / min(a, h)) for a, b, h in pairs],
        bound=bound,
        neither=neither,
        reached=(len(pairs) - only_second - neither, len(pairs) - only_first - neither),
        p_reached=mcnemar(only_first, only_second),
    )


def _values(values: ArrayLike) -> numpy.ndarray:
    x = numpy.asarray(values, dtype=float)
    return x[~numpy.isnan(x)]


def _error(x: numpy.ndarray, floor: float) -> float | None:
    """Return the standard error of the mean; None where it is undefined or 0."""
    if len(x) < 2 or not numpy.isfinite(x).all():
        return None
    spread = max(float(x.std(ddof=1)), floor)
    # Equal values differ by the rounding of their mean, which is no spread.
    return spread / math.sqrt(len(x)) if spread > 1e-12 * abs(float(x.mean())) else None
