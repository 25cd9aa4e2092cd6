"""Curves over training: from the rows of many runs to a median and a band over seeds."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import polars
from matplotlib.axes import Axes
from polars import DataFrame, col

from src.analysis import paper
from src.analysis.figures.select import Selection
from src.analysis.figures.style import DASHED, DOTTED, OURS, PAPERS, look

# What a curve's CSV holds: which curve, then its points. ``low`` and ``high`` are the least and the
# greatest over seeds, or the edges of a band; ``seeds`` is how many runs a point is made of.
SERIES = ("panel", "variant", "lr", "whose")
POINTS = ("step", "value", "low", "high", "seeds")
ENDED = "diverged run"


def windowed(rows: DataFrame, width: int) -> DataFrame:
    """Return each run's mean over windows of ``width`` steps, at the windows' middles.

    Args:
        rows: ``run``, ``step``, ``value`` and columns that are the same throughout a run.
        width: In steps; 1 leaves the rows as they are.
    """
    if width <= 1:
        return rows
    middle = (col("step") // width * width + width // 2).alias("step")
    keys = [name for name in rows.columns if name not in ("step", "value")]
    mean = rows.group_by(*keys, middle, maintain_order=True).agg(col("value").mean())
    return mean.select(rows.columns)


def over_seeds(rows: DataFrame, keys: Sequence[str], name: str = "value") -> DataFrame:
    """Return the median over the runs, the least (``low``), the greatest (``high``), and ``seeds``.

    What overflowed lies beyond every finite value. A median that did is left out, an end of the
    range that did is null: neither can be drawn.

    Args:
        rows: The keys and the value; a row a run and point, none of them NaN.
        keys: What tells the points apart.
        name: The value's column.
    """
    value = col(name)
    low, high = value.min(), value.max()
    return (
        rows.group_by(*keys)
        .agg(
            value.median(),
            low=polars.when(low.is_finite()).then(low),
            high=polars.when(high.is_finite()).then(high),
            seeds=value.count().cast(polars.Int64),
        )
        .filter(value.is_finite())
        .sort(*keys)
    )


def edges_over_seeds(rows: DataFrame, keys: Sequence[str]) -> DataFrame:
    """Return a band: the medians over runs of its lower and of its upper edge; value is null.

    Args:
        rows: The keys, ``low`` and ``high``; a row a run and point.
        keys: What tells the points apart.
    """
    return (
        rows.group_by(*keys)
        .agg(
            polars.lit(None, polars.Float64).alias("value"),
            col("low").median(),
            col("high").median(),
            polars.len().cast(polars.Int64).alias("seeds"),
        )
        .sort(*keys)
    )


def ours(points: DataFrame) -> DataFrame:
    """Return points as a figure's data, marked as measured here."""
    named = points.with_columns(whose=polars.lit(OURS))
    return named.select(*SERIES, *(col(name) for name in POINTS))


def ends(rows: DataFrame, runs: DataFrame) -> DataFrame:
    """Return where the diverged runs end, at the height of each one's last finite value.

    Args:
        rows: ``run``, ``panel``, ``variant``, ``lr``, ``step``, ``value``.
        runs: ``run``, ``state`` and the ``step`` each has come to.
    """
    diverged = runs.filter(col("state") == "diverged").select("run", end="step")
    last = (
        rows.join(diverged, on="run")
        .filter(col("value").is_finite())
        .sort("panel", "run", "step")
        .group_by("panel", "run", maintain_order=True)
        .last()
        .with_columns(step=col("end"))
    )
    empty = polars.lit(None, polars.Float64)
    return last.with_columns(
        whose=polars.lit(ENDED), low=empty, high=empty, seeds=polars.lit(1, polars.Int64)
    ).select(*SERIES, *POINTS)


class Theirs(NamedTuple):
    """A curve of the paper and the one of ours that it belongs to."""

    name: str
    panel: str
    variant: str
    lr: float


def with_papers(data: DataFrame, curves: Iterable[Theirs], selection: Selection) -> DataFrame:
    """Return a figure's data with the paper's curves, cut at our last step.

    A curve that the papers' figures do not yield, or that has none of ours beside it, is left out;
    all are where ours are of other data.
    """
    there, parts = set(data.select("panel", "variant", "lr").rows()), [data]
    for name, *series in curves:
        if selection.on_papers_data and name in paper.names() and tuple(series) in there:
            panel, variant, lr = map(polars.lit, series)
            theirs = paper.curve(name, selection.last).with_columns(
                panel=panel,
                variant=variant,
                lr=lr,
                whose=polars.lit(PAPERS),
                seeds=polars.lit(None, polars.Int64),
            )
            parts.append(theirs.select(*SERIES, *POINTS))
    return together(parts)


def together(parts: Iterable[DataFrame]) -> DataFrame:
    """Return one frame of several parts of a figure's data."""
    return polars.concat(list(parts), how="vertical_relaxed")


def draw(ax: Axes, data: DataFrame, hollow: Sequence[float] = ()) -> None:
    """Draw one panel's curves: the paper's dashed, ours with the range over seeds, ends as crosses.

    Args:
        ax: The panel.
        data: Its rows.
        hollow: The learning rates whose markers are hollow, and the paper's curves dotted, to tell
            two of one variant apart.
    """
    for (variant, lr, whose), part in data.group_by("variant", "lr", "whose", maintain_order=True):
        colour, marker = look(str(variant)).colour, look(str(variant)).marker
        step, value = part["step"].to_numpy(), part["value"].to_numpy()
        low, high = part["low"].to_numpy(), part["high"].to_numpy()
        if whose == ENDED:
            ax.plot(step, value, "x", color=colour, markersize=7, mew=1.8, zorder=4, clip_on=False)
        elif whose == PAPERS:
            alone = "." if len(step) == 1 else None  # a line of one point shows nothing
            ls = DOTTED if lr in hollow else DASHED
            ax.plot(step, value, color=colour, marker=alone, lw=0.9, ls=ls, alpha=0.75)
        else:
            if part["seeds"].max() != 1:
                ax.fill_between(step, low, high, color=colour, alpha=0.16, lw=0)
            every = max(1, len(step) // 7)
            first = sum(map(ord, str(variant))) % every  # so that markers seldom cover each other
            face = "white" if lr in hollow else colour
            at = (first, every)
            ax.plot(step, value, color=colour, zorder=3, marker=marker, markevery=at, mfc=face)


def draw_band(ax: Axes, data: DataFrame) -> None:
    """Draw one panel's bands: ours filled, the paper's edges dashed."""
    for (variant, whose), part in data.group_by("variant", "whose", maintain_order=True):
        colour, marker = look(str(variant)).colour, look(str(variant)).marker
        step, low, high = (part[name].to_numpy() for name in ("step", "low", "high"))
        if whose == PAPERS:
            for edge in (low, high):
                ax.plot(step, edge, color=colour, lw=0.7, ls=DASHED, alpha=0.7)
        elif whose == OURS:
            ax.fill_between(step, low, high, color=colour, alpha=0.3, lw=0)
            for edge in (low, high):
                every = max(1, len(step) // 7)
                ax.plot(step, edge, color=colour, lw=1, marker=marker, markevery=every, ms=3)
