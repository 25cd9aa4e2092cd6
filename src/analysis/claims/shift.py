"""BatchNorm does not lower internal covariate shift, as the change of gradients."""

from collections.abc import Sequence
from itertools import pairwise

from polars import DataFrame, col

from src.analysis.claims.cells import Cells, Run, pairs
from src.analysis.claims.comparing import (
    WHOLE,
    EqualLoss,
    Nets,
    Window,
    both_ways,
    during,
    matched,
    median_difference,
    median_log_ratio,
    own_initialisation,
    part_of_training,
)
from src.analysis.claims.registry import claim
from src.analysis.claims.result import Component
from src.analysis.claims.verdict import Finding, difference, ratio

_AT = ["step", "layer"]


@claim
def shift_vgg(cells: Cells, lrs: Sequence[float], margin: float) -> Finding:
    """Compare the l2 difference of gradients at each rate."""
    return Finding([_change(cells, "l2", lr, margin) for lr in lrs])


@claim
def shift_relative(cells: Cells, lrs: Sequence[float], margin: float) -> Finding:
    """Compare the l2 difference relative to the gradient's own length."""
    return Finding([_change(cells, "relative", lr, margin) for lr in lrs])


@claim
def shift_vgg_cosine(cells: Cells, lrs: Sequence[float], margin: float) -> Finding:
    """Compare the cosine between the gradients: nearer to 1 is less shift."""
    return Finding([_change(cells, "cosine", lr, margin) for lr in lrs])


@claim
def shift_dln(cells: Cells, lrs: Sequence[float], margin: float, cosine_margin: float) -> Finding:
    """Compare both in the deep linear network."""
    nets = {lr: cells.pair("dln", "dln_bn", optim__lr=lr) for lr in lrs}
    lengths = [_change(cells, "l2", lr, margin, nets=nets[lr]) for lr in lrs]
    turns = [_change(cells, "cosine", lr, cosine_margin, nets=nets[lr]) for lr in lrs]
    return Finding([*lengths, *turns])


@claim
def shift_own_initialisation(
    cells: Cells, lrs: Sequence[float], margin: float, cosine_margin: float
) -> Finding:
    """Compare all three, the standard network from He's initialisation, BatchNorm from Glorot's."""
    nets = {lr: own_initialisation(cells, lr) for lr in lrs}
    lengths = [
        _change(cells, column, lr, margin, nets=nets[lr])
        for column in ("l2", "relative")
        for lr in lrs
    ]
    turns = [_change(cells, "cosine", lr, cosine_margin, nets=nets[lr]) for lr in lrs]
    return Finding([*lengths, *turns])


@claim
def shift_equal_loss(
    cells: Cells, lr: float, margin: float, within: float, below: float, least: int
) -> Finding:
    """Compare the l2 difference not at equal steps but at equal training losses."""
    ways = both_ways(within, below, least)
    return Finding([_change(cells, "l2", lr, margin, equal=equal) for equal in ways])


@claim
def shift_relative_equal_loss(
    cells: Cells,
    lr: float,
    margin: float,
    cosine_margin: float,
    within: float,
    below: float,
    least: int,
) -> Finding:
    """Compare the relative difference and the cosine at equal training losses."""
    ways = both_ways(within, below, least)
    lengths = [_change(cells, "relative", lr, margin, equal=equal) for equal in ways]
    turns = [_change(cells, "cosine", lr, cosine_margin, equal=equal) for equal in ways]
    return Finding([*lengths, *turns])


@claim
def shift_over_training(
    cells: Cells, lr: float, margin: float, cosine_margin: float, windows: Sequence[float]
) -> Finding:
    """Compare all three in each part of training."""
    parts = [*pairwise(windows)]
    lengths = [_change(cells, c, lr, margin, part) for c in ("l2", "relative") for part in parts]
    turns = [_change(cells, "cosine", lr, cosine_margin, part) for part in parts]
    return Finding([*lengths, *turns])


def _change(
    cells: Cells,
    column: str,
    lr: float,
    margin: float,
    window: Window = WHOLE,
    equal: EqualLoss | None = None,
    nets: Nets | None = None,
) -> Component:
    """Judge a column: the ratio of lengths, or the difference of cosines, nearer to 1 if less.

    ``nets``: the standard network's runs and BatchNorm's; default: VGG's.
    """
    turn = column == "cosine"
    between = median_difference if turn else median_log_ratio

    def change(a: Run, b: Run) -> float:
        first, second = matched(a, _shift(a, window), b, _shift(b), equal)
        return between(first, second, column, _AT)

    values = pairs(*(nets or cells.pair("vgg", "vgg_bn", optim__lr=lr)), change)
    part = "" if window == WHOLE else f", {part_of_training(window)}"
    label = f"{column} at LR {lr:g}{part}{equal.told if equal else ''}"
    met = "" if equal is None else " at equal training loss"
    if turn:
        return difference(label, f"BatchNorm - standard{met}", values, "not greater", margin=margin)
    return ratio(label, f"shift, BatchNorm / standard{met}", values, "not less", margin=margin)


def _shift(run: Run, window: Window = WHOLE) -> DataFrame:
    """Return the shift of the layers that have one: before the first no parameter moves."""
    return run.rows("ics").filter(col("layer") >= 2, during(run, window))
