"""Internal covariate shift over training: Santurkar et al. Fig. 3."""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import matplotlib.figure
import polars
from polars import DataFrame, col

from src.analysis.figures import curves, style
from src.analysis.figures.figure import Figure, Gathered, Source
from src.analysis.figures.select import Selection
from src.analysis.figures.training import (
    FROM_HE,
    OWN,
    WINDOWS,
    Also,
    Panel,
    cells,
    chosen,
    legend,
    metrics,
    points,
    told,
)

_QUANTITIES = {"l2": "l2 difference", "cosine": "cosine", "relative": "relative difference"}


class Design(NamedTuple):
    """What one such figure holds.

    Attributes:
        network: ``vgg`` or ``dln``.
        lrs: Its rows.
        layers: A column each and quantity.
        metric: Of the first column.
        progress: What that is called.
        papers: The paper's curves of it, by learning rate, ``{}`` where they name the network.
        prefix: What the names of its other curves begin with.
        quantities: Of the probe.
        also: What else the runs have, where it is not the paper's.
    """

    network: str
    lrs: Sequence[float]
    layers: Sequence[int]
    metric: str
    progress: str
    papers: dict[float, str]
    prefix: str
    quantities: Sequence[str] = ("l2", "cosine")
    also: Also | None = None

    @property
    def models(self) -> dict[str, str]:
        """The variants, and what the paper's curves call them."""
        return {self.network: "std", f"{self.network}_bn": "bn"}


def shift(source: Source, selection: Selection, design: Design) -> DataFrame:
    """Return the curves of Definition 2.1 of some layers, a panel a rate, layer and quantity."""
    where = col("layer").is_in(list(design.layers))
    rows = source.rows(selection, "ics", ["step", "layer", *design.quantities], where)
    index = ["run", "variant", "lr", "step", "layer"]
    tall = rows.unpivot(list(design.quantities), index=index, variable_name="quantity")
    titles = [_title(*key) for key in tall.select("lr", "layer", "quantity").rows()]
    return points(tall.with_columns(polars.Series("panel", titles, polars.String)), selection)


def _title(lr: float, layer: int, quantity: str) -> str:
    return f"LR {lr:g}: layer {layer}, {_QUANTITIES[quantity]}"


def _theirs(design: Design) -> Iterator[curves.Theirs]:
    for lr in design.lrs:
        rate = f"{lr:g}".replace("e-0", "e-")
        for layer in design.layers:
            for quantity, key in (("l2", "l2"), ("cosine", "cos")):
                for model, short in design.models.items():
                    name = f"{design.prefix}_lr{rate}_L{layer}_{key}_{short}"
                    yield curves.Theirs(name, _title(lr, layer, quantity), model, lr)


def _gather(source: Source, design: Design) -> Gathered | None:
    selection = chosen(source, cells(list(design.models), design.lrs), also=design.also)
    if selection is None or (measured := shift(source, selection, design)).is_empty():
        return None
    parts = []
    for lr in sorted(selection.runs["optim.lr"].unique(), reverse=True):
        curve = design.papers.get(lr, "")
        papers = {(model, lr): curve.format(short) for model, short in design.models.items()}
        panel = Panel(f"LR {lr:g}: {design.progress}", design.metric, papers)
        parts.append(metrics(source, selection.where(col("optim.lr") == lr), [panel]))
        parts.append(measured.filter(col("lr") == lr))
    return Gathered(
        selection, curves.with_papers(curves.together(parts), _theirs(design), selection)
    )


def draw(data: DataFrame) -> matplotlib.figure.Figure:
    """Draw a row a learning rate: accuracy or loss, then each quantity of each layer."""
    rates = sorted({title.partition(":")[0] for title in data["panel"]}, key=_rate, reverse=True)
    columns = sorted({title.partition(": ")[2] for title in data["panel"]}, key=_place)
    figure = style.panels(len(rates), len(columns), width=11, height=2.2)
    grid = iter(figure.axes)
    for rate in rates:
        for column in columns:
            ax, part = next(grid), data.filter(col("panel") == f"{rate}: {column}")
            curves.draw(ax, part)
            if rate == rates[0]:
                ax.set_title(column.replace(", ", "\n").replace("training ", "training\n"))
            if rate == rates[-1]:
                ax.set_xlabel("step")
            if column == columns[0]:
                ax.set_ylabel(rate, fontweight="bold")
            if "cosine" in column:
                ax.set_ylim(-1.05, 1.05)
            elif "accuracy" in column:
                ax.set_ylim(0, 101)
            elif not part.is_empty():
                style.logarithmic(ax.yaxis)
    legend(figure, data.with_columns(lr=polars.lit(0.0)), columns=4)
    style.span(figure.axes, data)
    return figure


def _rate(title: str) -> float:
    return float(title.removeprefix("LR "))


def _place(column: str) -> tuple[int, str]:
    layer = column.removeprefix("layer ").partition(",")[0]
    return (int(layer), column.replace("cosine", "z")) if layer.isdigit() else (0, column)


def _figure(
    name: str, title: str, source: str, design: Design, text: str, sweep: str = ""
) -> Figure:
    gather = functools.partial(_gather, design=design)
    distances = [_title(lr, n, design.quantities[0]) for lr in design.lrs for n in design.layers]
    say = functools.partial(told, panels=distances)
    return Figure(name, title, source, sweep or name, text, gather, draw, say)


_READ = (
    "At each probed step the layers before one take their update and its gradient is computed "
    "again on the same batch (Definition 2.1): the l2 distance and the cosine of the two gradients "
    "of its weight. Cosine 1 and l2 near 0 mean no shift. "
    "Line and band: median and range over seeds; the paper's curves dashed, at its own steps, cut "
    "where our runs end. " + WINDOWS
)
_VGG = Design(
    network="vgg",
    lrs=(0.1, 0.01),
    layers=(5, 10),
    metric="train/accuracy",
    progress="training accuracy (%)",
    papers={0.1: "fig1a_trainacc_{}_lr0.1"},  # Fig. 3a repeats the curves of Fig. 1a
    prefix="fig3a",
)
FIGURES = (
    _figure(
        "fig3_ics_vgg",
        "Internal covariate shift in VGG",
        "Santurkar et al. 2018, Fig. 3a",
        _VGG,
        _READ + "To see: whether BatchNorm's shift is any smaller than the standard network's. "
        "The paper's l2 curves could be read at layer 5 and LR 0.1 only.",
    ),
    _figure(
        "fig3_ics_dln",
        "Internal covariate shift in the deep linear network",
        "Santurkar et al. 2018, Fig. 3b",
        Design(
            "dln",
            (1e-6, 1e-7),
            (9, 17),
            "train/loss",
            "training loss",
            {1e-6: "fig3b_lr1e-6_loss_{}", 1e-7: "fig3b_lr1e-7_loss_{}"},
            "fig3b",
        ),
        _READ
        + "To see: whether the standard network keeps cosine 1 at the lower rate only; at 1e-6, "
        "where both networks train at the edge of stability (smoothness 2/LR), the paper's "
        "gradient turns over too, ours in some seeds. A contrast at one rate is a contrast of "
        "distances to that edge. The paper's l2 distances could not be read off.",
    ),
    _figure(
        "fig3_he",
        "Internal covariate shift in VGG, from He's initialisation",
        "ours, after Santurkar et al. 2018, Fig. 3a",
        _VGG._replace(papers={}, prefix="", also=FROM_HE),
        "As Fig. 3a, from He's initialisation, from which the standard network is soon off its "
        "plateau, where its gradient is nearly nothing and so is its shift. To see: whether "
        "BatchNorm's shift is larger here, too. No paper has this figure. Line and band: median "
        "and range over seeds. " + WINDOWS,
        sweep="fig3_ics_vgg",
    ),
    _figure(
        "fig3_own",
        "Internal covariate shift in VGG, the standard network from He's initialisation",
        "ours, after Santurkar et al. 2018, Fig. 3a",
        _VGG._replace(papers={}, prefix="", also=OWN, quantities=("l2", "relative", "cosine")),
        "As Fig. 3a, the standard network from He's initialisation, BatchNorm from Glorot's, the "
        "paper's: from He's its weights would be longer, and its gradients and steps shorter for "
        "them. To see: whether BatchNorm's shift is lower here, too. No paper has this figure. "
        "Line and band: median and range over seeds. " + WINDOWS,
        sweep="own_initialisation",
    ),
    _figure(
        "fig3_relative",
        "Internal covariate shift in VGG, relative to the gradient's length",
        "ours, after Santurkar et al. 2018, Fig. 3a",
        _VGG._replace(prefix="", quantities=("relative",)),
        "The l2 difference of Fig. 3a over the length of the gradient itself, so that a network "
        "with longer gradients does not look less stable for that alone. To see: whether the "
        "comparison of Fig. 3a survives. No paper has this figure. Line and band: median and range "
        "over seeds. " + WINDOWS,
        sweep="fig3_ics_vgg",
    ),
)
