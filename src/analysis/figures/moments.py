"""How mean and variance of single units move: Santurkar et al. Fig. 8."""

import matplotlib.figure
from polars import DataFrame, col

from src.analysis.figures import curves, style
from src.analysis.figures.figure import Figure, Gathered, Source
from src.analysis.figures.ridgelines import probed
from src.analysis.figures.training import cells, chosen, legend, points, told

LAYERS = (2, 9, 13)
_KEYS = ("run", "variant", "lr", "layer", "unit")
_QUANTITIES = {
    "mean_step": "change of mean\nin one step",
    "variance_step": "change of variance\nin one step",
    "mean_start": "change of mean\nsince the start",
    "variance_start": "change of variance\nsince the start",
}


def changes(rows: DataFrame) -> DataFrame:
    """Return how much the moments of units change, in one step and since the start, absolute.

    Args:
        rows: ``run``, ``variant``, ``lr``, ``layer``, ``unit``, ``step``, ``mean``, ``variance``,
            at pairs of consecutive steps.

    Returns:
        A row a run, layer, step and quantity: the mean over the units.
    """
    first = rows.filter(col("step").is_in(probed(rows["step"].to_list())))
    after = rows.with_columns(step=col("step") - 1)
    start = rows.filter(col("step") == rows["step"].min()).drop("step")
    pairs = first.join(after, on=[*_KEYS, "step"], how="left", suffix="_after")
    pairs = pairs.join(start, on=_KEYS, how="left", suffix="_at_start")
    differences = {
        f"{moment}_{since}": (col(f"{moment}{suffix}") - col(moment)).abs()
        for moment in ("mean", "variance")
        for since, suffix in (("step", "_after"), ("start", "_at_start"))
    }
    wide = pairs.with_columns(**differences)
    tall = wide.unpivot(
        list(differences), index=[*_KEYS, "step"], variable_name="quantity"
    ).drop_nulls("value")
    at_start = col("quantity").str.ends_with("_start") & (col("step") == col("step").min())
    tall = tall.filter(~at_start)  # where it is 0 by definition
    return tall.group_by("run", "variant", "lr", "layer", "step", "quantity").agg(
        col("value").mean()
    )


def _gather(source: Source) -> Gathered | None:
    selection = chosen(
        source, cells(["vgg", "vgg_bn", "vgg_noisy"], [0.1]), ["vgg_bn", "vgg_noisy"]
    )
    if selection is None:
        return None
    entering = (col("site") == "after_noise") & col("unit").is_not_null()
    columns = ["step", "layer", "unit", "mean", "variance"]
    rows = source.rows(selection, "activations", columns, entering & col("layer").is_in(LAYERS))
    if rows.is_empty():
        return None
    found = changes(rows)
    panel = "layer " + col("layer").cast(str) + ": " + col("quantity")
    return Gathered(selection, points(found.with_columns(panel=panel), selection))


def draw(data: DataFrame) -> matplotlib.figure.Figure:
    """Draw a row a layer; the changes in one step, then those since the start."""
    layers = sorted({int(t.split(":")[0].split()[1]) for t in data["panel"]})
    figure = style.panels(len(layers), len(_QUANTITIES), width=9.5, height=2.0)
    grid = iter(figure.axes)
    for layer in layers:
        for quantity, title in _QUANTITIES.items():
            ax, part = next(grid), data.filter(col("panel") == f"layer {layer}: {quantity}")
            curves.draw(ax, part)
            if not part.filter(col("value") > 0).is_empty():
                style.logarithmic(ax.yaxis)
            if layer == layers[0]:
                ax.set_title(title)
            if layer == layers[-1]:
                ax.set_xlabel("step")
            if quantity == "mean_step":
                ax.set_ylabel(f"layer {layer}", fontweight="bold")
    legend(figure, data)
    style.span(figure.axes, data)
    return figure


FIGURES = (
    Figure(
        "fig8_moments",
        "How the moments of activations move",
        "Santurkar et al. 2018, Fig. 8",
        "fig8_moments",
        "The absolute change of mean and variance of what single units give to their "
        "non-linearity, from one step to the next and since the start of training; the mean over "
        "the recorded units, then median and range over seeds. The paper draws one unit, with "
        "the sign, on linear axes. To see: noisy BatchNorm's mean jumps by about a third in "
        "every step, the mean distance of two draws from U(-0.5, 0.5), as in the paper; that is "
        "the injected noise itself. The claims measure changes over a unit's spread, and before "
        "the norm, which are not drawn.",
        _gather,
        draw,
        told,
    ),
)
