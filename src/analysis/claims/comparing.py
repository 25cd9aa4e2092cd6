"""What two networks' probes found, side by side: which runs, where in training, the median."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import polars
from polars import DataFrame, col

from src.analysis.claims.cells import Cells, Run
from src.analysis.losses import smoothed

Nets = tuple[Mapping[int, Run], Mapping[int, Run]]  # the standard network's runs and BatchNorm's
Window = tuple[float, float]  # of training, in fractions of its steps
WHOLE: Window = (0.0, math.inf)


def own_initialisation(cells: Cells, lr: float) -> Nets:
    """Return the standard network's runs from He's initialisation, BatchNorm's from Glorot's."""
    return (
        cells.of("vgg", optim__lr=lr, init__name="he_normal"),
        cells.of("vgg_bn", optim__lr=lr, init__name="glorot_normal"),
    )


def during(run: Run, window: Window) -> polars.Expr:
    """Return whether a step of a run lies in a part of its training."""
    low, high = (share * run.steps for share in window)
    return (col("step") >= low) & (col("step") < high)


def part_of_training(window: Window) -> str:
    """Return the words for a part of training."""
    return "{:.0%} to {:.0%} of training".format(*window)


class EqualLoss(NamedTuple):
    """What counts as an equal training loss, see :func:`smoothed`.

    Attributes:
        within: How far apart two losses may be, in nats.
        below: Only losses below this: a network that stays at chance has none to compare.
        least: At how many different steps of the run that is matched there must be one; with
            fewer, none is taken.
        steps_of: Whose probed steps the other is matched to. Who stays long at some losses is
            there at many steps, so it decides how much each loss counts.
    """

    within: float
    below: float
    least: int
    steps_of: Literal["standard", "BatchNorm"]

    @property
    def told(self) -> str:
        """What is added to a part's label: whose steps they are, if not the standard network's."""
        return "" if self.steps_of == "standard" else ", at BatchNorm's steps"


def both_ways(within: float, below: float, least: int) -> list[EqualLoss]:
    """Return what counts as equal, at the steps of each network."""
    return [EqualLoss(within, below, least, steps_of) for steps_of in ("standard", "BatchNorm")]


def matched(
    standard: Run, a: DataFrame, normalised: Run, b: DataFrame, equal: EqualLoss | None
) -> tuple[DataFrame, DataFrame]:
    """Return both runs' probes, one's moved to the steps of the other where losses are equal.

    ``equal`` None: as they are, at equal steps.
    """
    if equal is None:
        return a, b
    if equal.steps_of == "standard":
        return a, at_equal_loss(standard, a, normalised, b, equal)
    return at_equal_loss(normalised, b, standard, a, equal), b


def at_equal_loss(
    first: Run, a: DataFrame, second: Run, b: DataFrame, equal: EqualLoss
) -> DataFrame:
    """Return what the second run's probes found where the first had the same training loss.

    Args:
        first: A run.
        a: Its probed steps, ``step`` among the columns.
        second: Another.
        b: What its probes found.
        equal: What counts as that.

    Returns:
        Rows of ``b``, once for each step of ``a`` to which their loss is the nearest, with that as
        their ``step``.
    """
    mine, theirs = (
        _losses(run, rows).filter(col("loss") < equal.below).sort("loss")
        for run, rows in ((first, a), (second, b))
    )
    nearest = mine.join_asof(
        theirs.rename({"step": "second"}), on="loss", strategy="nearest", tolerance=equal.within
    )
    matched = nearest.drop_nulls().select("step", "second")
    if matched["second"].n_unique() < equal.least:
        matched = matched.clear()
    return b.rename({"step": "second"}).join(matched, on="second")


def _losses(run: Run, probed: DataFrame) -> DataFrame:
    losses = smoothed(run.metric("train/loss"))
    return losses.join(probed.select("step").unique(), on="step")


def median_log_ratio(first: DataFrame, second: DataFrame, column: str, on: Sequence[str]) -> float:
    """Return the median of log(second / first) over the rows both have; NaN where there is none."""
    return _median(first, second, (col(f"{column}_second") / col(column)).log(), on)


def median_difference(first: DataFrame, second: DataFrame, column: str, on: Sequence[str]) -> float:
    """Return the median of second - first over the rows both have; NaN where there is none."""
    return _median(first, second, col(f"{column}_second") - col(column), on)


def _median(first: DataFrame, second: DataFrame, change: polars.Expr, on: Sequence[str]) -> float:
    both = first.join(second, on=on, suffix="_second")
    return median(both.select(change).to_series())


def median(values: polars.Series) -> float:
    """Return the median of the values there are; NaN where there is none."""
    middle = values.drop_nulls().drop_nans().median()
    return math.nan if middle is None else float(middle)  # type: ignore[arg-type]


def log(value: float) -> float:
    """Return the logarithm, infinite at 0 and NaN where there is none."""
    return -math.inf if value == 0 else math.log(value) if value > 0 else math.nan
