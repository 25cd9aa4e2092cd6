"""How much the distribution of an activation changes from one step to another."""

from collections.abc import Sequence

import polars
from polars import DataFrame, col


def drift(activations: DataFrame, site: str, keys: Sequence[str] = (), lag: int = 1) -> DataFrame:
    """Return the change over each pair of steps so far apart, a row a step and layer.

    Args:
        activations: ``step``, ``layer``, ``site``, ``unit``, ``mean``, ``variance`` and the keys.
        site: ``before_norm``, ``after_norm`` or ``after_noise``.
        keys: What tells runs apart, if there are several.
        lag: In steps.

    Returns:
        The keys, ``step``, ``layer``, and the medians over units of ``mean``, the change of the
        unit's mean over its standard deviation at the first step; of ``pooled``, the same over the
        root mean square of those at both; and of ``distribution``, the distance between the two
        distributions taken as normal (2-Wasserstein: of means and standard deviations) over that
        at the first.
    """
    rows = activations.filter(col("site") == site)
    rows = rows.with_columns(spread=col("variance").sqrt())
    after = rows.with_columns(step=col("step") - lag)
    both = rows.join(after, on=[*keys, "step", "layer", "unit"], suffix="_after")
    moved, widened = (col(f"{k}_after") - col(k) for k in ("mean", "spread"))
    pooled = ((col("variance") + col("variance_after")) / 2).sqrt()
    return both.group_by(*keys, "step", "layer").agg(
        mean=(moved.abs() / col("spread")).median(),
        pooled=(moved.abs() / pooled).median(),
        distribution=((moved**2 + widened**2).sqrt() / col("spread")).median(),
    )


def beside_standard(rows: DataFrame, site: str) -> DataFrame:
    """Return the rows of a site; of the standard network what enters its non-linearity, as that.

    It has one distribution a layer, which other networks' are compared with at each site.
    """
    standard = (col("variant") == "vgg") & (col("site") == "after_noise")
    other = (col("variant") != "vgg") & (col("site") == site)
    return rows.filter(standard | other).with_columns(site=polars.lit(site))
