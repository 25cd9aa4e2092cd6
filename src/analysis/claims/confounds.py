"""What but smoothness could explain the landscape's gap: the edge, the step sizes, the rate."""

import math
from collections.abc import Mapping, Sequence

import numpy
from polars import col

from src.analysis.claims.cells import Cells, Run, pairs
from src.analysis.claims.landscape import PANELS, Steps, along, compared
from src.analysis.claims.measures import late_loss, median, median_log_ratio, trains
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
    chosen = {model: _best_rate(cells, model, tuning, looked_at) for model in _NETWORKS}
    standard, normalised = (
        {seed: run for seed, run in _that_train(cells, m, lr).items() if seed != tuning}
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

    parts = []
    for lr in _rates(cells, *_NETWORKS):
        standard, normalised = (_that_train(cells, model, lr) for model in _NETWORKS)
        logs = pairs(standard, normalised, change)
        parts.append(ratio(f"LR {lr:g}", "effective beta, BatchNorm / standard", logs, "less"))
    return Finding([part for part in parts if part.seeds])


@claim
def beta_smallest_step(cells: Cells, slope: float) -> Finding:
    """Tell whether effective beta depends on the smallest step looked at, or on the rate.

    Its exponent in them is 0 where it does not, -1 where it is 1 / (smallest step), or 2 / LR; a
    gradient that is bounded gives less than 0, too.
    """
    parts = []
    for model in _NETWORKS:
        runs = {lr: _that_train(cells, model, lr) for lr in _rates(cells, model)}
        steps = [
            _exponent(f"{model}, smallest step, LR {lr:g}", _by_step(cells, runs[lr]), slope)
            for lr in runs
        ]
        parts += [part for part in steps if part.seeds]
        parts.append(_exponent(f"{model}, LR", _by_rate(cells, runs), slope))
    return Finding(parts)


def _that_train(cells: Cells, model: str, lr: float | None) -> dict[int, Run]:
    """Return a network's runs at a rate but those on a plateau, whose landscape tells nothing."""
    return {
        seed: run
        for seed, run in cells.of(model, optim__lr=lr).items()
        if trains(run, cells.scale, "train_eval/accuracy")
    }


def _rates(cells: Cells, *models: str) -> list[float]:
    """Return the rates at which most runs of each of some networks train."""
    return [
        lr
        for lr in cells.shared("optim.lr", *models)
        if all(
            2 * len(_that_train(cells, model, lr)) > len(cells.of(model, optim__lr=lr))
            for model in models
        )
    ]


def _best_rate(cells: Cells, model: str, seed: int, rates: Sequence[float]) -> float | None:
    """Return the one of some rates at which a seed trains with the lowest late training loss."""
    losses = {
        lr: loss
        for lr in _rates(cells, model)
        if lr in rates and (run := _that_train(cells, model, lr).get(seed))
        if not math.isnan(loss := late_loss(run))
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
