"""The loss and its gradient along the gradient: smoother with BatchNorm, and by which measure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy
from polars import DataFrame, col, max_horizontal

from src.analysis.claims.cells import Cells, Run, pairs
from src.analysis.claims.measures import (
    WHOLE,
    Window,
    at_equal_loss,
    late_loss,
    median,
    median_log_ratio,
    over_training,
)
from src.analysis.claims.registry import claim
from src.analysis.claims.result import Component
from src.analysis.claims.verdict import Finding, difference, ratio

Steps = tuple[float, float]  # the range of step sizes, in multiples of LR
_NAMES = {
    "variation": "width of the loss band",
    "lipschitz": "Lipschitz estimate of the loss",
    "steepest": "largest gradient met",
    "predictiveness": "largest change of the gradient",
    "beta": "effective beta",
}
_FIGURE = ("variation", "predictiveness", "beta")  # its three panels


@claim
def loss_variation(cells: Cells, lr: float, steps: Steps, windows: Sequence[float]) -> Finding:
    """Compare the range of losses along the gradient."""
    return _compared(cells, "variation", lr, steps, windows)


@claim
def lipschitz(cells: Cells, lr: float, steps: Steps, windows: Sequence[float]) -> Finding:
    """Compare how fast the loss changes along the gradient, at most."""
    return _compared(cells, "lipschitz", lr, steps, windows)


@claim
def largest_gradient(cells: Cells, lr: float, steps: Steps, windows: Sequence[float]) -> Finding:
    """Compare the largest gradient met on the way, the start included."""
    return _compared(cells, "steepest", lr, steps, windows)


@claim
def predictiveness(cells: Cells, lr: float, steps: Steps, windows: Sequence[float]) -> Finding:
    """Compare how far the gradient changes along itself, at most."""
    return _compared(cells, "predictiveness", lr, steps, windows)


@claim
def beta(cells: Cells, lr: float, steps: Steps, windows: Sequence[float]) -> Finding:
    """Compare how fast the gradient changes along itself, at most."""
    return _compared(cells, "beta", lr, steps, windows)


@claim
def beta_relative(cells: Cells, lr: float, steps: Steps, windows: Sequence[float]) -> Finding:
    """Compare the same in the metric that rescaling the layers does not change."""
    return _compared(cells, "beta", lr, steps, windows)


@claim
def beta_each_step(
    cells: Cells, lr: float, steps: Sequence[float], windows: Sequence[float]
) -> Finding:
    """Compare effective beta at each step size by itself, in each part of training."""
    standard, normalised = cells.of("vgg", optim__lr=lr), cells.of("vgg_bn", optim__lr=lr)
    return Finding(
        [
            replace(
                _part(cells, "beta", standard, normalised, (step, step), window=window),
                label=f"{step:g} LR, {window[0]:.0%} to {window[1]:.0%} of training",
                effect_label="effective beta, BatchNorm / standard",
            )
            for step in steps
            for window in pairwise(windows)
        ]
    )


@claim
def landscape_equal_loss(cells: Cells, lr: float, steps: Steps, within: float) -> Finding:
    """Compare all three not at equal steps but at equal training losses."""
    standard, normalised = cells.of("vgg", optim__lr=lr), cells.of("vgg_bn", optim__lr=lr)
    return Finding(
        [_part(cells, column, standard, normalised, steps, within) for column in _FIGURE]
    )


@claim
def landscape_dln(cells: Cells, lr: float, steps: Steps) -> Finding:
    """Compare all three in the deep linear network."""
    standard, normalised = cells.of("dln", optim__lr=lr), cells.of("dln_bn", optim__lr=lr)
    return Finding([_part(cells, column, standard, normalised, steps) for column in _FIGURE])


@claim
def landscape_best_rate(cells: Cells, tuning_seeds: Sequence[int]) -> Finding:
    """Compare all three at the rate where each network's training loss is lowest.

    That is chosen on the tuning seeds, which are then left out.
    """
    chosen = {model: _best_rate(cells, model, tuning_seeds) for model in ("vgg", "vgg_bn")}
    standard, normalised = (
        {seed: run for seed, run in cells.of(m, optim__lr=lr).items() if seed not in tuning_seeds}
        for m, lr in chosen.items()
    )
    note = "best rates: " + ", ".join(f"{m} {lr:g}" for m, lr in chosen.items() if lr is not None)
    parts = [_part(cells, column, standard, normalised) for column in _FIGURE]
    return Finding(parts, note=note)


@claim
def beta_off_edge(cells: Cells, edge: float, steps: Steps) -> Finding:
    """Compare effective beta at the steps where both networks have beta x LR below the edge."""

    def change(a: Run, b: Run) -> float:
        first, second = (
            along(run, cells.measured, steps).filter(col("beta") * run.lr < edge) for run in (a, b)
        )
        return median_log_ratio(first, second, "beta", ["step"])

    parts = [
        ratio(
            f"LR {lr:g}",
            "effective beta, BatchNorm / standard",
            pairs(cells.of("vgg", optim__lr=lr), cells.of("vgg_bn", optim__lr=lr), change),
            "less",
        )
        for lr in cells.shared("optim.lr", "vgg", "vgg_bn")
    ]
    return Finding([part for part in parts if part.seeds])


@claim
def beta_smallest_step(cells: Cells, slope: float) -> Finding:
    """Tell whether effective beta depends on the smallest step looked at, or on the rate.

    Its exponent in them is 0 where it does not, -1 where it is 1 / (smallest step), or 2 / LR; a
    gradient that is bounded gives less than 0, too.
    """
    parts = []
    for model in ("vgg", "vgg_bn"):
        rates = cells.shared("optim.lr", model)
        runs = {lr: cells.of(model, optim__lr=lr) for lr in rates}
        steps = [
            _exponent(f"{model}, smallest step, LR {lr:g}", _by_step(cells, runs[lr]), slope)
            for lr in rates
        ]
        parts += [part for part in steps if part.seeds]
        parts.append(_exponent(f"{model}, LR", _by_rate(cells, runs), slope))
    return Finding(parts)


def along(
    run: Run,
    measured: Mapping[str, str],
    steps: Steps | None = None,
    etas: Sequence[float] | None = None,
) -> DataFrame:
    """Return what a run met on the way along its direction, a row a probed step.

    A point where the loss is not a number lies beyond where it is infinite, and counts as that.

    Args:
        run: The run; where it has no landscape there are no rows.
        measured: The ``metric`` and the ``direction``.
        steps: Only step sizes in this range, in multiples of LR; in the euclidean metric.
        etas: Only these step sizes.
    """
    rows = run.rows("landscape").filter(
        *(col(key) == value for key, value in measured.items()), col("grad_norm") > 0
    )
    beyond = ("loss", "grad_diff", "beta")
    rows = rows.with_columns(
        *(col(name).fill_nan(math.inf) for name in beyond),
        distance=(col("grad_diff") / col("beta")).fill_nan(col("eta") * col("grad_norm")),
    )
    # In the relative metric the probe has matched the step sizes to the euclidean ones.
    if steps is not None and measured["metric"] == "euclidean":
        low, high = steps
        rows = rows.filter((col("eta") / run.lr).is_between(low * 0.999, high * 1.001))
    if etas is not None:
        rows = rows.filter(col("eta").is_in(etas))
    steepness = (col("loss") - col("loss_at_zero")).abs() / col("distance")
    return rows.group_by("step").agg(
        variation=(col("loss").max() - col("loss").min()).fill_nan(math.inf),
        lipschitz=steepness.fill_nan(math.inf).max(),
        steepest=max_horizontal(col("grad_norm_at").fill_nan(math.inf), "grad_norm").max(),
        predictiveness=col("grad_diff").max(),
        beta=col("beta").max(),
    )


def _compared(
    cells: Cells, column: str, lr: float, steps: Steps, windows: Sequence[float]
) -> Finding:
    def gap(a: Run, b: Run, window: Window) -> float:
        return _gap(column, a, b, cells.measured, steps, window)

    def judged(label: str, logs: Mapping[int, float]) -> Component:
        return ratio(label, f"{_NAMES[column]}, BatchNorm / standard", logs, "less")

    standard, normalised = cells.of("vgg", optim__lr=lr), cells.of("vgg_bn", optim__lr=lr)
    return over_training(standard, normalised, gap, judged, windows)


def _part(
    cells: Cells,
    column: str,
    first: Mapping[int, Run],
    second: Mapping[int, Run],
    steps: Steps | None = None,
    within: float | None = None,
    window: Window = WHOLE,
) -> Component:
    def gap(a: Run, b: Run) -> float:
        return _gap(column, a, b, cells.measured, steps, window, within)

    return ratio(_NAMES[column], "BatchNorm / standard", pairs(first, second, gap), "less")


def _gap(
    column: str,
    a: Run,
    b: Run,
    measured: Mapping[str, str],
    steps: Steps | None,
    window: Window,
    within: float | None = None,
) -> float:
    """Return the median log ratio over the steps of a part of training, or over equal losses."""
    first, second = (along(run, measured, steps) for run in (a, b))
    low, high = (share * a.steps for share in window)
    first = first.filter(col("step") >= low, col("step") < high)
    if within is not None:
        second = at_equal_loss(a, first, b, second, within)
    return median_log_ratio(first, second, column, ["step"])


def _best_rate(cells: Cells, model: str, seeds: Sequence[int]) -> float | None:
    """Return the rate of the lowest late training loss, on average over some seeds."""
    losses = {}
    for lr in cells.shared("optim.lr", model):
        runs = cells.of(model, optim__lr=lr)
        late_losses = [late_loss(runs[seed]) for seed in seeds if seed in runs]
        if late_losses and not any(map(math.isnan, late_losses)):
            losses[lr] = sum(late_losses) / len(late_losses)
    return min(losses, key=losses.__getitem__, default=None)


def _etas(runs: Sequence[Run], measured: Mapping[str, str]) -> list[float]:
    """Return the step sizes at which all of some runs were looked at."""
    sizes = [
        set(run.rows("landscape").filter(*(col(k) == v for k, v in measured.items()))["eta"])
        for run in runs
    ]
    return sorted(set.intersection(*sizes)) if sizes else []


def _by_step(cells: Cells, runs: Mapping[int, Run]) -> dict[int, float]:
    """Return each seed's exponent of beta in the smallest step size looked at."""
    found = {}
    for seed, run in runs.items():
        etas = _etas([run], cells.measured)
        betas = [
            median(along(run, cells.measured, etas=etas[i:])["beta"]) for i in range(len(etas))
        ]
        found[seed] = _fitted_exponent(etas, betas)
    return found


def _by_rate(cells: Cells, runs: Mapping[float, Mapping[int, Run]]) -> dict[int, float]:
    """Return each seed's exponent of beta in the learning rate, the step sizes held."""
    found = {}
    for seed in sorted(set.intersection(*map(set, runs.values())) if len(runs) > 1 else ()):
        each = [by_seed[seed] for by_seed in runs.values()]
        etas = _etas(each, cells.measured)
        betas = [median(along(run, cells.measured, etas=etas)["beta"]) for run in each]
        found[seed] = _fitted_exponent(list(runs), betas)
    return found


def _fitted_exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the slope of log y in log x; NaN where there are not two points."""
    if len(x) < 2 or not (numpy.isfinite(y).all() and min(y) > 0):
        return math.nan
    return float(numpy.polyfit(numpy.log(x), numpy.log(y), 1)[0])


def _exponent(label: str, values: Mapping[int, float], slope: float) -> Component:
    return difference(label, "exponent of effective beta", values, "greater", than=slope)
