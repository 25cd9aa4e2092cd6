"""How far the gradient has turned after a step of some size: Santurkar et al. Fig. 11."""

import math

import matplotlib
import matplotlib.figure
import numpy
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from polars import DataFrame, col

from src.analysis.figures import style
from src.analysis.figures.bands import walked
from src.analysis.figures.curves import over_seeds
from src.analysis.figures.figure import Figure, Gathered, Source
from src.analysis.figures.training import cells, chosen

COLUMNS = ("variant", "lr", "step", "eta", "grad_diff", "low", "high", "seeds")


def by_step_size(rows: DataFrame) -> DataFrame:
    """Return the median, least and greatest gradient difference over seeds.

    One that is no number lies beyond where it overflowed.

    Args:
        rows: ``variant``, ``lr``, ``step``, ``eta`` and ``grad_diff``; a row a run each.
    """
    rows = rows.with_columns(col("grad_diff").fill_nan(math.inf))
    return over_seeds(rows, ["variant", "lr", "step", "eta"], "grad_diff").select(COLUMNS)


def _gather(source: Source, network: str, lr: float) -> Gathered | None:
    selection = chosen(source, cells([network, f"{network}_bn"], [lr]))
    if selection is None:
        return None
    return Gathered(selection, by_step_size(walked(source, selection)))


def draw(data: DataFrame) -> matplotlib.figure.Figure:
    """Draw a panel a variant and a curve a step of training, dark early and light late."""
    variants = sorted(data["variant"].unique(), key=style.rank)
    figure = style.panels(1, len(variants), width=7.4, height=3.0)
    step, eta, difference = (data[name].to_numpy() for name in ("step", "eta", "grad_diff"))
    norm, colours = Normalize(0, max(1, step.max())), matplotlib.colormaps["cividis"]
    logarithmic = eta.max() > 100 * eta.min()
    for ax, variant in zip(figure.axes, variants, strict=True):
        parts = data.filter(col("variant") == variant).partition_by("step", maintain_order=True)
        lines = [part.select("eta", "grad_diff").to_numpy() for part in parts]
        shades = colours(norm(numpy.array([part["step"][0] for part in parts])))
        ax.add_collection(LineCollection(lines, colors=shades, linewidths=0.9))
        ax.set(title=style.look(variant).name, xlabel="step size", ylabel="gradient difference")
        if logarithmic:
            style.logarithmic(ax.xaxis, ax.yaxis)
        ax.set_xlim(eta.min(), eta.max())
        ax.set_ylim(difference.min() if logarithmic else 0, difference.max())
    scale = ScalarMappable(norm, colours)
    figure.colorbar(scale, ax=figure.axes, label="step of training", aspect=30)
    return figure


def told(data: DataFrame) -> str:
    """Say what the largest step does to the gradient, over all of training."""
    each, steps = [], data["step"].n_unique()
    for (variant,), part in data.group_by("variant", maintain_order=True):
        name = style.look(str(variant)).name
        there = part.filter(col("eta") == data["eta"].max())["grad_diff"].to_numpy()
        if len(there) < steps:
            each.append(f"{name} overflows at {steps - len(there)} of {steps} steps")
        else:
            each.append(f"{name} {numpy.median(there):.3g}, at most {there.max():.3g}")
    return (
        "At the largest step size the gradient differs by, median over training, "
        f"{'; '.join(each)}."
    )


_TEXT = (
    "The distance of the gradient after a step of some size along it from the gradient before it, "
    "one curve a step of training at which it was measured, the median over seeds. To see: whether "
    "the standard network's gradient changes more, and from which step size on. Both panels have "
    "the same axes; the paper's curves of this figure could not be read off. "
)


def _figure(name: str, network: str, sweep: str, model: str, lr: float) -> Figure:
    title = f"Gradient difference over step size, {network}"
    source = "Santurkar et al. 2018, Fig. 11"
    return Figure(name, title, source, sweep, _TEXT, lambda s: _gather(s, model, lr), draw, told)


FIGURES = (
    _figure("fig11_step_sizes_vgg", "VGG", "fig4_landscape", "vgg", 0.1),
    _figure("fig11_step_sizes_dln", "deep linear network", "fig10_landscape_dln", "dln", 1e-6),
)
