"""BatchNorm allows higher learning rates and depends less on rate and initialisation."""

import math
from collections.abc import Iterator
from typing import Any

import numpy
from polars import col

from src.analysis.claims.cells import Cells, Run
from src.analysis.claims.measures import POINTS, accuracy_error, train_accuracy, trains
from src.analysis.claims.registry import claim
from src.analysis.claims.verdict import Finding, difference, ratio
from src.analysis.statistics import Bound

Grid = dict[tuple[Any, ...], Run]  # runs by their values of some axes
_RATE = ("optim.lr",)
_INIT = ("init.name", "init.gain", "init.std")
# The standard deviation of a value that is rounded down to a grid of spacing 1.
_ROUNDING = math.sqrt(1 / 12)


@claim
def higher_rate(cells: Cells, rates: int) -> Finding:
    """Compare the largest rate at which each network trains."""
    logs, bounds, spacing = dict[int, float](), set[Bound | None](), 0.0
    for seed, standard, normalised in _both(cells, _RATE, rates):
        a, b = _largest(standard, cells), _largest(normalised, cells)
        if a is None and b is None:
            continue
        grid = sorted(key[0] for key in standard)
        spacing = _spacing(grid)
        logs[seed] = math.log((b or grid[0]) / (a or grid[0]))
        if a is None or b == grid[-1]:
            bounds.add("at least" if a != grid[-1] else None)
        if b is None or (a == grid[-1] and b != a):
            bounds.add("at most")
    found = ratio(
        "",
        "ratio of the largest rates that train, BatchNorm / standard",
        logs,
        "greater",
        floor=spacing * _ROUNDING * math.sqrt(2),
        bound=bounds.pop() if len(bounds) == 1 else None,
    )
    return Finding([found])


@claim
def rate_sensitivity(cells: Cells, within: float, rates: int) -> Finding:
    """Compare the share of the rates at which each network does nearly as well as at its best."""

    def share(runs: Grid) -> float:
        accuracy = {key: train_accuracy(run, **cells.measured) for key, run in runs.items()}
        best = max(accuracy.values())
        good = [_trains(runs[k], cells) and a >= best - within for k, a in accuracy.items()]
        return POINTS * sum(good) / len(good)

    both = list(_both(cells, _RATE, rates))
    found = difference(
        "",
        "share of the rates that do well, BatchNorm - standard, points",
        {seed: share(b) - share(a) for seed, a, b in both},
        "greater",
        floor=max((POINTS / len(a) for _, a, _ in both), default=0.0) * _ROUNDING * math.sqrt(2),
    )
    return Finding([found])


@claim
def init_dependence(cells: Cells, lr: float) -> Finding:
    """Compare how far the final training accuracy spreads over initialisations."""

    def spread(runs: Grid) -> float:
        if not any(_trains(run, cells) for run in runs.values()):
            return math.nan  # failing everywhere is no independence
        accuracies = [train_accuracy(run, **cells.measured) for run in runs.values()]
        return POINTS * float(numpy.std(accuracies))

    def share(runs: Grid) -> float:
        return POINTS * sum(_trains(run, cells) for run in runs.values()) / len(runs)

    both = list(_both(cells, _INIT, 2, optim__lr=lr))
    return Finding(
        [
            difference(
                "initialisations that train",
                "share of them, BatchNorm - standard, points",
                {seed: share(b) - share(a) for seed, a, b in both},
                "greater",
                floor=max((POINTS / len(a) for _, a, _ in both), default=0.0) * _ROUNDING,
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
def sharpness_rate(cells: Cells, margin: float) -> Finding:
    """Compare each network's largest rate that trains with 2 / sharpness before the first step."""
    parts = []
    for model in sorted({run.model for run in cells.runs}):
        logs, spacing = dict[int, float](), 0.0
        for seed, runs in _by_seed(cells, _RATE, model).items():
            largest, sharpness = _largest(runs, cells), _sharpness(runs)
            if largest is not None and len(runs) > 1:
                logs[seed] = math.log(largest * sharpness / 2) if sharpness > 0 else math.nan
                spacing = _spacing(sorted(key[0] for key in runs))
        parts.append(
            ratio(
                model,
                "largest rate that trains x sharpness at the start / 2",
                logs,
                "equal",
                margin=margin,
                floor=spacing * _ROUNDING,
            )
        )
    return Finding(parts)


def _by_seed(cells: Cells, keys: tuple[str, ...], model: str, **axes: object) -> dict[int, Grid]:
    """Return a variant's runs by seed and the values of some axes."""
    found: dict[int, Grid] = {}
    points = {tuple(run.config.get(k) for k in keys) for run in cells.runs if run.model == model}
    for point in sorted(points, key=str):
        for seed, run in cells.of(model, **axes, **dict(zip(keys, point, strict=True))).items():
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


def _largest(runs: Grid, cells: Cells) -> float | None:
    return max((rate for (rate,), run in runs.items() if _trains(run, cells)), default=None)


def _spacing(rates: list[float]) -> float:
    return float(numpy.median(numpy.diff(numpy.log(rates))))


def _sharpness(runs: Grid) -> float:
    """Return the Hessian's largest eigenvalue before the first step, which no rate has changed."""
    for run in runs.values():
        rows = run.rows("curvature").filter(
            col("quantity") == "largest_eigenvalue", col("step") == 0
        )
        if len(rows):
            return float(rows["value"][0])
    return math.nan
