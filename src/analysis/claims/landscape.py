"""The loss and its gradient along the gradient: smoother with BatchNorm, and by which measure."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from polars import DataFrame, col

from src.analysis.claims.cells import Cells, Run, pairs
from src.analysis.claims.comparing import (
    WHOLE,
    EqualLoss,
    Window,
    both_ways,
    during,
    matched,
    median_log_ratio,
    own_initialisation,
    part_of_training,
)
from src.analysis.claims.registry import claim
from src.analysis.claims.result import Component
from src.analysis.claims.verdict import Finding, ratio
from src.analysis.smoothness import smoothness

Steps = tuple[float, float]  # the range of step sizes, in multiples of LR
_NAMES = {
    "variation": "width of the loss band",
    "lipschitz": "Lipschitz estimate of the loss",
    "steepest": "largest gradient met",
    "predictiveness": "largest change of the gradient",
    "relative_change": "largest change of the gradient over its length",
    "beta": "effective beta",
}
PANELS = ("variation", "predictiveness", "beta")  # of Fig. 4


def along_gradient(
    cells: Cells, column: str, lr: float, steps: Steps, windows: Sequence[float]
) -> Finding:
    """Compare a column of :func:`along` over all of training, and in its parts."""
    nets = cells.pair("vgg", "vgg_bn", optim__lr=lr)

    def part(label: str, window: Window) -> Component:
        return compared(cells, column, *nets, steps, window=window, label=label)

    parts = [part(part_of_training(window), window) for window in pairwise(windows)]
    return Finding(parts, part("all of training", WHOLE))


claim(
    along_gradient,
    *("loss_variation", "lipschitz", "largest_gradient", "predictiveness"),
    *("beta", "beta_relative"),
)


@claim
def beta_each_step(
    cells: Cells, lr: float, steps: Sequence[float], windows: Sequence[float]
) -> Finding:
    """Compare effective beta at each step size by itself, in each part of training."""
    standard, normalised = cells.pair("vgg", "vgg_bn", optim__lr=lr)
    return Finding(
        [
            compared(
                cells,
                "beta",
                standard,
                normalised,
                (step, step),
                window=window,
                label=f"{step:g} LR, {part_of_training(window)}",
            )
            for step in steps
            for window in pairwise(windows)
        ]
    )


@claim
def landscape_equal_loss(
    cells: Cells, lr: float, steps: Steps, within: float, below: float, least: int
) -> Finding:
    """Compare all three not at equal steps but at equal training losses."""
    standard, normalised = cells.pair("vgg", "vgg_bn", optim__lr=lr)
    return Finding(
        [
            compared(cells, column, standard, normalised, steps, equal)
            for equal in both_ways(within, below, least)
            for column in PANELS
        ]
    )


@claim
def predictiveness_per_length(
    cells: Cells,
    lr: float,
    steps: Steps,
    within: float,
    below: float,
    least: int,
    windows: Sequence[float],
) -> Finding:
    """Compare the gradient's change over its length, at equal losses and at equal steps."""
    standard, normalised = cells.pair("vgg", "vgg_bn", optim__lr=lr)

    def part(label: str, equal: EqualLoss | None = None, window: Window = WHOLE) -> Component:
        return compared(cells, "relative_change", standard, normalised, steps, equal, window, label)

    return Finding(
        [
            *(part(f"equal loss{way.told}", way) for way in both_ways(within, below, least)),
            *(
                part(f"equal steps, {part_of_training(window)}", window=window)
                for window in pairwise(windows)
            ),
        ]
    )


@claim
def landscape_dln(cells: Cells, lr: float, steps: Steps) -> Finding:
    """Compare all three in the deep linear network."""
    standard, normalised = cells.pair("dln", "dln_bn", optim__lr=lr)
    return Finding([compared(cells, column, standard, normalised, steps) for column in PANELS])


@claim
def landscape_own_initialisation(cells: Cells, lr: float, steps: Steps) -> Finding:
    """Compare all three, the standard network from He's initialisation, BatchNorm from Glorot's."""
    nets = own_initialisation(cells, lr)
    return Finding([compared(cells, column, *nets, steps) for column in PANELS])


@claim
def batch_independent_smooth(
    cells: Cells, norms: Sequence[str], lr: float, steps: Steps
) -> Finding:
    """Compare all three with other norms than BatchNorm."""
    standard = cells.of("vgg", optim__lr=lr)
    return Finding(
        [
            compared(
                cells,
                column,
                standard,
                cells.of(f"vgg_{norm}", optim__lr=lr),
                steps,
                label=f"{norm}: {_NAMES[column]}",
                between="other norm / standard",
            )
            for norm in norms
            for column in PANELS
        ]
    )


def along(
    run: Run,
    measured: Mapping[str, str],
    steps: Steps | None = None,
    etas: Sequence[float] | None = None,
) -> DataFrame:
    """Return the :func:`smoothness` of a run's loss along its direction, a row a probed step.

    Args:
        run: The run; where it has no landscape there are no rows.
        measured: The ``metric`` and the ``direction``.
        steps: Only step sizes in this range, in multiples of LR; in the euclidean metric.
        etas: Only these step sizes.
    """
    rows = run.rows("landscape").filter(*(col(key) == value for key, value in measured.items()))
    # In the relative metric the probe has matched the step sizes to the euclidean ones.
    if steps is not None and measured["metric"] == "euclidean":
        low, high = steps
        rows = rows.filter((col("eta") / run.lr).is_between(low * 0.999, high * 1.001))
    if etas is not None:
        rows = rows.filter(col("eta").is_in(etas))
    return smoothness(rows)


def compared(
    cells: Cells,
    column: str,
    first: Mapping[int, Run],
    second: Mapping[int, Run],
    steps: Steps | None = None,
    equal: EqualLoss | None = None,
    window: Window = WHOLE,
    label: str = "",
    between: str = "BatchNorm / standard",
) -> Component:
    """Judge a column of :func:`along` by the median of its log ratio at each seed.

    Args:
        cells: What the runs are read by.
        column: Which.
        first: A run a seed.
        second: What it is paired with.
        steps: Only step sizes in this range, in multiples of LR.
        equal: What counts as an equal training loss; default: equal steps are compared.
        window: The part of training.
        label: Which part of the claim it is, where that is not told by the column's name.
        between: What the ratio is of.
    """
    label = label or _NAMES[column] + (equal.told if equal else "")

    def gap(a: Run, b: Run) -> float:
        first, second = (along(run, cells.measured, steps) for run in (a, b))
        first, second = matched(a, first.filter(during(a, window)), b, second, equal)
        return median_log_ratio(first, second, column, ["step"])

    what = between if _NAMES[column] in label else f"{_NAMES[column]}, {between}"
    return ratio(label, what, pairs(first, second, gap), "less")
