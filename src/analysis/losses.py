"""How far a training has come: its loss at a step, without the noise of single batches."""

from collections.abc import Sequence

from polars import DataFrame, col


def smoothed(losses: DataFrame, keys: Sequence[str] = ()) -> DataFrame:
    """Return the training loss at each step: the mean of the five records around it.

    Args:
        losses: The keys, ``step`` and ``value``, in the order of the steps.
        keys: What tells the runs apart; default: there is but one.

    Returns:
        The keys, ``step`` and ``loss``, without the steps that have no five finite records.
    """
    mean = col("value").rolling_mean(5, center=True)
    found = losses.select(*keys, "step", loss=mean.over(keys) if keys else mean)
    return found.filter(col("loss").is_finite())
