"""Norms other than BatchNorm's: by other powers of the batch's values, and batch-independent."""

from collections.abc import Sequence

from src.analysis.claims.cells import Cells, pairs
from src.analysis.claims.measures import drifts, late_loss, log, steps_component
from src.analysis.claims.registry import claim
from src.analysis.claims.verdict import Direction, Finding, ratio


def norms_train(
    cells: Cells, norms: Sequence[str], levels: Sequence[float], lr: float, margin: float
) -> Finding:
    """Compare the steps to each training accuracy with BatchNorm's."""
    return Finding(
        [
            steps_component(
                f"{norm} to {level:.0%}",
                "ratio of steps, other norm / BatchNorm",
                *cells.pair("vgg_bn", f"vgg_{norm}", optim__lr=lr),
                level,
                cells.measured["accuracy"],
                "not greater",
                margin=margin,
            )
            for norm in norms
            for level in levels
        ]
    )


claim(norms_train, "lp_trains", "batch_independent_trains")


@claim
def lp_trains_dln(cells: Cells, norms: Sequence[str], lr: float, margin: float) -> Finding:
    """Compare the final training loss of the deep linear network with BatchNorm's."""
    return Finding(
        [
            ratio(
                norm,
                "final training loss, lp norm / BatchNorm",
                pairs(
                    *cells.pair("dln_bn", f"dln_{norm}", optim__lr=lr),
                    lambda a, b: log(late_loss(b)) - log(late_loss(a)),
                ),
                "not greater",
                margin=margin,
            )
            for norm in norms
        ]
    )


@claim
def lp_shifts(cells: Cells, norms: Sequence[str], lr: float, site: str) -> Finding:
    """Compare the step-to-step change of distributions at a site with the standard network's."""
    return _drifting(cells, norms, lr, site, "distribution", "greater")


@claim
def batch_independent_steady(cells: Cells, norms: Sequence[str], lr: float, site: str) -> Finding:
    """Compare the step-to-step change of means at a site with the standard network's."""
    return _drifting(cells, norms, lr, site, "mean", "less")


def _drifting(
    cells: Cells, norms: Sequence[str], lr: float, site: str, column: str, direction: Direction
) -> Finding:
    """Compare a column of the drift with the standard network's.

    That has one distribution a layer, which enters its non-linearity.
    """
    standard = cells.of("vgg", optim__lr=lr)
    return Finding(
        [
            ratio(
                norm,
                f"step-to-step change of {column} over spread, other norm / standard",
                drifts(
                    standard, "after_noise", cells.of(f"vgg_{norm}", optim__lr=lr), site, column
                ),
                direction,
            )
            for norm in norms
        ]
    )
