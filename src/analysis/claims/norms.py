"""Norms other than BatchNorm's: by other powers of the batch's values, and batch-independent."""

from collections.abc import Sequence

from src.analysis.claims.accuracies import late_loss
from src.analysis.claims.cells import Cells, pairs
from src.analysis.claims.comparing import log
from src.analysis.claims.drifts import drift_component
from src.analysis.claims.registry import claim
from src.analysis.claims.steps import steps_component
from src.analysis.claims.verdict import Finding, ratio


def norms_train(
    cells: Cells, norms: Sequence[str], levels: Sequence[float], lr: float, margin: float
) -> Finding:
    """Compare the steps to each training accuracy with BatchNorm's."""
    normalised = cells.of("vgg_bn", optim__lr=lr, model__statistics="batch")
    return Finding(
        [
            steps_component(
                f"{norm} to {level:.0%}",
                "ratio of steps, other norm / BatchNorm",
                normalised,
                cells.of(f"vgg_{norm}", optim__lr=lr),
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
    name, column = "lp norm", "distribution"
    return Finding(
        [
            drift_component(cells, lr, f"vgg_{norm}", site, "greater", norm, name, column)
            for norm in norms
        ]
    )


@claim
def batch_independent_steady(
    cells: Cells, norms: Sequence[str], lr: float, sites: Sequence[str]
) -> Finding:
    """Compare the step-to-step change of means at each site with the standard network's."""
    name = "other norm"
    return Finding(
        [
            drift_component(cells, lr, f"vgg_{norm}", site, "less", f"{norm}, {site}", name)
            for norm in norms
            for site in sites
        ]
    )
