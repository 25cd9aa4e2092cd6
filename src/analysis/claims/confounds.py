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
    parts = [compared(cells, column, standard, normalised) for column in PANELS]
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
        for lr in _rates(cells, "vgg", "vgg_bn")
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
        runs = {lr: cells.of(model, optim__lr=lr) for lr in _rates(cells, model)}
        steps = [
            _exponent(f"{model}, smallest step, LR {lr:g}", _by_step(cells, runs[lr]), slope)
            for lr in runs
        ]
        parts += [part for part in steps if part.seeds]
        parts.append(_exponent(f"{model}, LR", _by_rate(cells, runs), slope))
    return Finding(parts)


def _rates(cells: Cells, *models: str) -> list[float]:
    """Return the rates at which all runs of some networks train: a plateau's beta tells nothing."""

    def all_train(lr: float) -> bool:
        runs = [run for model in models for run in cells.of(model, optim__lr=lr).values()]
        return all(trains(run, cells.scale, "train_eval/accuracy") for run in runs)

    return [lr for lr in cells.shared("optim.lr", *models) if all_train(lr)]


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
