"""The landscape by single measures of it: others than the paper's, and in random directions."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.figure
import polars
from polars import DataFrame, col

from src.analysis.figures import curves, style
from src.analysis.figures.bands import walked
from src.analysis.figures.figure import Figure, Gathered, Source
from src.analysis.figures.select import select
from src.analysis.figures.training import legend, points, told
from src.analysis.smoothness import smoothness


class Row(NamedTuple):
    """What one row of panels is of."""

    name: str
    initialisation: str
    direction: str

    def title(self, measure: str) -> str:
        """Return a panel's name in the data."""
        return f"{self.name}: {measure}"


def _gather(source: Source, rows: Sequence[Row], measures: Mapping[str, str]) -> Gathered | None:
    initialisations = dict.fromkeys(row.initialisation for row in rows)
    cells = [
        {"model.name": model, "optim.lr": 0.1, "init.name": initialisation}
        for initialisation in initialisations
        for model in ("vgg", "vgg_bn")
    ]
    if (selection := select(source.runs.table, cells)) is None:
        return None
    parts = []
    for row in rows:
        runs = selection.where(col("init.name") == row.initialisation)
        met = walked(source, runs, (0.5, 4), direction=row.direction)
        found = smoothness(met, ["run", "variant", "lr"])
        for column, measure in measures.items():
            panel = polars.lit(row.title(measure))
            one = found.select("run", "variant", "lr", "step", value=column, panel=panel)
            parts.append(points(one, runs))
    return Gathered(selection, curves.together(parts))


def draw(data: DataFrame, rows: Sequence[Row], measures: Sequence[str]) -> matplotlib.figure.Figure:
    """Draw a column a measure, and each row that has data."""
    titles = set(data["panel"])
    there = [row for row in rows if titles & {row.title(measure) for measure in measures}]
    figure = style.panels(len(there), len(measures), width=9.5, height=2.4)
    grid = iter(figure.axes)
    for row in there:
        for measure in measures:
            ax = next(grid)
            curves.draw(ax, data.filter(col("panel") == row.title(measure)))
            if row == there[0]:
                ax.set_title(measure)
            if row == there[-1]:
                ax.set_xlabel("step")
            if measure == measures[0]:
                ax.set_ylabel(row.name, fontweight="bold")
            style.logarithmic(ax.yaxis)
    legend(figure, data)
    style.span(figure.axes, data)
    return figure


def _figure(
    name: str, title: str, source: str, rows: Sequence[Row], measures: Mapping[str, str], text: str
) -> Figure:
    return Figure(
        name,
        title,
        source,
        "fig4_landscape",
        text + "No paper has this figure. Line and band: median and range over seeds.",
        lambda runs: _gather(runs, rows, measures),
        lambda data: draw(data, rows, list(measures.values())),
        told,
    )


FIGURES = (
    _figure(
        "fig4_measures",
        "The landscape of VGG along the gradient by other measures",
        "ours, on Santurkar et al. 2018, Fig. 4 and Sec. 3.1",
        (
            Row("from Glorot's", "glorot_normal", "gradient"),
            Row("from He's", "he_normal", "gradient"),
        ),
        {
            "lipschitz": "Lipschitz estimate of the loss",
            "steepest": "largest gradient",
            "relative_change": "change of the gradient over its length",
        },
        "Over the step sizes of Fig. 4. Left: the largest change of the loss by distance, which a "
        "Lipschitz constant is at least; at the smallest step it is about the gradient's length. "
        "Middle: the largest gradient met on the way, a tighter bound. Right: how much of its "
        "length the gradient changes by. Rows: from Glorot's initialisation, the paper's, and from "
        "He's. To see: which of them call BatchNorm the smoother, and when. ",
    ),
    _figure(
        "fig4_random",
        "The landscape of VGG along the gradient and in random directions",
        "ours, on Santurkar et al. 2018, Sec. 3.2",
        (
            Row("gradient", "he_normal", "gradient"),
            Row("random", "he_normal", "random"),
        ),
        {
            "variation": "width of the loss band (nats)",
            "predictiveness": "largest change of the gradient",
            "beta": "effective beta",
        },
        "The three quantities of Fig. 4 from He's initialisation, each as one number a step. Top: "
        "along the gradient. Bottom: along a direction drawn at random at each probed step and "
        "scaled to the gradient's length, so the steps are as long. To see: whether BatchNorm is "
        "the smoother there, too, as the paper says in a sentence and does not draw. ",
    ),
)
