"""What but smoothness could explain the landscape's gap: the edge, the step sizes, the rate."""

import math
from collections.abc import Mapping, Sequence

import numpy
from polars import col

from src.analysis.claims.accuracies import late_loss, trains
from src.analysis.claims.cells import Cells, Run, pairs
from src.analysis.claims.comparing import median, median_log_ratio
from src.analysis.claims.landscape import PANELS, Steps, along, compared
from src.analysis.claims.registry import claim
from src.analysis.claims.result import Component
from src.analysis.claims.verdict import Finding, difference, ratio

_NETWORKS = ("vgg", "vgg_bn")


@claim
def landscape_best_rate(cells: Cells, rates: int) -> Finding:
    """Compare all three at the rate where each network's training loss is lowest.

    That is chosen on the lowest seed, which is then left out.
    """
    tuning = min((run.config["seed"] for run in cells.runs), default=0)
    looked_at = [
        lr
        for lr in cells.shared("optim.lr", *_NETWORKS)
        if all(tuning in cells.of(model, optim__lr=lr) for model in _NETWORKS)
    ]
    if len(looked_at) < rates:
        return Finding([])
    training = {model: _training(cells, model, looked_at) for model in _NETWORKS}
    chosen = {model: _best_rate(runs, tuning) for model, runs in training.items()}
    standard, normalised = (
        {} if lr is None else {s: run for s, run in training[m][lr].items() if s != tuning}
        for m, lr in chosen.items()
    )
    told = (f"{m} {lr:g}" for m, lr in chosen.items() if lr is not None)
    note = f"best of the rates {looked_at[0]:g} to {looked_at[-1]:g}, on seed {tuning}: "
    parts = [compared(cells, column, standard, normalised) for column in PANELS]
    return Finding(parts, note=note + ", ".join(told))


@claim
def beta_off_edge(cells: Cells, edge: float, steps: Steps, least: int) -> Finding:
    """Compare effective beta at the steps where both networks have beta x LR below the edge."""

    def change(a: Run, b: Run) -> float:
        first, second = (
            along(run, cells.measured, steps).filter(col("beta") * run.lr < edge) for run in (a, b)
        )
        both = first.join(second, on="step", how="semi")
        return median_log_ratio(both, second, "beta", ["step"]) if len(both) >= least else math.nan

    rates = cells.shared("optim.lr", *_NETWORKS)
    standard, normalised = (_training(cells, model, rates) for model in _NETWORKS)
    parts = [
        ratio(
            f"LR {lr:g}",
            "effective beta, BatchNorm / standard",
            pairs(runs, normalised[lr], change),
            "less",
        )
        for lr, runs in standard.items()
        if lr in normalised
    ]
    return Finding([part for part in parts if part.seeds])


@claim
def beta_smallest_step(cells: Cells, slope: float) -> Finding:
    """Tell whether effective beta depends on the smallest step looked at, or on the rate.

    Its exponent in them is 0 where it does not, -1 where it is 1 / (smallest step), or 2 / LR; a
    gradient that is bounded gives less than 0, too.
    """
    parts = []
    for model in _NETWORKS:
        runs = _training(cells, model, cells.shared("optim.lr", model))
        steps = [
            _exponent(f"{model}, smallest step, LR {lr:g}", _by_step(cells, runs[lr]), slope)
            for lr in runs
        ]
        parts += [part for part in steps if part.seeds]
        parts.append(_exponent(f"{model}, LR", _by_rate(cells, runs), slope))
    return Finding(parts)


def _training(cells: Cells, model: str, rates: Sequence[float]) -> dict[float, dict[int, Run]]:
    """Return a network's runs that train, by rate and seed, at the rates at which most do.

    Where one does not, it is on a plateau, whose landscape tells nothing.
    """
    found = {}
    for lr in rates:
        runs = cells.of(model, optim__lr=lr)
        trained = {s: r for s, r in runs.items() if trains(r, cells.scale, "train_eval/accuracy")}
        if 2 * len(trained) > len(runs):
            found[lr] = trained
    return found


def _best_rate(training: Mapping[float, Mapping[int, Run]], seed: int) -> float | None:
    """Return the rate at which a seed trains with the lowest late training loss."""
    losses = {
        lr: loss
        for lr, runs in training.items()
        if seed in runs and not math.isnan(loss := late_loss(runs[seed]))
    }
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
    for seed in sorted(set().union(*runs.values())):
        each = {lr: by_seed[seed] for lr, by_seed in runs.items() if seed in by_seed}
        etas = _etas([*each.values()], cells.measured)
        betas = [median(along(run, cells.measured, etas=etas)["beta"]) for run in each.values()]
        found[seed] = _fitted_exponent([*each], betas)
    return found


def _fitted_exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the slope of log y in log x; NaN where there are not two points."""
    if len(x) < 2 or not (numpy.isfinite(y).all() and min(y) > 0):
        return math.nan
    return float(numpy.polyfit(numpy.log(x), numpy.log(y), 1)[0])


def _exponent(label: str, values: Mapping[int, float], slope: float) -> Component:
    return difference(label, "exponent of effective beta", values, "greater", than=slope)
