"""The landscape and the shift over the training loss, not over the steps: who has come as far?"""

import textwrap

import matplotlib.figure
import polars
from polars import DataFrame, col

from src.analysis.claims import rules
from src.analysis.figures import style
from src.analysis.figures.bands import walked
from src.analysis.figures.curves import over_seeds
from src.analysis.figures.figure import Figure, Gathered, Source
from src.analysis.figures.select import Selection
from src.analysis.figures.training import cells, chosen
from src.analysis.losses import smoothed
from src.analysis.smoothness import smoothness

PANELS = (
    "width of the loss band (nats)",
    "largest change of the gradient",
    "change of the gradient over its length",
    "effective beta",
    "shift (l2)",
    "shift over the gradient's length",
)
_BAND, _CHANGE, _TURN, _BETA, *_SHIFTS = PANELS
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


_KEYS = ("run", "variant", "lr", "step")


def _along(source: Source, selection: Selection) -> DataFrame:
    """Return the quantities of Fig. 4, over the paper's step sizes."""
    found = smoothness(walked(source, selection, (0.5, 4)), ["run", "variant", "lr"])
    names = {"variation": _BAND, "predictiveness": _CHANGE, "relative_change": _TURN, "beta": _BETA}
    return found.rename(names).select(*_KEYS, *names.values())


def _shift(source: Source, selection: Selection) -> DataFrame:
    """Return Definition 2.1's length, as the median over the layers that have one."""
    columns = ["l2", "relative"]
    rows = source.rows(selection, "ics", ["step", "layer", *columns], col("layer") >= 2)
    rows = rows.with_columns(col(columns).fill_nan(None))
    named = zip(_SHIFTS, columns, strict=True)
    return rows.group_by(_KEYS).agg(**{name: col(column).median() for name, column in named})


def _gather(source: Source) -> Gathered | None:
    selection = chosen(source, cells(["vgg", "vgg_bn"], [0.1]))
    if selection is None:
        return None
    wide = [_along(source, selection), _shift(source, selection)]
    values = polars.concat([part.unpivot(index=_KEYS, variable_name="panel") for part in wide])
    records = source.rows(selection, "metrics", ["step", "value"], col("name") == "train/loss")
    losses = smoothed(records.sort("run", "step"), ["run"]).filter(col("loss") < _off_plateau())
    return Gathered(selection, by_loss(values.drop_nulls("value"), losses))


def _off_plateau() -> float:
    """Return below which loss the claims compare."""
    return float(rules().claims["landscape_equal_loss"].settings["below"])


def draw(data: DataFrame) -> matplotlib.figure.Figure:
    """Draw a panel a quantity; the loss falls to the right, as training goes."""
    figure = style.panels(2, 3, width=8.5, height=2.6)
    for place, (ax, panel) in enumerate(zip(figure.axes, PANELS, strict=True)):
        part = data.filter(col("panel") == panel)
        ax.set_visible(not part.is_empty())
        for (variant,), curve in part.group_by("variant", maintain_order=True):
            _, colour, marker = style.look(str(variant))
            names = ("loss", "value", "low", "high")
            loss, value, low, high = (curve[name].to_numpy() for name in names)
            ax.fill_between(loss, low, high, color=colour, alpha=0.16, lw=0)
            ax.plot(loss, value, color=colour, marker=marker, markersize=3.5)
        ax.set_title(textwrap.fill(panel, 35))
        if place >= len(PANELS) - 3:
            ax.set_xlabel("training loss (nats), falling")
        ax.invert_xaxis()
        style.logarithmic(ax.yaxis)
    variants = sorted(data["variant"].unique(), key=style.rank)
    style.legend(figure, [style.handle(variant) for variant in variants])
    return figure


def told(data: DataFrame) -> str:
    """Say what each network has in the middle of the losses that most seeds of both pass."""
    each = []
    for panel in (_BAND, _TURN, _BETA, *_SHIFTS):
        part = data.filter(col("panel") == panel)
        shared = part.group_by("loss").agg(col("variant").n_unique(), col("seeds").min())
        shared = shared.filter(col("variant") == 2)
        shared = shared.filter(col("seeds") == col("seeds").max()).sort("loss")
        if shared.is_empty():
            continue
        loss = shared["loss"][len(shared) // 2]
        rows = part.filter(col("loss") == loss).sort("variant").select("value", "variant").rows()
        values = ", ".join(f"{value:.3g} for {style.look(name).name}" for value, name in rows)
        each.append(f"{panel} at {loss:g} nats {values}")
    return f"{'; '.join(each)}." if each else "The networks have no loss in common."


FIGURES = (
    Figure(
        "equal_loss",
        "The landscape and the shift at equal training loss",
        "ours, on Santurkar et al. 2018, Fig. 3a and 4",
        "equal_loss",
        "What Fig. 4 and Fig. 3 show over steps, over the training loss instead, the mean of five "
        "records around the probed step; below 2.2 nats, where a network is off its plateau. At "
        "equal steps BatchNorm has trained further, and what changes with that looks like what "
        "BatchNorm changes. To see: whether the gap is there where both have the same loss. Step "
        "sizes from half the rate to four times, as in Fig. 4; of the shift the median over "
        "layers. Each run's median where its loss rounds to a tenth of a nat, then median and "
        "range over the seeds that have one; a run that diverged is in it up to there. No paper "
        "has this figure.",
        _gather,
        draw,
        told,
    ),
)
