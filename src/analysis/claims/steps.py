"""How many steps a run takes to an accuracy, and how many another."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from src.analysis.claims.accuracies import recorded_every
from src.analysis.claims.cells import Run
from src.analysis.claims.result import Component
from src.analysis.claims.verdict import Direction, ratio
from src.analysis.statistics import first_reached, steps_ratio


def steps_to(run: Run, level: float, accuracy: str) -> float:
    """Return the steps to an accuracy; infinite where it is never reached, NaN where not recorded.

    Args:
        run: The run; a diverged one may have reached it before.
        level: The accuracy, a fraction.
        accuracy: ``minibatch``: the mean of five recorded minibatches; else
            the metric whose first value at the level counts.
    """
    minibatch = accuracy == "minibatch"
    rows = run.metric("train/accuracy" if minibatch else accuracy)
    if rows.is_empty() and not run.diverged:
        return math.nan
    reached = first_reached(
        rows["step"].to_list(), rows["value"].to_list(), level, points=5 if minibatch else 1
    )
    return max(reached, 1.0)


def log_variance(steps: Sequence[float], every: int) -> float:
    """Return the variance of the logarithm of steps for being known to within ``every``."""
    return sum((every / at) ** 2 for at in steps) / 12 / len(steps)  # 0 where never there


def steps_component(
    label: str,
    what: str,
    first: Mapping[int, Run],
    second: Mapping[int, Run],
    level: float,
    accuracy: str,
    direction: Direction,
    margin: float = 1.0,
) -> Component:
    """Judge the ratio of steps to an accuracy, second over first, restricted to those trained.

    Where neither of any pair gets there, nothing was run that could tell; a pair of which neither
    does shows nothing to be as fast.
    """
    nets = (first, second)
    steps = {s: [steps_to(net[s], level, accuracy) for net in nets] for s in first if s in second}
    seeds = [seed for seed, both in sorted(steps.items()) if not any(map(math.isnan, both))]
    a, b = ([steps[seed][net] for seed in seeds] for net in (0, 1))
    found = steps_ratio(a, b, [float(first[seed].steps) for seed in seeds])
    if not any(found.reached):
        return Component(label, what, None, None, None, len(seeds), None, "not run")
    if found.reached != (len(seeds), len(seeds)):
        counts = " and ".join(f"{reached} of {len(seeds)}" for reached in found.reached)
        label += f" (reached by {counts}, exact p {found.p_reached:.2g})"
    every = recorded_every(first[seeds[0]], accuracy)
    floor = math.sqrt(log_variance(a, every) + log_variance(b, every))
    logs = dict(zip(seeds, found.log_ratio, strict=True))
    bounds = {found.bound} if found.bound else set()
    if accuracy != "minibatch":  # who is there at the first evaluation was there before
        bounds |= {"at least"} if min(a) <= every else set()
        bounds |= {"at most"} if min(b) <= every else set()
    bound = min(bounds) if len(bounds) == 1 else None
    judged = ratio(label, what, logs, direction, 1.0, margin, floor, bound)
    shows_nothing = found.neither and direction.startswith("not") and judged.verdict == "supported"
    return replace(judged, verdict="inconclusive") if shows_nothing or len(bounds) > 1 else judged
