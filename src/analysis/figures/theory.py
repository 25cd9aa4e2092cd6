"""How large each part of Theorem 4.1 of Santurkar et al. is at the steps of real training."""

import textwrap

import matplotlib.figure
from polars import DataFrame, col

from src.analysis.figures import curves, style
from src.analysis.figures.figure import Figure, Gathered, Source
from src.analysis.figures.training import cells, chosen, legend, points, told

PARTS = {
    "gradient_ratio": "squared gradient before BatchNorm / after it",
    "factor_weighted": "factor gamma²/sigma², weighted by the gradient",
    "mean_share": "share taken with the mean",
    "correlation_share": "share taken with the correlation",
}


def parts(rows: DataFrame) -> DataFrame:
    """Return the median over layers of each part at each step.

    Args:
        rows: ``run``, ``variant``, ``lr``, ``step``, ``quantity`` and ``value``; a row a layer.
    """
    keys = ["run", "variant", "lr", "step", "quantity"]
    return rows.group_by(keys, maintain_order=True).agg(col("value").median())


def _gather(source: Source) -> Gathered | None:
    selection = chosen(source, cells(["vgg_bn", "vgg_noisy"], [0.1]))
    if selection is None:
        return None
    columns = ["step", "quantity", "value"]
    rows = source.rows(selection, "theory", columns, col("quantity").is_in(list(PARTS)))
    if rows.is_empty():
        return None
    measured = selection.where(col("run").is_in(rows["run"].unique().to_list()))
    found = parts(rows).with_columns(panel=col("quantity").replace_strict(PARTS))
    return Gathered(measured, points(found, measured))


def draw(data: DataFrame) -> matplotlib.figure.Figure:
    """Draw a panel a part; the ratio and its factor have one scale, and so have the shares."""
    figure = style.panels(1, len(PARTS), width=9.5, height=2.6)
    ratio, factor, mean, correlation = figure.axes
    factor.sharey(ratio)
    correlation.sharey(mean)
    for ax, part in zip(figure.axes, PARTS.values(), strict=True):
        curves.draw(ax, data.filter(col("panel") == part))
        ax.set(title=textwrap.fill(part, 26), xlabel="step")
        style.logarithmic(ax.yaxis)
    for ax in (ratio, factor):
        ax.axhline(1, color="#333333", lw=0.9, ls=":")
    legend(figure, data)
    style.span(figure.axes, data)
    return figure


FIGURES = (
    Figure(
        "theory",
        "The parts of Theorem 4.1 in real training",
        "ours, on Santurkar et al. 2018, Theorem 4.1",
        "fig4_landscape",
        "By the theorem, which holds with equality, BatchNorm multiplies the squared gradient of a "
        "unit's output by gamma²/sigma² and takes away the share of its mean and that of its "
        "correlation with the normalised output. The first panel is thus the second, less the "
        "shares of the last two: where these are small the two look alike, and the factor does the "
        "work. The median over layers, then median and range over seeds; dotted: 1, a factor that "
        "changes nothing. To see: which part does the work. No paper has measured this.",
        _gather,
        draw,
        told,
    ),
)
