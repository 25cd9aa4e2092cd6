"""The landscape and the shift over the training loss, not over the steps: who has come as far?"""

import math
import textwrap

import matplotlib.figure
import polars
from polars import DataFrame, col

from src.analysis.figures import style
from src.analysis.figures.curves import over_seeds
from src.analysis.figures.figure import Figure, Gathered, Source
from src.analysis.figures.landscape import BETA, GRADIENT, LOSS, along_gradient
from src.analysis.figures.select import Selection
from src.analysis.figures.training import cells, chosen
from src.analysis.losses import smoothed

SHIFT = "l2 difference"
PANELS = {
    LOSS: "width of the loss band",
    GRADIENT: "largest change of the gradient",
    BETA: "effective beta",
    SHIFT: "shift (l2), median over layers",
}
COLUMNS = ("panel", "variant", "lr", "loss", "value", "low", "high", "seeds")


def by_loss(values: DataFrame, losses: DataFrame) -> DataFrame:
    """Return the median and range over seeds of each run's median at each training loss.

    Args:
        values: ``panel``, ``variant``, ``lr``, ``run``, ``step``, ``value``; it may be infinite.
        losses: ``run``, ``step`` and ``loss``; here it is taken to the tenth of a nat.
    """
    binned = losses.with_columns(col("loss").round(1))
    runs = (
        values.join(binned, on=["run", "step"])
        .group_by("panel", "variant", "lr", "run", "loss")
        .agg(col("value").median())
    )
    return over_seeds(runs, ["panel", "variant", "lr", "loss"]).select(COLUMNS)


def _along(source: Source, selection: Selection) -> DataFrame:
    """Return the three quantities of Fig. 4, over the paper's step sizes."""
    ends = along_gradient(source, selection, (0.5, 4))
    width = (col("high") - col("low")).fill_nan(math.inf)
    return ends.with_columns(value=polars.when(col("panel") == LOSS).then(width).otherwise("high"))


def _shift(source: Source, selection: Selection) -> DataFrame:
    """Return Definition 2.1's length, as the median over the layers that have one."""
    rows = source.rows(selection, "ics", ["step", "layer", "l2"], col("layer") >= 2).drop_nans("l2")
    middle = rows.group_by("run", "variant", "lr", "step").agg(value=col("l2").median())
    return middle.with_columns(panel=polars.lit(SHIFT))


def _gather(source: Source) -> Gathered | None:
    selection = chosen(source, cells(["vgg", "vgg_bn"], [0.1]))
    if selection is None:
        return None
    wanted = ["panel", "variant", "lr", "run", "step", "value"]
    parts = [_along(source, selection), _shift(source, selection)]
    values = polars.concat([part.select(wanted) for part in parts]).drop_nulls("value")
    records = source.rows(selection, "metrics", ["step", "value"], col("name") == "train/loss")
    return Gathered(selection, by_loss(values, smoothed(records.sort("run", "step"), ["run"])))


def draw(data: DataFrame) -> matplotlib.figure.Figure:
    """Draw a panel a quantity; the loss falls to the right, as training goes."""
    figure = style.panels(1, len(PANELS), width=10, height=2.8)
    for ax, (panel, title) in zip(figure.axes, PANELS.items(), strict=True):
        part = data.filter(col("panel") == panel)
        ax.set_visible(not part.is_empty())
        for (variant,), curve in part.group_by("variant", maintain_order=True):
            _, colour, marker = style.look(str(variant))
            names = ("loss", "value", "low", "high")
            loss, value, low, high = (curve[name].to_numpy() for name in names)
            ax.fill_between(loss, low, high, color=colour, alpha=0.16, lw=0)
            ax.plot(loss, value, color=colour, marker=marker, markersize=3.5)
        ax.set(title=textwrap.fill(title, 22), xlabel="training loss (nats)")
        ax.invert_xaxis()
        style.logarithmic(ax.yaxis)
    variants = sorted(data["variant"].unique(), key=style.rank)
    style.legend(figure, [style.handle(variant) for variant in variants])
    return figure


def told(data: DataFrame) -> str:
    """Say what each network has at the loss that most seeds of both pass."""
    each = []
    for panel, title in PANELS.items():
        part = data.filter(col("panel") == panel)
        shared = part.group_by("loss").agg(col("variant").n_unique(), col("seeds").min())
        shared = shared.filter(col("variant") == 2).sort("seeds", "loss", descending=True)
        if shared.is_empty():
            continue
        loss = shared["loss"][0]
        rows = part.filter(col("loss") == loss).sort("variant").select("value", "variant").rows()
        values = ", ".join(f"{value:.3g} for {style.look(name).name}" for value, name in rows)
        each.append(f"{title} at {loss:g} nats {values}")
    return f"{'; '.join(each)}." if each else "The networks have no loss in common."


FIGURES = (
    Figure(
        "equal_loss",
        "The landscape and the shift at equal training loss",
        "ours, on Santurkar et al. 2018, Fig. 3a and 4",
        "equal_loss",
        "What Fig. 4 and Fig. 3 show over steps, over the training loss instead, the mean of five "
        "records around the probed step. At equal steps BatchNorm has trained further, and what "
        "changes with that looks like what BatchNorm changes. To see: whether the gap is there "
        "where both have the same loss. Step sizes from half the rate to four times, as in Fig. 4; "
        "each run's median within a tenth of a nat, then median and range over the seeds that "
        "have one; a run that diverged is in it up to there. No paper has this figure.",
        _gather,
        draw,
        told,
    ),
)
