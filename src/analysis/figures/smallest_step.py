"""What effective beta depends on: the smallest step looked at, the learning rate, the network."""

import math

import matplotlib
import matplotlib.figure
import numpy
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from polars import DataFrame, col

from src.analysis.claims import rules
from src.analysis.figures import style
from src.analysis.figures.bands import walked
from src.analysis.figures.curves import over_seeds
from src.analysis.figures.figure import Figure, Gathered, Source
from src.analysis.figures.maps import finals
from src.analysis.figures.select import Selection
from src.analysis.figures.training import cells, chosen

RATES = (0.01, 0.03, 0.1, 0.3, 0.5)
COLUMNS = ("variant", "lr", "smallest_step", "beta", "low", "high", "seeds")


def by_smallest_step(rows: DataFrame) -> DataFrame:
    """Return effective beta by the smallest step size looked at: median and range over seeds.

    That of a run is the median over its probed steps of the greatest beta at that step size or a
    larger one. A point that overflowed lies beyond every finite one.

    Args:
        rows: ``run``, ``variant``, ``lr``, ``step``, ``eta`` and ``beta``.
    """
    greatest = col("beta").fill_nan(math.inf).cum_max().over("run", "step")
    runs = (
        rows.sort("eta", descending=True)
        .with_columns(greatest)
        .group_by("run", "variant", "lr", smallest_step="eta")
        .agg(col("beta").median())
    )
    return over_seeds(runs, ["variant", "lr", "smallest_step"], "beta").select(COLUMNS)


def that_train(source: Source, selection: Selection) -> Selection:
    """Return the runs that train, at the rates at which most of a network's do.

    One that does not is on a plateau, whose landscape tells nothing.
    """
    enough = 100 * col("scale").replace_strict(rules().trains)
    ended = finals(source, selection, level=enough)
    trains = (col("accuracy").fill_nan(0) >= col("level")).fill_null(False)
    most = trains.mean().over("variant", "lr") > 0.5
    return selection.where(col("run").is_in(ended.filter(trains, most)["run"].to_list()))


def _gather(source: Source) -> Gathered | None:
    selection = chosen(source, cells(["vgg", "vgg_bn"], RATES))
    if selection is None:
        return None
    selection = that_train(source, selection)
    rows = walked(source, selection).filter(col("grad_norm") > 0)
    return Gathered(selection, by_smallest_step(rows))


def draw(data: DataFrame) -> matplotlib.figure.Figure:
    """Draw a panel a variant and a curve a rate, with 1/step dotted and 2/LR a ring on it."""
    variants = sorted(data["variant"].unique(), key=style.rank)
    figure = style.panels(1, len(variants), width=7.4, height=3.2)
    colours, norm = matplotlib.colormaps["cividis"], LogNorm(RATES[0], 2 * RATES[-1])
    steps = data["smallest_step"].to_numpy()
    ends = numpy.array([steps.min(), steps.max()])
    for ax, variant in zip(figure.axes, variants, strict=True):
        if ax is not figure.axes[0]:
            ax.sharey(figure.axes[0])
        ax.plot(ends, 1 / ends, color="#333333", lw=0.9, ls=":")
        for part in data.filter(col("variant") == variant).partition_by("lr", maintain_order=True):
            _curve(ax, part, colours(norm(part["lr"][0])))
        ax.set(title=style.look(variant).name, xlabel="smallest step size looked at")
        style.logarithmic(ax.xaxis, ax.yaxis)
    figure.axes[0].set_ylabel("effective beta")
    handles = [
        Line2D([], [], color=colours(norm(lr)), label=f"LR {lr:g}")
        for lr in sorted(data["lr"].unique())
    ]
    grey = "#333333"
    handles += [
        Line2D([], [], color=grey, lw=0.9, ls=":", label="1/step"),
        Line2D([], [], color=grey, marker="o", mfc="white", ls="none", label="2/LR, at LR/2"),
    ]
    style.legend(figure, handles)
    return figure


def _curve(ax: Axes, part: DataFrame, colour: tuple[float, ...]) -> None:
    names = ("smallest_step", "beta", "low", "high")
    lr, (step, beta, low, high) = part["lr"][0], (part[name].to_numpy() for name in names)
    ax.fill_between(step, low, high, color=colour, alpha=0.16, lw=0)
    ax.plot(step, beta, color=colour, marker=".")
    if step[0] <= lr / 2 <= step[-1]:
        ax.plot(lr / 2, 2 / lr, "o", color=colour, mfc="white", zorder=4)


def told(data: DataFrame) -> str:
    """Say what beta is from the smallest step size on and at the largest alone."""
    each = []
    for (variant, lr), part in data.group_by("variant", "lr", maintain_order=True):
        first, last = part["beta"][0], part["beta"][-1]
        each.append(f"{style.look(str(variant)).name} at LR {lr:g} {first:.3g}, {last:.3g}")
    return f"From the smallest step size on, and at the largest alone: {'; '.join(each)}."


FIGURES = (
    Figure(
        "smallest_step",
        "What effective beta depends on",
        "ours, on Santurkar et al. 2018, Fig. 4c",
        "confounds",
        "Effective beta, the greatest over the step sizes from the one on the axis to the largest, "
        "as the median over training, of networks that train, at several learning rates. One "
        "constant of the loss would be level, and alike at all rates. Dotted: 1 over the step, "
        "where beta is when the gradient vanishes on the way; ring: half the rate, the smallest "
        "step of Fig. 4, where that is 2/LR, the edge of stability, too; Fig. 4 ends at four times "
        "the rate, these curves do not. To see: how steeply they fall, and how they order by rate. "
        "Median and range over seeds; both panels have the same axes. No paper has this figure.",
        _gather,
        draw,
        told,
    ),
)
