"""How mean and variance of single units move: Santurkar et al. Fig. 8."""

import matplotlib.figure
import polars
from polars import DataFrame, col

from src.analysis.drift import beside_standard, drift
from src.analysis.figures import curves, style
from src.analysis.figures.figure import Figure, Gathered, Source
from src.analysis.figures.ridgelines import probed
from src.analysis.figures.select import Selection
from src.analysis.figures.training import cells, chosen, legend, points, told

LAYERS = (2, 9, 13)
_NORMALISED = ["vgg_bn", "vgg_noisy"]
BATCH_INDEPENDENT = ["vgg_layer", "vgg_group", "vgg_instance"]
_KEYS = ("run", "variant", "lr", "layer", "unit")
_SITES = {  # of all layers: where, and what of a distribution
    "mean, before the norm": ("before_norm", "mean"),
    "mean, after the norm": ("after_norm", "mean"),
    "mean, entering the non-linearity": ("after_noise", "mean"),
    "distribution, entering the non-linearity": ("after_noise", "distribution"),
}
_QUANTITIES = {
    "mean_step": "change of mean, in one step",
    "variance_step": "change of variance, in one step",
    "mean_start": "change of mean, since the start",
    "variance_start": "change of variance, since the start",
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


def over_spread(rows: DataFrame) -> DataFrame:
    """Return how far distributions move in a step over a unit's spread, as the claims measure it.

    Args:
        rows: ``run``, ``variant``, ``lr``, ``layer``, ``site``, ``unit``, ``step``, ``mean``,
            ``variance``, at pairs of consecutive steps.

    Returns:
        A row a run, step and panel: the median over the layers, each the median over its units.
    """
    keys = ("run", "variant", "lr")
    parts = []
    for panel, (site, column) in _SITES.items():
        moved = (
            drift(beside_standard(rows, site), site, keys)
            .group_by(*keys, "step")
            .agg(value=col(column).median())
        )
        parts.append(moved.with_columns(panel=polars.lit(panel)))
    return polars.concat(parts)


def units(
    source: Source, models: list[str], own: list[str], batch: str
) -> tuple[Selection, DataFrame] | None:
    """Return the runs of some variants, if one of their own is there, and their units' moments."""
    at = {"probes.activations.batch": batch}
    selection = chosen(source, cells(models, [0.1]), own, at)
    if selection is None:
        return None
    columns = ["step", "layer", "site", "unit", "mean", "variance"]
    rows = source.rows(selection, "activations", columns, col("unit").is_not_null())
    return None if rows.is_empty() else (selection, rows)


def _gather(source: Source) -> Gathered | None:
    found = units(source, ["vgg", *_NORMALISED], _NORMALISED, "training")
    if found is None:
        return None
    selection, rows = found
    single = rows.filter(col("site") == "after_noise", col("layer").is_in(LAYERS)).drop("site")
    panel = "layer " + col("layer").cast(str) + ": " + col("quantity").replace_strict(_QUANTITIES)
    parts = over_spread(rows), changes(single).with_columns(panel=panel)
    return Gathered(selection, curves.together(points(part, selection) for part in parts))


def _gather_over_spread(
    source: Source, models: list[str], own: list[str], batch: str
) -> Gathered | None:
    found = units(source, models, own, batch)
    if found is None:
        return None
    selection, rows = found
    return Gathered(selection, points(over_spread(rows), selection))


def draw(data: DataFrame) -> matplotlib.figure.Figure:
    """Draw the changes of all layers over spread; then, a row a layer, those of single units."""
    single = sorted(set(data["panel"]) - _SITES.keys())
    layers = sorted({int(panel.split(":")[0].split()[1]) for panel in single})
    rows = [("all layers, over spread", {panel: panel for panel in _SITES})]
    for layer in layers:
        each = {f"layer {layer}: {quantity}": quantity for quantity in _QUANTITIES.values()}
        rows.append((f"layer {layer}", each))
    figure = style.panels(len(rows), len(_QUANTITIES), width=9.5, height=2.0)
    grid = iter(figure.axes)
    for place, (row, panels) in enumerate(rows):
        for panel, title in panels.items():
            ax, part = next(grid), data.filter(col("panel") == panel)
            curves.draw(ax, part)
            style.logarithmic(ax.yaxis)
            if place < 2:
                ax.set_title(title.replace(", ", "\n"))
            if place == len(rows) - 1:
                ax.set_xlabel("step")
            if panel == next(iter(panels)):
                ax.set_ylabel(row, fontweight="bold")
    legend(figure, data)
    style.span(figure.axes, data)
    return figure


def _told(data: DataFrame) -> str:
    return told(data, ["mean, before the norm", "mean, entering the non-linearity"])


FIGURES = (
    Figure(
        "fig8_moments",
        "How the moments of activations move",
        "Santurkar et al. 2018, Fig. 8",
        "fig8_moments",
        "Above, what the claims measure: how far a unit's mean, or its whole distribution, moves "
        "from one step to the next, over its spread; the median over units and layers. The "
        "standard network has one distribution a layer, the one that enters its non-linearity, "
        "and stands with it in each panel. Each step has its own minibatch, so part of this is "
        "sampling. To see: before the norm, where the noise of the layers below arrives, noisy "
        "BatchNorm moves like the standard network in the median of the layers (more in the early "
        "ones, less in the late ones), and BatchNorm far less. Below, what the paper draws: the "
        "absolute change of mean and variance of what single units give to "
        "their non-linearity, in one step and since the start of training; the mean over the "
        "recorded units. The paper draws one unit, with the sign, on linear axes. To see: noisy "
        "BatchNorm's mean jumps by about a third in every step, the mean distance of two draws "
        "from U(-0.5, 0.5), as in the paper; that is the injected noise itself. Line and band: "
        "median and range over seeds.",
        _gather,
        draw,
        _told,
    ),
    Figure(
        "fixed_batch",
        "How the same images' activations move",
        "ours, on Ioffe & Szegedy 2015, Sec. 2",
        "fixed_batch",
        "How far a unit's mean, or its whole distribution, over the same 128 images moves from one "
        "step to the next, over its spread; the median over units and layers. So it is the "
        "parameters alone that move it, where the figure before has a minibatch a step. The "
        "standard network has one distribution a layer, the one that enters its non-linearity, "
        "and stands with it in each panel. To see: whether BatchNorm still moves less before the "
        "norm. Line and band: median and range over seeds. No paper has this figure.",
        lambda source: _gather_over_spread(source, ["vgg", "vgg_bn"], ["vgg_bn"], "fixed"),
        draw,
        _told,
    ),
    Figure(
        "batch_independent_moments",
        "How activations move under batch-independent norms",
        "ours, after Santurkar et al. 2018, Fig. 8",
        "controls",
        "As the first row of Fig. 8, for norms that take their statistics within one image: layer, "
        "group and instance norm, which fix no unit's mean over a batch but instance norm's in the "
        "convolutions. To see: whether those that train as fast as BatchNorm steady distributions, "
        "too. Line and band: median and range over seeds. No paper has this figure.",
        lambda source: _gather_over_spread(
            source, ["vgg", "vgg_bn", *BATCH_INDEPENDENT], BATCH_INDEPENDENT, "training"
        ),
        draw,
        _told,
    ),
)
