"""What one meets walking along a gradient: bands over the step sizes, over training."""

import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

import matplotlib.figure
import polars
from polars import DataFrame, col

from src.analysis.figures import curves, style
from src.analysis.figures.figure import Gathered, Source
from src.analysis.figures.select import Selection
from src.analysis.figures.training import Also, Panel, cells, chosen, legend, metrics, points

LOSS, GRADIENT, BETA = "loss along the gradient", "gradient predictiveness", "effective beta"


class Design(NamedTuple):
    """What one such figure holds.

    Attributes:
        models: The variants, and what the paper's curves call them.
        lr: The learning rate.
        sizes: The least and the greatest step size, as multiples of it.
        papers: The names of the paper's curves, by panel.
        progress: A first panel of accuracy or loss, if any.
        metric: ``euclidean``, the papers', or ``relative``.
        nats: Whether the loss has a linear axis, on which a band is as high as it is wide in nats.
        also: What else the runs have, where it is not the paper's.
    """

    models: Mapping[str, str]
    lr: float
    sizes: tuple[float, float]
    papers: Mapping[str, str]
    progress: Panel | None
    metric: str = "euclidean"
    nats: bool = False
    also: Also | None = None


def extremes(rows: DataFrame) -> DataFrame:
    """Return of each run and step what the paper draws: the extremes over the step sizes.

    Loss and gradient difference have a least and a greatest value (``low``, ``high``), beta only a
    greatest. A point that overflowed is infinite: it lies beyond every finite one.

    Args:
        rows: ``run``, ``variant``, ``lr``, ``step``, and a step size each ``loss``, ``grad_diff``,
            ``beta``.
    """
    keys, value = ["run", "variant", "lr", "step"], col("value").fill_nan(math.inf)
    named = rows.rename({"loss": LOSS, "grad_diff": GRADIENT, "beta": BETA})
    tall = named.unpivot([LOSS, GRADIENT, BETA], index=keys, variable_name="panel")
    ends = tall.group_by("panel", *keys, maintain_order=True)
    return ends.agg(low=value.min(), high=value.max())


def walked(
    source: Source,
    selection: Selection,
    sizes: tuple[float, float] = (0, math.inf),
    metric: str = "euclidean",
    direction: str = "gradient",
) -> DataFrame:
    """Return what the runs met along a direction, a row a step size of these multiples of LR."""
    along = (col("metric") == metric) & (col("direction") == direction)
    rows = source.rows(selection, "landscape", where=along)
    if metric == "euclidean":  # the probe matches the relative step sizes to these
        multiple, (least, greatest) = col("eta") / col("lr"), sizes
        rows = rows.filter(multiple.is_between(0.999 * least, 1.001 * greatest))
    return rows


def _bands(found: DataFrame, selection: Selection) -> DataFrame:
    """Return the bands of loss and gradient difference, and the curves of the greatest beta."""
    keys = ["panel", "variant", "lr", "step"]
    bands = curves.edges_over_seeds(found.filter(col("panel") != BETA), keys)
    beta = found.filter(col("panel") == BETA).with_columns(value=col("high"))
    return curves.together([curves.ours(bands), points(beta.drop("low", "high"), selection)])


def gather(source: Source, design: Design) -> Gathered | None:
    """Return a figure's runs and data; None where there are none."""
    own = list(design.models)[2:]  # with the first two alone it is another figure
    selection = chosen(source, cells(list(design.models), [design.lr]), own, design.also)
    if selection is None:
        return None
    rows = walked(source, selection, design.sizes, design.metric)
    measured = _bands(extremes(rows), selection)
    if measured.is_empty():
        return None
    theirs = [
        curves.Theirs(f"{curve}_{short}", panel, model, design.lr)
        for panel, curve in design.papers.items()
        for model, short in design.models.items()
    ]
    parts = [metrics(source, selection, [design.progress])] if design.progress else []
    data = curves.with_papers(measured, theirs, selection)
    return Gathered(selection, curves.together([*parts, data]))


def draw(data: DataFrame, design: Design) -> matplotlib.figure.Figure:
    """Draw a row a network, each beside BatchNorm, with 2/LR, the edge of stability, dotted."""
    titles = sorted(data["panel"].unique(), key=_place)
    norm = list(design.models)[1]
    others = sorted(set(data["variant"]) - {norm}, key=style.rank) or [norm]
    several = len(others) > 1
    figure = style.panels(len(others), len(titles), width=9.5, height=2.0 if several else 2.9)
    top = dict(zip(titles, figure.axes, strict=False))
    for ax, (other, title) in zip(figure.axes, itertools.product(others, titles), strict=True):
        part = data.filter(col("panel") == title, col("variant").is_in([other, norm]))
        if ax is not top[title]:
            ax.sharey(top[title])
        if title in (LOSS, GRADIENT):
            curves.draw_band(ax, part)
        else:
            curves.draw(ax, part)
        if several and title == titles[0]:
            ax.set_ylabel(style.look(other).name, fontweight="bold")
        if other == others[-1]:
            ax.set_xlabel("step")
        if title == BETA and design.metric == "euclidean":
            edge = 2 / data["lr"][0]
            ax.axhline(edge, color="#333333", lw=0.9, ls=":")
            at = ("axes fraction", "data")
            ax.annotate("2/LR", (1.01, edge), xycoords=at, va="center", fontsize="small")
    for title, ax in top.items():
        ax.set_title(title)
        if "accuracy" in title:
            ax.set_ylim(bottom=0)
            continue
        if title == LOSS and design.nats:
            ax.set_ylim(bottom=0)
        else:
            style.logarithmic(ax.yaxis)
        mine = data.filter(col("panel") == title, col("whose") == style.OURS)
        most = mine.select(polars.max_horizontal("value", "high").max()).item() or math.inf
        # Lest one spike of the paper's flatten all of ours.
        room = 1.05 if title == LOSS and design.nats else 10
        ax.set_ylim(top=min(ax.get_ylim()[1], room * most))
    legend(figure, data)
    style.span(figure.axes, data)
    return figure


def _place(title: str) -> int:
    own = (LOSS, GRADIENT, BETA)
    return own.index(title) if title in own else -1
