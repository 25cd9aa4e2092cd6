"""What a grid of learning rates tells of one that lies between two of them, or beyond its end."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

from src.analysis.claims.result import Component, Verdict
from src.analysis.claims.verdict import ratio
from src.analysis.statistics import Bound

_NEXT = 1 - 1e-6  # of the way to the grid's next rate, which is known not to be reached
_AGREEMENT = 1e-9  # seeds may agree exactly, on a grid


@dataclass(frozen=True)
class OnGrid:
    """A rate, or a factor between two, as far as a grid can tell.

    Attributes:
        log: Its logarithm, the least that fits what the grid shows.
        width: How much larger it may be: up to the next rates. 0 beyond the grid's end.
        bound: What ``log`` is of the true one, at an end of the grid.
    """

    log: float
    width: float
    bound: Bound | None


def largest(rates: Sequence[float], good: set[float], over: float = 1.0) -> OnGrid:
    """Return the largest of the good rates of a grid, as a multiple of another rate."""
    if not good:
        return OnGrid(math.log(min(rates) / over), 0.0, "at most")
    above = [rate for rate in rates if rate > max(good)]
    width = math.log(min(above) / max(good)) if above else 0.0
    return OnGrid(math.log(max(good) / over), width, None if above else "at least")


def extent(rates: Sequence[float], good: set[float]) -> OnGrid:
    """Return the factor between the lowest and the highest of the good rates of a grid."""
    if not good:
        return OnGrid(0.0, 0.0, "at most")
    highest = largest(rates, good, over=min(good))
    below = [rate for rate in rates if rate < min(good)]
    width = math.log(min(good) / max(below)) if below else 0.0
    return OnGrid(highest.log, highest.width + width, highest.bound if below else "at least")


def larger(label: str, what: str, found: Mapping[int, tuple[OnGrid, OnGrid]]) -> Component:
    """Judge whether the second of each pair is larger than the first.

    Seeds share their grid, so what it hides does not average out over them. But their mean lies
    between the means of the least and of the most that it leaves each: a verdict stands where it
    holds of the nearer one, and the interval reaches from the lower end of the one's to the upper
    of the other's. Where the grid's end bounds the ratio, effect and interval are of the bound.
    """
    opposite: Mapping[Bound | None, Bound] = {"at least": "at most", "at most": "at least"}
    bounds = {bound for a, b in found.values() for bound in (b.bound, opposite.get(a.bound))}
    if {"at least", "at most"} <= bounds:
        told = f"{label} (the grid's end bounds it on either side)".strip()
        return Component(told, what, None, None, None, len(found), None, "inconclusive")
    logs = {seed: b.log - a.log for seed, (a, b) in found.items()}
    least, nearest, most = (
        ratio(label, what, ends, "greater", floor=_AGREEMENT, bound=_only(bounds))
        for ends in (
            {seed: log - _NEXT * found[seed][0].width for seed, log in logs.items()},
            logs,
            {seed: log + _NEXT * found[seed][1].width for seed, log in logs.items()},
        )
    )
    verdict: Verdict = "inconclusive" if found else "not run"
    verdict = "supported" if least.verdict == "supported" else verdict
    verdict = "contradicted" if most.verdict == "contradicted" else verdict
    return _spanned(nearest, least, most, verdict)


def equal(label: str, what: str, found: Mapping[int, OnGrid], margin: float) -> Component:
    """Judge whether each is 1, within a factor, at the least and the most the grid leaves open."""
    bound = _only({value.bound for value in found.values()})
    least, most = (
        ratio(
            label,
            what,
            {seed: value.log + end * value.width for seed, value in found.items()},
            "equal",
            margin=margin,
            floor=_AGREEMENT,
            bound=bound,
        )
        for end in (0, _NEXT)
    )
    around = least.effect is not None and least.effect < 1 < (most.effect or 0)
    same = least.verdict == most.verdict and not (least.verdict == "contradicted" and around)
    return _spanned(least, least, most, least.verdict if same else "inconclusive")


def _only(bounds: Set[Bound | None]) -> Bound | None:
    known = [bound for bound in bounds if bound]
    return known[0] if len(known) == 1 else None


def _spanned(part: Component, least: Component, most: Component, verdict: Verdict) -> Component:
    """Return a part with the interval from its least to its most, or its bound with the bound's."""
    if part.bound:
        end = least if part.bound == "at least" else most
        alike = len(set(end.values.values())) == 1  # what is uncertain then is the grid's end
        return replace(end, interval=None if alike else end.interval, p=None, verdict=verdict)
    interval = (least.interval[0], most.interval[1]) if least.interval and most.interval else None
    return replace(part, interval=interval, p=None, verdict=verdict)
