"""BatchNorm allows higher rates and stronger noise, and depends less on rate and initialisation."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import takewhile
from typing import Any

import numpy
from polars import col

from src.analysis.claims.accuracies import POINTS, accuracy_error, train_accuracy, trains
from src.analysis.claims.cells import Cells, Run
from src.analysis.claims.grids import OnGrid, equal, extent, larger, largest
from src.analysis.claims.registry import claim
from src.analysis.claims.result import Component
from src.analysis.claims.verdict import Finding, difference

Grid = dict[tuple[Any, ...], Run]  # runs by their values of some axes
_RATE = ("optim.lr",)
_STRENGTH = ("noise.strength",)
_INIT = ("init.name", "init.gain", "init.std")


@claim
def higher_rate(cells: Cells, rates: int) -> Finding:
    """Compare the largest rate at which each network trains."""
    what = "ratio of the largest rates that train, BatchNorm / standard"
    training = partial(_training, cells=cells)
    return Finding([_furthest("", what, _both(cells, _RATE, rates), training)])


@claim
def noise_tolerance(cells: Cells, lr: float, strengths: int, within: float) -> Finding:
    """Compare the strongest noise that costs each network little of its accuracy without it.

    It is told, too, with which each trains at all: that leaves more room to who is ahead.
    """
    without = {
        "vgg_plain_noisy": cells.of("vgg", optim__lr=lr),
        "vgg_noisy": cells.of("vgg_bn", optim__lr=lr),
    }

    def borne(runs: Grid) -> set[float]:
        first = next(iter(runs.values()))
        alone = without[first.model][first.config["seed"]]
        least = train_accuracy(alone, **cells.measured) - within
        accuracies = {s: train_accuracy(run, **cells.measured) for (s,), run in runs.items()}
        return {strength for strength, accuracy in accuracies.items() if accuracy >= least}

    both = list(_both(cells, _STRENGTH, strengths, [*without], optim__lr=lr))
    comparable = [
        (seed, plain, noisy)
        for seed, plain, noisy in both
        if all(seed in runs and _trains(runs[seed], cells) for runs in without.values())
    ]
    what = "ratio of the strongest noises {}, BatchNorm / standard"
    training = partial(_training, cells=cells)
    return Finding(
        [_furthest("trains at all", what.format("that train"), both, training)],
        _furthest("", what.format("borne"), comparable, borne),
    )


@claim
def rate_sensitivity(cells: Cells, within: float, rates: int) -> Finding:
    """Compare how far apart the rates are at which each network does nearly as well as at its best.

    Rates too low to get far in the steps there are count as those too high do. So it is told, too,
    how far above its best rate each still does well.
    """

    def well(runs: Grid) -> tuple[set[float], float]:
        """Return the rates around the best at which a network does well, and the best."""
        accuracy = {rate: train_accuracy(runs[rate,], **cells.measured) for rate in _rates(runs)}
        best = max(accuracy, key=accuracy.__getitem__)  # the lowest of equals
        good = {rate for rate, reached in accuracy.items() if reached >= accuracy[best] - within}
        good &= _training(runs, cells)
        above = takewhile(good.__contains__, (rate for rate in accuracy if rate >= best))
        below = takewhile(good.__contains__, (rate for rate in reversed(accuracy) if rate <= best))
        return {*above, *below}, best

    ranges, above = dict[int, tuple[OnGrid, OnGrid]](), dict[int, tuple[OnGrid, OnGrid]]()
    for seed, standard, normalised in _both(cells, _RATE, rates):
        (a, best_a), (b, best_b), grid = well(standard), well(normalised), _rates(standard)
        if a or b:
            ranges[seed] = (extent(grid, a), extent(grid, b))
        if a and b:
            above[seed] = (largest(grid, a, best_a), largest(grid, b, best_b))
    whole = larger(
        "", "span of the rates that do well (highest / lowest), BatchNorm / standard", ranges
    )
    part = larger(
        "above the best rate",
        "ratio of the factors by which it may be exceeded, BatchNorm / standard",
        above,
    )
    return Finding([part], whole)


@claim
def init_dependence(cells: Cells, lr: float, initialisations: int) -> Finding:
    """Compare how far the final training accuracy spreads over initialisations."""

    def spread(runs: Grid) -> float:
        if not any(_trains(run, cells) for run in runs.values()):
            return math.nan  # failing everywhere is no independence
        accuracies = [train_accuracy(run, **cells.measured) for run in runs.values()]
        return POINTS * float(numpy.std(accuracies))

    def spread_where_both_train(a: Grid, b: Grid) -> float:
        points = [p for p in a if _trains(a[p], cells) and _trains(b[p], cells)]
        if len(points) < 2:
            return math.nan
        return spread({p: b[p] for p in points}) - spread({p: a[p] for p in points})

    def share(runs: Grid) -> float:
        return POINTS * sum(_trains(run, cells) for run in runs.values()) / len(runs)

    both = list(_both(cells, _INIT, initialisations, optim__lr=lr))
    what = "spread of the final training accuracy, BatchNorm - standard, points"
    return Finding(
        [
            difference(
                "initialisations that train",
                "share of them, BatchNorm - standard, points",
                {seed: share(b) - share(a) for seed, a, b in both},
                "greater",
                floor=_share_error(both),
            ),
            difference(
                "initialisations from which both train",
                what,
                {seed: spread_where_both_train(a, b) for seed, a, b in both},
                "less",
                floor=accuracy_error(cells.runs, cells.measured["accuracy"]),
            ),
        ],
        whole=difference(
            "",
            what,
            {seed: spread(b) - spread(a) for seed, a, b in both},
            "less",
            floor=accuracy_error(cells.runs, cells.measured["accuracy"]),
        ),
    )


@claim
def sharpness_rate(cells: Cells, margin: float, rates: int) -> Finding:
    """Compare each network's largest rate that trains with 2 / sharpness before the first step."""
    parts = []
    for model in ("vgg", "vgg_bn", "vgg_noisy"):
        found = dict[int, OnGrid]()
        for seed, runs in _by_seed(cells, _RATE, model).items():
            good, sharpness = _training(runs, cells), _sharpness(runs)
            if good and len(runs) >= rates and 0 < sharpness < math.inf:
                found[seed] = largest(_rates(runs), good, over=2 / sharpness)
        what = "largest rate that trains x sharpness at the start / 2"
        parts.append(equal(model, what, found, margin))
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
    cells: Cells,
    keys: tuple[str, ...],
    least: int,
    models: Sequence[str] = ("vgg", "vgg_bn"),
    **axes: object,
) -> Iterator[tuple[int, Grid, Grid]]:
    """Yield a seed and both networks' runs of it, the standard one's first, at ``least`` points."""
    standard, normalised = (_by_seed(cells, keys, m, **axes) for m in models)
    for seed in sorted(standard.keys() & normalised.keys()):
        points = [point for point in standard[seed] if point in normalised[seed]]
        if len(points) >= least:
            a, b = ({p: runs[seed][p] for p in points} for runs in (standard, normalised))
            yield seed, a, b


def _furthest(
    label: str,
    what: str,
    both: Iterable[tuple[int, Grid, Grid]],
    good: Callable[[Grid], set[float]],
) -> Component:
    """Compare the largest of the values of one axis that are good for each network."""
    found = {
        seed: (largest(_rates(standard), a), largest(_rates(normalised), b))
        for seed, standard, normalised in both
        if (a := good(standard)) | (b := good(normalised))
    }
    return larger(label, what, found)


def _trains(run: Run, cells: Cells) -> bool:
    return trains(run, cells.scale, **cells.measured)


def _training(runs: Grid, cells: Cells) -> set[float]:
    """Return the rates, or strengths, at which a network trains."""
    return {rate for (rate,), run in runs.items() if _trains(run, cells)}


def _rates(runs: Grid) -> list[float]:
    return sorted(rate for (rate,) in runs)


def _share_error(both: Sequence[tuple[int, Grid, Grid]]) -> float:
    """Return the standard deviation of a difference of two shares for being rounded to a run."""
    return math.sqrt(2 / 12) * max((POINTS / len(runs) for _, runs, _ in both), default=0.0)


def _sharpness(runs: Grid) -> float:
    """Return the Hessian's largest eigenvalue before the first step, which no rate has changed."""
    for run in runs.values():
        rows = run.rows("curvature").filter(
            col("quantity") == "largest_eigenvalue", col("step") == 0
        )
        if len(rows):
            return float(rows["value"][0])
    return math.nan
