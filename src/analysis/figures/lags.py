"""How far activations move in one step and in many: jitter, or drift?"""

from itertools import product

import matplotlib.figure
import polars
from matplotlib.axes import Axes
from polars import DataFrame, col

from src.analysis.drift import beside_standard, drift
from src.analysis.figures import style
from src.analysis.figures.curves import over_seeds
from src.analysis.figures.figure import Figure, Gathered, Source
from src.analysis.figures.moments import units

LAGS = (1, 100, 200, 500, 1000)
SINCE = {"all of training": 0.0, "its last two thirds": 1 / 3}
SITES = {"before the norm": "before_norm", "entering the\nnon-linearity": "after_noise"}
COLUMNS = ("site", "panel", "variant", "lr", "lag", "value", "low", "high", "seeds")
_RUN = ("run", "variant", "lr")


def by_lag(rows: DataFrame, last: int) -> DataFrame:
    """Return how far means move over spread at each site by how many steps lie between.

    Of a run it is the median over layers and steps; then the median and range over seeds.

    Args:
        rows: ``run``, ``variant``, ``lr``, ``layer``, ``site``, ``unit``, ``step``, ``mean`` and
            ``variance``.
        last: The step at which training ends.
    """
    parts = []
    for site, lag in product(SITES.values(), LAGS):
        moved = drift(beside_standard(rows, site), site, _RUN, lag)
        for panel, share in SINCE.items():
            late = moved.filter(col("step") >= share * last)
            runs = late.group_by(*_RUN).agg(value=col("pooled").median())
            at = {"site": site, "panel": panel, "lag": lag}
            parts.append(runs.with_columns(**{key: polars.lit(value) for key, value in at.items()}))
    found = polars.concat(parts).drop_nulls("value").drop_nans("value")
    return over_seeds(found, ["site", "panel", "variant", "lr", "lag"]).select(COLUMNS)


def _gather(source: Source) -> Gathered | None:
    found = units(source, ["vgg", "vgg_bn", "vgg_noisy"], ["vgg_bn", "vgg_noisy"], "training")
    if found is None:
        return None
    selection, rows = found
    return Gathered(selection, by_lag(rows, selection.last))


def draw(data: DataFrame) -> matplotlib.figure.Figure:
    """Draw a row a site, on the same axes, and a column for each part of training."""
    figure = style.panels(len(SITES), len(SINCE), width=7.4, height=2.8)
    rows = [figure.axes[: len(SINCE)], figure.axes[len(SINCE) :]]
    for row, (name, site) in zip(rows, SITES.items(), strict=True):
        for ax, panel in zip(row, SINCE, strict=True):
            _curves(ax, data.filter(site=site, panel=panel))
            if ax is not row[0]:
                ax.sharey(row[0])
        row[0].set_ylabel(name, fontweight="bold")
    for above, below, panel in zip(*rows, SINCE, strict=True):
        above.set_title(panel)
        below.set_xlabel("steps between")
    variants = sorted(data["variant"].unique(), key=style.rank)
    style.legend(figure, [style.handle(variant) for variant in variants])
    return figure


def _curves(ax: Axes, data: DataFrame) -> None:
    for part in data.partition_by("variant", maintain_order=True):
        _, colour, marker = style.look(part["variant"][0])
        lag, value, low, high = (part[n].to_numpy() for n in ("lag", "value", "low", "high"))
        ax.fill_between(lag, low, high, color=colour, alpha=0.16, lw=0)
        ax.plot(lag, value, color=colour, marker=marker)
    style.logarithmic(ax.xaxis, ax.yaxis)


def told(data: DataFrame) -> str:
    """Say how far each network moves in one step and in the most."""
    each = []
    there = data.filter(panel=next(iter(SINCE)), site=next(iter(SITES.values())))
    for part in there.sort("lag").partition_by("variant"):
        value, lag, name = part["value"], part["lag"], style.look(part["variant"][0]).name
        each.append(f"{name} {value[0]:.3g} in {lag[0]} and {value[-1]:.3g} in {lag[-1]}")
    return (
        f"Over all of training means before the norm move by, in steps: {'; '.join(sorted(each))}."
    )


FIGURES = (
    Figure(
        "fig8_lags",
        "How far activations move in one step and in many",
        "ours, after Santurkar et al. 2018, Fig. 8",
        "fig8_moments",
        "How far a unit's mean moves, over the root mean square of its standard deviations, by how "
        "many steps lie between; the median over units, layers and steps. Above before the norm, "
        "below what enters the non-linearity, after the noise where there is any (there "
        "BatchNorm's means are its learned beta); the standard network's is of that in both. "
        "Noise that is drawn anew at each step moves means as far in one step as in many; a change "
        "of the parameters adds up. To see: whether noisy BatchNorm, as unsteady as the standard "
        "network in one step, is so in hundreds. Left with the standard network's plateau, on "
        "which its spreads are small; right the last two thirds of training. Median and range over "
        "seeds. No paper has this figure.",
        _gather,
        draw,
        told,
    ),
)
