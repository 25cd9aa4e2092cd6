"""Distributions of activations over training: Santurkar et al. Fig. 1c, 2 and 6."""

from collections.abc import Sequence

import matplotlib.figure
import numpy
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from polars import DataFrame, col

from src.analysis.figures import style
from src.analysis.figures.figure import Figure, Gathered, Source
from src.analysis.figures.training import Cells, cells, chosen

RIDGES = 10
# Of each figure; what is published of a run has the distributions of these layers alone.
LAYERS = {
    "fig1_activations": (3, 11),
    "fig2_activations": (2, 9, 13),
    "fig6_lp_distributions": (11,),
}
COLUMNS = ("layer", "variant", "lr", "unit", "step", "at", "density")


def probed(steps: Sequence[int]) -> list[int]:
    """Return the first step of each pair of consecutive ones that the probe looks at."""
    first = list[int]()
    for step in sorted(set(steps)):
        if not first or step > first[-1] + 1:
            first.append(step)
    return first


def ridges(rows: DataFrame) -> DataFrame:
    """Return the densities of one unit's activations at about ten steps of training.

    The unit is the lowest that every variant has recorded in the layer. Pairs of bins are put
    together: 64 are finer than a printed ridge shows.

    Args:
        rows: ``variant``, ``lr``, ``step``, ``layer``, ``unit``, ``edges`` and ``counts``.
    """
    steps = probed(rows["step"].to_list())
    places = numpy.linspace(0, len(steps) - 1, min(RIDGES, len(steps))).round().astype(int)
    shared = rows.group_by("layer", "unit").agg(variants=col("variant").n_unique())
    units = shared.filter(col("variants") == rows["variant"].n_unique())
    kept = rows.join(units.group_by("layer").agg(col("unit").min()), on=["layer", "unit"])
    kept = kept.filter(col("step").is_in([steps[place] for place in places]))
    found = []
    for row in kept.sort("layer", "variant", "step").iter_rows(named=True):
        counts = numpy.array(row["counts"]).reshape(-1, 2).sum(1)
        edges = numpy.array(row["edges"])[::2]
        width = numpy.diff(edges)
        if counts.sum() == 0 or not (width > 0).all():  # overflowed, or a unit that is constant
            continue
        middle, density = edges[:-1] + width / 2, counts / counts.sum() / width
        keys = [row[name] for name in COLUMNS[:5]]
        found += [(*keys, *point) for point in zip(middle.tolist(), density.tolist(), strict=True)]
    schema = {name: rows.schema[name] for name in COLUMNS[:5]} | dict.fromkeys(COLUMNS[5:], float)
    return DataFrame(found, schema, orient="row")


def _gather(
    source: Source, wanted: Cells, own: Sequence[str], layers: Sequence[int]
) -> Gathered | None:
    selection = chosen(source, wanted, own)
    if selection is None:
        return None
    one = selection.where(col("seed") == selection.runs["seed"].min())
    entering = (col("site") == "after_noise") & col("unit").is_not_null()
    drawable = col("layer").is_in(list(layers)) & col("counts").is_not_null()
    columns = ["step", "layer", "unit", "edges", "counts"]
    rows = source.rows(one, "activations", columns, entering & drawable)
    return None if rows.is_empty() else Gathered(one, ridges(rows))


def draw(data: DataFrame) -> matplotlib.figure.Figure:
    """Draw a row a layer and a column a variant, training going upwards."""
    layers = sorted(data["layer"].unique())
    series = sorted(
        data.select("variant", "lr").unique().rows(), key=lambda s: (style.rank(s[0]), s)
    )
    figure = style.panels(len(layers), len(series), width=2.2 * len(series) + 0.8, height=2.1)
    several = len({lr for _, lr in series}) > 1
    steps = sorted(data["step"].unique())
    for row, layer in enumerate(layers):
        here = data.filter(col("layer") == layer)
        peak = col("density").max().over("variant", "lr", "step")
        seen = here.filter(col("density") > 0.004 * peak)["at"].to_numpy()
        limits = float(seen.min()), float(seen.max())
        for column, (variant, lr) in enumerate(series):
            ax = figure.axes[row * len(series) + column]
            shown = col("at").is_between(*limits)
            part = here.filter(shown, col("variant") == variant, col("lr") == lr)
            _panel(ax, part, steps, style.look(variant).colour)
            ax.set_xlim(*limits)
            if row == 0:
                name = style.look(variant).name
                ax.set_title(f"{name}, LR {lr:g}" if several else name)
            if column == 0:
                ax.set_ylabel(f"layer {layer}\nstep", fontweight="bold")
            else:
                ax.set_yticklabels([])
    return figure


def _panel(ax: Axes, data: DataFrame, steps: Sequence[int], colour: str) -> None:
    face = 0.6 + 0.4 * numpy.array(to_rgb(colour))  # opaque, so that a ridge hides those behind
    for place, step in reversed(list(enumerate(steps))):
        part = data.filter(col("step") == step)
        at, density = part["at"].to_numpy(), part["density"].to_numpy()
        top = place + 1.6 * density / density.max(initial=1e-300)
        order = 2 * (len(steps) - place)
        ax.fill_between(at, place, top, fc=face, ec=colour, lw=0.7, zorder=order)
    ax.set_yticks(range(0, len(steps), 3), [f"{step:,}" for step in steps[::3]])
    ax.set_ylim(-0.2, len(steps) + 0.8)
    ax.grid(False)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


def told(data: DataFrame) -> str:
    """Say how far the mean of each network's distribution moves, where it does most."""
    weight = col("density") / col("density").sum().over("layer", "variant", "lr", "step")
    means = (
        data.with_columns(weight=weight)
        .group_by("layer", "variant", "lr", "step")
        .agg(mean=(col("at") * col("weight")).sum())
        .group_by("layer", "variant", "lr")
        .agg(moved=col("mean").max() - col("mean").min())
        .group_by("variant")
        .agg(col("moved").max())
        .sort("variant")
    )
    each = [f"{moved:.2g} for {style.look(variant).name}" for variant, moved in means.iter_rows()]
    return f"The mean's range over training, in the layer where it is widest: {', '.join(each)}."


_TEXT = (
    "Each ridge is the distribution over a batch of what one unit gives to its non-linearity, at "
    "ten steps of training from below upwards; the unit was drawn at random, is the same in "
    "every network, and one seed is shown. In a row the x axis is the same; each ridge is as "
    "high as the next, whatever its width. The paper's own ridges are pictures, without numbers "
    "to lay under ours. "
)


def _figure(name: str, title: str, source: str, sweep: str, wanted: Cells, text: str) -> Figure:
    own = [model for model, _ in wanted if style.rank(model) > 1]
    return Figure(
        name,
        title,
        source,
        sweep,
        _TEXT + text,
        lambda s: _gather(s, wanted, own, LAYERS[name]),
        draw,
        told,
    )


FIGURES = (
    _figure(
        "fig1_activations",
        "Distributions of activations with and without BatchNorm",
        "Santurkar et al. 2018, Fig. 1c",
        "fig1_training",
        cells(["vgg", "vgg_bn"], [0.1]),
        "To see: whether BatchNorm's distributions are any more stable; the paper finds the "
        "difference marginal.",
    ),
    _figure(
        "fig2_activations",
        "Distributions of activations with noise after BatchNorm",
        "Santurkar et al. 2018, Fig. 2 (right)",
        "fig2_noise",
        cells(["vgg", "vgg_bn", "vgg_noisy"], [0.1]),
        "To see: noisy BatchNorm's ridges jump about, by design, and yet it trains.",
    ),
    _figure(
        "fig6_lp_distributions",
        "Distributions of activations under other norms",
        "Santurkar et al. 2018, Fig. 6",
        "fig5_lp_vgg",
        cells([f"vgg{variant}" for variant in ("", "_bn", "_l1", "_l2", "_linf")], [0.1]),
        "To see: where the other norms' distributions enter the non-linearity they shift less than "
        "the standard network's; their means there are learned parameters, so the claim looks "
        "before the norm.",
    ),
)
