"""BatchNorm regularises, and makes other regularisers less needed."""

import math
from dataclasses import replace

import numpy
from polars import Series

from src.analysis.claims.accuracies import (
    POINTS,
    accuracy_error,
    test_accuracy,
    train_accuracy,
    trains,
)
from src.analysis.claims.cells import Cells, Run, pairs
from src.analysis.claims.comparing import median
from src.analysis.claims.registry import claim
from src.analysis.claims.verdict import Finding, difference


@claim
def regularises(cells: Cells, lr: float) -> Finding:
    """Compare test accuracies where the training accuracies are equal."""
    standard, normalised = cells.pair("vgg", "vgg_bn", optim__lr=lr)
    found = difference(
        "",
        "test accuracy at equal training accuracy, BatchNorm - standard, points",
        pairs(standard, normalised, _at_equal_training),
        "greater",
        floor=accuracy_error(cells.runs),
    )
    return Finding([found])


@claim
def regularisation_gain(cells: Cells, lr: float, overfitting: float) -> Finding:
    """Compare what each regulariser adds to the test accuracy, with and without BatchNorm.

    That tells something of regularisation where there is something to regularise: both networks
    train with it and without, and without it overfit.
    """
    off = {"model.dropout": 0.0, "optim.weight_decay": 0.0}

    def gain(without: Run, with_it: Run) -> float:
        trained = all(trains(run, cells.scale, "train_eval/accuracy") for run in (without, with_it))
        if not trained or _overfitting(without) < overfitting:
            return math.nan
        return POINTS * (test_accuracy(with_it) - test_accuracy(without))

    parts = []
    for key, name in (("model.dropout", "dropout"), ("optim.weight_decay", "weight decay")):
        what = "gain of test accuracy, BatchNorm - standard, points"
        values = [value for value in cells.shared(key, "vgg", "vgg_bn") if value != 0]
        if not values:
            parts.append(difference(name, what, {}, "less"))
        for value in values:
            standard, normalised = (
                pairs(
                    cells.of(m, **off, optim__lr=lr),
                    cells.of(m, **off | {key: value}, optim__lr=lr),
                    gain,
                )
                for m in ("vgg", "vgg_bn")
            )
            gains = {s: normalised[s] - standard[s] for s in standard if s in normalised}
            error = accuracy_error(cells.runs, differences=2)
            part = difference(f"{name} {value:g}", what, gains, "less", floor=error)
            if gains and not part.seeds:  # runs that are there and cannot tell are not missing
                label = f"{part.label} (no pair trains, and overfits without)"
                part = replace(part, label=label, seeds=len(gains), verdict="inconclusive")
            parts.append(part)
    gaps = (
        f"{m} {median(Series(map(_overfitting, runs.values()))):.1f}"
        for m in ("vgg", "vgg_bn")
        if (runs := cells.of(m, **off, optim__lr=lr))
    )
    told = f"training less test accuracy without regularisers, points: {', '.join(gaps)}"
    return Finding(parts, note=told)


def _overfitting(run: Run) -> float:
    """Return by how many points the final training accuracy is above the test accuracy."""
    return POINTS * (train_accuracy(run) - test_accuracy(run))


def _at_equal_training(first: Run, second: Run) -> float:
    """Return the difference of test accuracies at the largest training accuracy both reach."""
    a, b = _curve(first), _curve(second)
    if not (len(a) and len(b)):
        return math.nan
    level = min(a[:, 0].max(), b[:, 0].max())
    return POINTS * (_crossing(b, level) - _crossing(a, level))


def _curve(run: Run) -> numpy.ndarray:
    """Return training and test accuracy at each evaluation, [evaluations, 2]."""
    train, test = run.metric("train_eval/accuracy"), run.metric("val/accuracy")
    both = train.join(test, on="step").sort("step")
    return both.select("value", "value_right").to_numpy()


def _crossing(curve: numpy.ndarray, level: float) -> float:
    """Return the test accuracy where the training accuracy first reaches a level.

    NaN where it is beyond the level at the first evaluation.
    """
    if curve[0, 0] > level:
        return math.nan
    after = int(numpy.argmax(curve[:, 0] >= level))
    (x0, y0), (x1, y1) = curve[max(after - 1, 0)], curve[after]
    share = (level - x0) / (x1 - x0) if x1 > x0 else 1.0
    return float(y0 + share * (y1 - y0))
