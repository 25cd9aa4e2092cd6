"""Norms other than BatchNorm's train as well, though they shift distributions more."""

from collections.abc import Sequence

from src.analysis.claims.cells import Cells, pairs
from src.analysis.claims.measures import drifts, late_loss, log, steps_component
from src.analysis.claims.registry import claim
from src.analysis.claims.verdict import Finding, ratio

_NORMS = ("l1", "l2", "linf")


@claim
def lp_trains(cells: Cells, levels: Sequence[float], lr: float, margin: float) -> Finding:
    """Compare the steps to each training accuracy with BatchNorm's."""
    return Finding(
        [
            steps_component(
                f"{norm} to {level:.0%}",
                "ratio of steps, lp norm / BatchNorm",
                *cells.pair("vgg_bn", f"vgg_{norm}", optim__lr=lr),
                level,
                cells.measured["accuracy"],
                "not greater",
                margin=margin,
            )
            for norm in _NORMS
            for level in levels
        ]
    )


@claim
def lp_trains_dln(cells: Cells, lr: float, margin: float) -> Finding:
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
            for norm in _NORMS
        ]
    )


@claim
def lp_shifts(cells: Cells, lr: float, site: str) -> Finding:
    """Compare the step-to-step change of distributions at a site with the standard network's.

    That has one distribution a layer, which enters its non-linearity.
    """
    standard = cells.of("vgg", optim__lr=lr)
    return Finding(
        [
            ratio(
                norm,
                "step-to-step change of distributions over spread, lp norm / standard",
                drifts(
                    standard,
                    "after_noise",
                    cells.of(f"vgg_{norm}", optim__lr=lr),
                    site,
                    "distribution",
                ),
                "greater",
            )
            for norm in _NORMS
        ]
    )
