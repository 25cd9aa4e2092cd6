"""From numbers, one a seed, to a verdict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from src.analysis.claims.result import Component, Verdict
from src.analysis.claims.rulebook import rules
from src.analysis.statistics import Bound, Estimate, equivalence, holm, mean

Direction = Literal["less", "greater", "not less", "not greater", "equal"]


@dataclass(frozen=True)
class Finding:
    """What was found of a claim.

    Attributes:
        components: Its parts.
        whole: The number that decides, where the parts are but details of it; an opposite part
            then makes the claim mixed. None: every part must hold.
        note: What a reader must know of these numbers.
    """

    components: list[Component]
    whole: Component | None = None
    note: str = ""


def difference(
    label: str,
    what: str,
    values: Mapping[int, float],
    direction: Direction,
    than: float = 0.0,
    margin: float = 0.0,
    floor: float = 0.0,
) -> Component:
    """Judge a difference, by its value at each seed.

    ``less`` and ``greater`` are supported where the interval lies beyond ``than``, contradicted
    where it lies before it. ``not less`` (``not greater``) is supported where the interval lies
    above ``than - margin`` (below ``than + margin``), contradicted where it lies below (above)
    ``than``. ``equal`` is supported where two one-sided tests, each at half the level, place the
    mean within ``margin`` of ``than``, contradicted where the interval lies beyond that margin.

    Args:
        label: Which part of the claim it is.
        what: What the effect is.
        values: By seed; NaN where a seed has none.
        direction: What is claimed.
        than: What it is compared with.
        margin: How much is nothing.
        floor: The least standard deviation to believe in.
    """
    there = {seed: value for seed, value in values.items() if not math.isnan(value)}
    x = list(there.values())
    found = mean(x, than, floor, rules().level)
    verdict, p = _verdict(found, x, direction, than, margin, floor)
    return component(label, what, found, there, verdict, p)


def ratio(
    label: str,
    what: str,
    logs: Mapping[int, float],
    direction: Direction,
    than: float = 1.0,
    margin: float = 1.0,
    floor: float = 0.0,
    bound: Bound | None = None,
) -> Component:
    """Judge a ratio by its logarithm at each seed; ``than`` and ``margin`` are ratios too.

    What is but a bound of the true ratio decides nothing on its open side.
    """
    judged = difference(label, what, logs, direction, math.log(than), math.log(margin), floor)
    low, high = judged.interval or (math.nan, math.nan)
    return replace(
        judged,
        verdict=_under(bound, judged, direction, math.log(than)),
        effect=None if judged.effect is None else _exp(judged.effect),
        interval=(_exp(low), _exp(high)) if judged.interval else None,
        bound=bound,
        values={seed: _exp(value) for seed, value in judged.values.items()},
    )


def component(
    label: str,
    what: str,
    found: Estimate,
    values: Mapping[int, float],
    verdict: Verdict,
    p: float | None,
) -> Component:
    """Return a component of an estimate; its verdict stands only on enough seeds."""
    if found.n == 0:
        verdict = "not run"
    elif found.n < rules().seeds:
        verdict = "inconclusive"
    effect = None if math.isnan(found.effect) else found.effect
    return Component(label, what, effect, found.interval, None, found.n, p, verdict, values)


def _verdict(
    found: Estimate,
    values: Sequence[float],
    direction: Direction,
    than: float,
    margin: float,
    floor: float,
) -> tuple[Verdict, float | None]:
    """Return the verdict and the p of the test it rests on."""
    if found.interval is None:
        return "inconclusive", None

    def p(null: float) -> float | None:
        return mean(values, null, floor).p

    low, high = found.interval
    if direction in ("less", "not greater"):  # mirrored
        low, high, than = -high, -low, -than
    null = than
    match direction:
        case "less" | "greater":
            holds, fails = low > than, high < than
        case "not less" | "not greater":
            holds, fails = low > than - margin, high < than
            null = than if fails else than - margin
        case "equal":
            one_sided = equivalence(values, than - margin, than + margin, floor)
            tested = None if one_sided is None else min(2 * one_sided, 1.0)  # as the interval is
            if low > than + margin:
                return "contradicted", p(than + margin)
            if high < than - margin:
                return "contradicted", p(than - margin)
            within = tested is not None and tested < 1 - rules().level
            return ("supported" if within else "inconclusive"), tested
    verdict: Verdict = "contradicted" if fails else "supported" if holds else "inconclusive"
    return verdict, p(-null if direction in ("less", "not greater") else null)


def _under(bound: Bound | None, judged: Component, direction: Direction, than: float) -> Verdict:
    """Return a verdict; inconclusive, where it calls a lower bound small or an upper one large."""
    if bound is None or judged.verdict not in ("supported", "contradicted"):
        return judged.verdict
    holds = judged.verdict == "supported"
    if direction == "equal":
        small = judged.effect is not None and judged.effect < than
    else:
        small = holds == (direction in ("less", "not greater"))
    decides = small == (bound == "at most") and not (holds and direction == "equal")
    return judged.verdict if decides else "inconclusive"


def concluded(finding: Finding) -> tuple[Verdict, Component | None]:
    """Return a claim's verdict and the component whose numbers stand for it.

    Where every part must hold, that is the weakest of those the verdict rests on; where parts say
    the opposite of each other no number stands for all. A part without any seed holds nothing; one
    that no run got far enough to tell of is left out.
    """
    run = [part for part in finding.components if part.verdict != "not run"]
    beyond_chance = _beyond_chance(run)
    if (whole := finding.whole) is not None:
        if not whole.seeds:
            return "not run", None
        opposite = {"supported": "contradicted", "contradicted": "supported"}
        mixed = opposite.get(whole.verdict) in {part.verdict for part in beyond_chance}
        return ("mixed" if mixed else whole.verdict), whole
    if not run:
        seen = [part for part in finding.components if part.seeds]
        return ("inconclusive", seen[0]) if seen else ("not run", None)
    decided = [part for part in beyond_chance if part.verdict in ("supported", "contradicted")]
    if len({part.verdict for part in decided}) == 2:
        seeds = max(part.seeds for part in decided)
        return "mixed", Component("", "", None, None, None, seeds, None, "mixed")
    complete = all(part.seeds for part in finding.components)
    verdicts = {part.verdict for part in run}
    verdict = verdicts.pop() if complete and len(verdicts) == 1 else "inconclusive"
    return verdict, max(
        [part for part in run if part.verdict == verdict] or run,
        key=lambda part: (min(part.seeds, rules().seeds), math.inf if part.p is None else part.p),
    )


def _beyond_chance(parts: Sequence[Component]) -> list[Component]:
    """Return the parts whose p survives Holm's correction for their number.

    One of many parts says the opposite by chance alone more often than one in twenty times. What
    holds at either end of what a grid leaves open has no p, and stands.
    """
    adjusted = holm({str(place): part.p for place, part in enumerate(parts)}).values()
    return [
        part for part, p in zip(parts, adjusted, strict=True) if p is None or p < 1 - rules().level
    ]


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
