"""BatchNorm regularises, and makes other regularisers less needed."""

import math
from collections.abc import Mapping

import numpy

from src.analysis.claims.cells import Cells, Run, pairs
from src.analysis.claims.measures import POINTS, accuracy_error, test_accuracy
from src.analysis.claims.registry import claim
from src.analysis.claims.verdict import Finding, difference


@claim
def regularises(cells: Cells, lr: float) -> Finding:
    """Compare test accuracies where the training accuracies are equal."""
    standard, normalised = cells.of("vgg", optim__lr=lr), cells.of("vgg_bn", optim__lr=lr)
    found = difference(
        "",
        "test accuracy at equal training accuracy, BatchNorm - standard, points",
        pairs(standard, normalised, _at_equal_training),
        "greater",
        floor=accuracy_error(),
    )
    return Finding([found])


@claim
def regularisation_gain(cells: Cells, lr: float) -> Finding:
    """Compare what each regulariser adds to the test accuracy, with and without BatchNorm."""
    off = {"model.dropout": 0.0, "optim.weight_decay": 0.0}
    parts = []
    for key, name in (("model.dropout", "dropout"), ("optim.weight_decay", "weight decay")):
        for value in cells.shared(key, "vgg", "vgg_bn"):
            if value == 0:
                continue
            standard, normalised = (
                _gain(
                    cells.of(m, **off, optim__lr=lr),
                    cells.of(m, **off | {key: value}, optim__lr=lr),
                )
                for m in ("vgg", "vgg_bn")
            )
            parts.append(
                difference(
                    f"{name} {value:g}",
                    "gain of test accuracy, BatchNorm - standard, points",
                    {s: normalised[s] - standard[s] for s in standard if s in normalised},
                    "less",
                    floor=accuracy_error(2),
                )
            )
    return Finding(parts)


def _gain(without: Mapping[int, Run], with_it: Mapping[int, Run]) -> dict[int, float]:
    """Return what a regulariser adds to the test accuracy of each seed, in points."""
    return pairs(without, with_it, lambda a, b: POINTS * (test_accuracy(b) - test_accuracy(a)))


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
