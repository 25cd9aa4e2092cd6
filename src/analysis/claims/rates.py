"""BatchNorm allows higher learning rates and depends less on rate and initialisation."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy
from polars import col

from src.analysis.claims.cells import Cells, Run
from src.analysis.claims.measures import POINTS, accuracy_error, log, train_accuracy, trains
from src.analysis.claims.registry import claim
from src.analysis.claims.result import Component
from src.analysis.claims.verdict import Finding, difference, ratio
from src.analysis.statistics import Bound

Grid = dict[tuple[Any, ...], Run]  # runs by their values of some axes
_RATE = ("optim.lr",)
_INIT = ("init.name", "init.gain", "init.std")


@dataclass(frozen=True)
class _Largest:
    """The largest rate of a grid of which something holds, as far as the grid can tell.

    Attributes:
        log: Its logarithm; where it holds of none, that of the lowest rate.
        width: How far above it the next rate lies, in logarithms; 0 where there is none.
        bound: What ``log`` is of the true one, at an end of the grid.
    """

    log: float
    width: float
    bound: Bound | None


@claim
def higher_rate(cells: Cells, rates: int) -> Finding:
    """Compare the largest rate at which each network trains."""
    found = {
        seed: (_largest(standard, a), _largest(normalised, b))
        for seed, standard, normalised in _both(cells, _RATE, rates)
        if (a := _training(standard, cells)) | (b := _training(normalised, cells))
    }
    return Finding([_ratio("", "ratio of the largest rates that train", found)])


@claim
def rate_sensitivity(cells: Cells, within: float, rates: int) -> Finding:
    """Compare the share of the rates at which each network does nearly as well as at its best.

    Rates too low to get far in the steps there are count as those too high do. So it is told, too,
    how far above its best rate each still does well.
    """

    def well(runs: Grid) -> tuple[set[float], float]:
        """Return the rates at which a network does well, and its best one."""
        accuracy = {rate: train_accuracy(run, **cells.measured) for (rate,), run in runs.items()}
        best = max(accuracy, key=accuracy.__getitem__)
        good = {rate for rate, reached in accuracy.items() if reached >= accuracy[best] - within}
        return good & _training(runs, cells), best

    both = list(_both(cells, _RATE, rates))
    shares, above = dict[int, float](), dict[int, tuple[_Largest, _Largest]]()
    for seed, standard, normalised in both:
        (a, best_a), (b, best_b) = well(standard), well(normalised)
        shares[seed] = POINTS * (len(b) - len(a)) / len(standard)
        if a and b:
            above[seed] = (_largest(standard, a, best_a), _largest(normalised, b, best_b))
    share = difference(
        "",
        "share of the rates that do well, BatchNorm - standard, points",
        shares,
        "greater",
        floor=_share_error(both),
    )
    part = _ratio("above the best rate", "ratio of the factors by which it may be exceeded", above)
    return Finding([part], share)


@claim
def init_dependence(cells: Cells, lr: float, initialisations: int) -> Finding:
    """Compare how far the final training accuracy spreads over initialisations."""

    def spread(runs: Grid) -> float:
        if not any(_trains(run, cells) for run in runs.values()):
            return math.nan  # failing everywhere is no independence
        accuracies = [train_accuracy(run, **cells.measured) for run in runs.values()]
        return POINTS * float(numpy.std(accuracies))

    def share(runs: Grid) -> float:
        return POINTS * sum(_trains(run, cells) for run in runs.values()) / len(runs)

    both = list(_both(cells, _INIT, initialisations, optim__lr=lr))
    return Finding(
        [
            difference(
                "initialisations that train",
                "share of them, BatchNorm - standard, points",
                {seed: share(b) - share(a) for seed, a, b in both},
                "greater",
                floor=_share_error(both),
            )
        ],
        headline=difference(
            "",
            "spread of the final training accuracy, BatchNorm - standard, points",
            {seed: spread(b) - spread(a) for seed, a, b in both},
            "less",
            floor=accuracy_error(),
        ),
    )


@claim
def sharpness_rate(cells: Cells, margin: float, rates: int) -> Finding:
    """Compare each network's largest rate that trains with 2 / sharpness before the first step."""
    parts = []
    for model in sorted({run.model for run in cells.runs}):
        logs, found = dict[int, float](), list[_Largest]()
        for seed, runs in _by_seed(cells, _RATE, model).items():
            good, sharpness = _training(runs, cells), _sharpness(runs)
            if good and len(runs) >= rates:
                found.append(largest := _largest(runs, good))
                logs[seed] = largest.log + log(sharpness / 2)
        part = ratio(
            model,
            "largest rate that trains x sharpness at the start / 2",
            logs,
            "equal",
            margin=margin,
            floor=_rounding(found),
            bound="at least" if any(largest.bound for largest in found) else None,
        )
        above = part.verdict == "contradicted" and (part.effect or 0) > 1
        if part.bound and part.seeds and not above:  # the true one may be anywhere above
            part = replace(part, verdict="inconclusive")
        parts.append(part)
    return Finding(parts)


def _by_seed(cells: Cells, keys: tuple[str, ...], model: str, **axes: object) -> dict[int, Grid]:
    """Return a variant's runs by seed and the values of some axes, where there is an accuracy."""
    found: dict[int, Grid] = {}
    points = {tuple(run.config.get(k) for k in keys) for run in cells.runs if run.model == model}
    for point in sorted(points, key=str):
        for seed, run in cells.of(model, **axes, **dict(zip(keys, point, strict=True))).items():
            if not math.isnan(train_accuracy(run, **cells.measured)):
                found.setdefault(seed, {})[point] = run
    return found


def _both(
    cells: Cells, keys: tuple[str, ...], least: int, **axes: object
) -> Iterator[tuple[int, Grid, Grid]]:
    """Yield a seed and both networks' runs of it, the standard one's first, at ``least`` points."""
    standard, normalised = (_by_seed(cells, keys, m, **axes) for m in ("vgg", "vgg_bn"))
    for seed in sorted(standard.keys() & normalised.keys()):
        points = standard[seed].keys() & normalised[seed].keys()
        if len(points) >= least:
            a, b = ({p: runs[seed][p] for p in points} for runs in (standard, normalised))
            yield seed, a, b


def _trains(run: Run, cells: Cells) -> bool:
    return trains(run, cells.scale, **cells.measured)


def _training(runs: Grid, cells: Cells) -> set[float]:
    """Return the rates at which a network trains."""
    return {rate for (rate,), run in runs.items() if _trains(run, cells)}


def _largest(runs: Grid, good: set[float], over: float = 1.0) -> _Largest:
    """Return the largest of the good rates of a grid, as a multiple of another rate."""
    rates = sorted(rate for (rate,) in runs)
    if not good:
        return _Largest(math.log(rates[0] / over), 0.0, "at most")
    above = [rate for rate in rates if rate > max(good)]
    width = math.log(above[0] / max(good)) if above else 0.0
    return _Largest(math.log(max(good) / over), width, None if above else "at least")


def _share_error(both: Sequence[tuple[int, Grid, Grid]]) -> float:
    """Return the standard deviation of a difference of two shares for being rounded to a run."""
    return math.sqrt(2 / 12) * max((POINTS / len(runs) for _, runs, _ in both), default=0.0)


def _rounding(found: Sequence[_Largest]) -> float:
    """Return the standard deviation that rates have for being rounded down to a grid."""
    return math.sqrt(sum(each.width**2 for each in found) / 12 / max(len(found), 1))


def _ratio(label: str, what: str, found: Mapping[int, tuple[_Largest, _Largest]]) -> Component:
    """Judge whether the largest rate is larger with BatchNorm, the second of each pair."""
    standard, normalised = ([pair[net] for pair in found.values()] for net in (0, 1))
    opposite: dict[Bound | None, Bound] = {"at least": "at most", "at most": "at least"}
    bounds = {each.bound for each in normalised} | {opposite.get(each.bound) for each in standard}
    known = bounds - {None}
    return ratio(
        label,
        f"{what}, BatchNorm / standard",
        {seed: b.log - a.log for seed, (a, b) in found.items()},
        "greater",
        floor=math.hypot(_rounding(standard), _rounding(normalised)),
        bound=known.pop() if len(known) == 1 else None,
    )


def _sharpness(runs: Grid) -> float:
    """Return the Hessian's largest eigenvalue before the first step, which no rate has changed."""
    for run in runs.values():
        rows = run.rows("curvature").filter(
            col("quantity") == "largest_eigenvalue", col("step") == 0
        )
        if len(rows):
            return float(rows["value"][0])
    return math.nan
