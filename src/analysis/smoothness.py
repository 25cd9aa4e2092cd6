"""How smooth the loss is along a direction, by what the step sizes along it met."""

import math
from collections.abc import Sequence

from polars import DataFrame, col, max_horizontal


def smoothness(rows: DataFrame, keys: Sequence[str] = ()) -> DataFrame:
    """Return each quantity at each probed step, over the step sizes.

    A point where the loss is not a number lies beyond where it is infinite, and counts as that.
    A gradient of 0 is no direction to look along, and has no row.

    Args:
        rows: The probe's, a row a step size, and the keys.
        keys: What tells runs apart, if there are several.
    """
    rows = rows.filter(col("grad_norm") > 0).with_columns(
        col("loss", "grad_diff", "beta").fill_nan(math.inf),
        distance=(col("grad_diff") / col("beta")).fill_nan(col("eta") * col("grad_norm")),
    )
    steepness = (col("loss") - col("loss_at_zero")).abs() / col("distance")
    return rows.group_by(*keys, "step").agg(
        variation=(col("loss").max() - col("loss").min()).fill_nan(math.inf),
        lipschitz=steepness.fill_nan(math.inf).max(),
        steepest=max_horizontal(col("grad_norm_at").fill_nan(math.inf), "grad_norm").max(),
        predictiveness=col("grad_diff").max(),
        relative_change=(col("grad_diff") / col("grad_norm")).max(),
        beta=col("beta").max(),
    )
