"""The size of each part of Theorem 4.1 at the steps of real training."""

from polars import col

from src.analysis.claims.accuracies import POINTS
from src.analysis.claims.cells import Cells, Run
from src.analysis.claims.comparing import log, median
from src.analysis.claims.registry import claim
from src.analysis.claims.verdict import Finding, difference, ratio


@claim
def theorem_parts(cells: Cells, lr: float, share: float) -> Finding:
    """Tell whether each part of the theorem makes the gradient smaller."""
    runs = cells.of("vgg_bn", optim__lr=lr).items()
    return Finding(
        [
            ratio(
                "all parts",
                "squared gradient before BatchNorm / after it",
                {s: log(_typical(run, "gradient_ratio")) for s, run in runs},
                "less",
            ),
            ratio(
                "the factor gamma² / sigma²",
                "weighted by the units' gradients",
                {s: log(_typical(run, "factor_weighted")) for s, run in runs},
                "less",
            ),
            *(
                difference(
                    f"the share taken with {what}",
                    "share of the squared gradient, points",
                    {s: POINTS * _typical(run, quantity) for s, run in runs},
                    "greater",
                    than=POINTS * share,
                )
                for what, quantity in (
                    ("the mean", "mean_share"),
                    ("the correlation", "correlation_share"),
                )
            ),
        ]
    )


def _typical(run: Run, quantity: str) -> float:
    """Return the median over layers and steps; NaN where the run has none."""
    return median(run.rows("theory").filter(col("quantity") == quantity)["value"])
