"""BatchNorm does not lower internal covariate shift, as the change of gradients."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from polars import DataFrame, col

from src.analysis.claims.cells import Cells, Run, pairs
from src.analysis.claims.measures import (
    WHOLE,
    Window,
    at_equal_loss,
    median_difference,
    median_log_ratio,
)
from src.analysis.claims.registry import claim
from src.analysis.claims.result import Component
from src.analysis.claims.verdict import Finding, difference, ratio

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
def shift_equal_loss(cells: Cells, lrs: Sequence[float], margin: float, within: float) -> Finding:
    """Compare the l2 difference not at equal steps but at equal training losses."""

    def change(a: Run, b: Run) -> float:
        first, second = _shift(a), _shift(b)
        matched = at_equal_loss(a, first, b, second, within)
        return median_log_ratio(first, matched, "l2", _AT)

    def judged(cells: Cells, lr: float) -> Component:
        standard, normalised = (cells.of(m, optim__lr=lr) for m in ("vgg", "vgg_bn"))
        return ratio(
            f"LR {lr:g}",
            "l2 shift at equal training loss, BatchNorm / standard",
            pairs(standard, normalised, change),
            "not less",
            margin=margin,
        )

    return _at_each(cells, lrs, judged)


@claim
def shift_over_training(
    cells: Cells, lr: float, margin: float, cosine_margin: float, windows: Sequence[float]
) -> Finding:
    """Compare all three in each part of training."""
    nets, parts = ("vgg", "vgg_bn"), [*pairwise(windows)]
    lengths = [
        _length(column, margin, nets, cells, lr, part)
        for column in ("l2", "relative")
        for part in parts
    ]
    return Finding([*lengths, *(_turn(cosine_margin, nets, cells, lr, part) for part in parts)])


def _at_each(
    cells: Cells, lrs: Sequence[float], judged: Callable[[Cells, float], Component]
) -> Finding:
    return Finding([judged(cells, lr) for lr in lrs])


def _length(
    column: str,
    margin: float,
    nets: tuple[str, str],
    cells: Cells,
    lr: float,
    window: Window = WHOLE,
) -> Component:
    return ratio(
        f"{column} at LR {lr:g}{_told(window)}",
        "shift, BatchNorm / standard",
        pairs(
            cells.of(nets[0], optim__lr=lr),
            cells.of(nets[1], optim__lr=lr),
            lambda a, b: median_log_ratio(_shift(a, window), _shift(b), column, _AT),
        ),
        "not less",
        margin=margin,
    )


def _turn(
    margin: float, nets: tuple[str, str], cells: Cells, lr: float, window: Window = WHOLE
) -> Component:
    return difference(
        f"cosine at LR {lr:g}{_told(window)}",
        "BatchNorm - standard",
        pairs(
            cells.of(nets[0], optim__lr=lr),
            cells.of(nets[1], optim__lr=lr),
            lambda a, b: median_difference(_shift(a, window), _shift(b), "cosine", _AT),
        ),
        "not greater",
        margin=margin,
    )


def _shift(run: Run, window: Window = WHOLE) -> DataFrame:
    """Return the shift of the layers that have one: before the first no parameter moves."""
    low, high = (share * run.steps for share in window)
    return run.rows("ics").filter(col("layer") >= 2, col("step") >= low, col("step") < high)


def _told(window: Window) -> str:
    return "" if window == WHOLE else ", {:.0%} to {:.0%} of training".format(*window)
