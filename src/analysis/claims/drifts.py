"""How much more a variant's distributions change than the standard network's."""

from collections.abc import Mapping

from src.analysis.claims.cells import Cells, Run, pairs
from src.analysis.claims.comparing import WHOLE, Window, during, median_log_ratio
from src.analysis.claims.result import Component
from src.analysis.claims.verdict import Direction, ratio
from src.analysis.drift import drift


def drifts(
    first: Mapping[int, Run],
    at: str,
    second: Mapping[int, Run],
    site: str,
    column: str = "mean",
    lag: int = 1,
    window: Window = WHOLE,
) -> dict[int, float]:
    """Return each seed's median log ratio, over steps and layers, of a column of :func:`drift`.

    Args:
        first: A run a seed.
        at: The site looked at there.
        second: What it is paired with.
        site: The site looked at there.
        column: ``mean``, ``pooled`` or ``distribution``.
        lag: How many steps lie between the two compared.
        window: The part of training.
    """

    def change(a: Run, b: Run) -> float:
        moved = drift(a.rows("activations"), at, lag=lag).filter(during(a, window))
        other = drift(b.rows("activations"), site, lag=lag)
        return median_log_ratio(moved, other, column, ["step", "layer"])

    return pairs(first, second, change)


def drift_component(
    cells: Cells,
    lr: float,
    model: str,
    site: str,
    direction: Direction,
    label: str,
    name: str,
    column: str = "mean",
) -> Component:
    """Judge a column of a variant's drift at a site against the standard network's.

    That has one distribution a layer, which enters its non-linearity.
    """
    standard, other = cells.pair("vgg", model, optim__lr=lr)
    what = f"step-to-step change of {column} over spread, {name} / standard"
    return ratio(label, what, drifts(standard, "after_noise", other, site, column), direction)
