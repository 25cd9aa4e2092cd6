"""BatchNorm does not lower internal covariate shift, as the change of gradients."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import polars
from polars import DataFrame, col

from src.analysis.claims.cells import Cells, Run, pairs
from src.analysis.claims.measures import median_difference, median_log_ratio
from src.analysis.claims.registry import claim
from src.analysis.claims.result import Component
from src.analysis.claims.verdict import Finding, difference, ratio
from src.analysis.statistics import first_reached

_AT = ["step", "layer"]


@claim
def shift_vgg(cells: Cells, lrs: Sequence[float], margin: float) -> Finding:
    """Compare the l2 difference of gradients at each rate."""
    return _at_each(cells, lrs, partial(_length, "l2", margin, ("vgg", "vgg_bn")))


@claim
def shift_relative(cells: Cells, lrs: Sequence[float], margin: float) -> Finding:
    """Compare the l2 difference relative to the gradient's own length."""
    return _at_each(cells, lrs, partial(_length, "relative", margin, ("vgg", "vgg_bn")))


@claim
def shift_vgg_cosine(cells: Cells, lrs: Sequence[float], margin: float) -> Finding:
    """Compare the cosine between the gradients: nearer to 1 is less shift."""
    return _at_each(cells, lrs, partial(_turn, margin, ("vgg", "vgg_bn")))


@claim
def shift_dln(cells: Cells, lrs: Sequence[float], margin: float, cosine_margin: float) -> Finding:
    """Compare both in the deep linear network."""
    nets = ("dln", "dln_bn")
    lengths = _at_each(cells, lrs, partial(_length, "l2", margin, nets)).components
    turns = _at_each(cells, lrs, partial(_turn, cosine_margin, nets)).components
    return Finding(lengths + turns)


@claim
def shift_equal_loss(cells: Cells, lrs: Sequence[float], margin: float, losses: int) -> Finding:
    """Compare the l2 difference not at equal steps but at equal training losses."""

    def judged(cells: Cells, lr: float) -> Component:
        standard, normalised = (cells.of(m, optim__lr=lr) for m in ("vgg", "vgg_bn"))
        return ratio(
            f"LR {lr:g}",
            "l2 shift at equal training loss, BatchNorm / standard",
            pairs(standard, normalised, lambda a, b: _at_equal_losses(a, b, losses)),
            "not less",
            margin=margin,
        )

    return _at_each(cells, lrs, judged)


def _at_each(
    cells: Cells, lrs: Sequence[float], judged: Callable[[Cells, float], Component]
) -> Finding:
    return Finding([judged(cells, lr) for lr in lrs])


def _length(
    column: str, margin: float, nets: tuple[str, str], cells: Cells, lr: float
) -> Component:
    return ratio(
        f"{column} at LR {lr:g}",
        f"{column} shift, BatchNorm / standard",
        pairs(
            cells.of(nets[0], optim__lr=lr),
            cells.of(nets[1], optim__lr=lr),
            lambda a, b: median_log_ratio(_shift(a), _shift(b), column, _AT),
        ),
        "not less",
        margin=margin,
    )


def _turn(margin: float, nets: tuple[str, str], cells: Cells, lr: float) -> Component:
    return difference(
        f"cosine at LR {lr:g}",
        "cosine of the gradients, BatchNorm - standard",
        pairs(
            cells.of(nets[0], optim__lr=lr),
            cells.of(nets[1], optim__lr=lr),
            lambda a, b: median_difference(_shift(a), _shift(b), "cosine", _AT),
        ),
        "not greater",
        margin=margin,
    )


def _shift(run: Run) -> DataFrame:
    """Return the shift of the layers that have one: before the first no parameter moves."""
    return run.rows("ics").filter(col("layer") >= 2)


def _at_equal_losses(first: Run, second: Run, losses: int) -> float:
    """Return the median log ratio over layers and losses that both runs pass through."""
    a, b = _smoothed(first), _smoothed(second)
    if a.is_empty() or b.is_empty():
        return math.nan
    a_losses, b_losses = a["value"].to_list(), b["value"].to_list()
    high, low = min(a_losses[0], b_losses[0]), max(min(a_losses), min(b_losses))
    if not low < high:
        return math.nan
    levels = [high + (low - high) * i / losses for i in range(1, losses + 1)]
    return median_log_ratio(
        _at_losses(first, a, levels), _at_losses(second, b, levels), "l2", ["level", "layer"]
    )


def _smoothed(run: Run) -> DataFrame:
    """Return the mean of five recorded training losses."""
    rows = run.metric("train/loss")
    return rows.with_columns(col("value").rolling_mean(5)).drop_nulls().drop_nans()


def _at_losses(run: Run, smoothed: DataFrame, levels: Sequence[float]) -> DataFrame:
    """Return the shift at the probed step nearest to where each loss is first reached."""
    rows = _shift(run)
    probed = rows["step"].unique().sort()
    if probed.is_empty():
        return rows.with_columns(level=polars.lit(None, polars.Int64))
    found = []
    falling = (-smoothed["value"]).to_list()
    for number, level in enumerate(levels):
        step = first_reached(smoothed["step"].to_list(), falling, -level, points=1)
        nearest = probed[int((probed - step).abs().arg_min() or 0)]
        found.append(rows.filter(col("step") == nearest).with_columns(level=polars.lit(number)))
    return polars.concat(found)
