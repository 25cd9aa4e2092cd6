"""The sigmoid network on MNIST: Ioffe & Szegedy (2015), Fig. 1."""

from collections.abc import Sequence

import matplotlib.figure
from polars import DataFrame, col

from src.analysis.claims import rules
from src.analysis.figures import curves, style
from src.analysis.figures.figure import Figure, Gathered, Source
from src.analysis.figures.ridgelines import probed
from src.analysis.figures.select import Selection
from src.analysis.figures.training import Panel, cells, chosen, legend, metrics, points, told

_MODELS = {"mlp": "std", "mlp_bn": "bn"}
_QUANTILES = ("q15", "q50", "q85")
_ACCURACY = "test accuracy (%)"


def percentiles(rows: DataFrame, selection: Selection) -> DataFrame:
    """Return the 15th, 50th and 85th percentiles of one unit of the last hidden layer.

    Args:
        rows: ``run``, ``variant``, ``lr``, ``step``, ``layer``, ``unit`` and the percentiles; the
            unit of the lowest number is taken.
        selection: The runs they are of, all of one seed.
    """
    steps = probed(rows["step"].to_list())
    last = rows.filter(col("layer") == col("layer").max(), col("step").is_in(steps))
    one = last.filter(col("unit") == col("unit").min())
    tall = one.unpivot(
        list(_QUANTILES), index=["run", "variant", "lr", "step"], variable_name="quantity"
    )
    names = {model: style.look(model).name for model in _MODELS}
    which = f"input of unit {one['unit'][0]} (seed {selection.runs['seed'][0]}), "
    title = which + col("variant").replace_strict(names) + ", " + col("quantity")
    return points(tall.with_columns(panel=title), selection)


def _gather(source: Source) -> Gathered | None:
    table = source.runs.table
    rates: Sequence[float] = sorted(
        table.filter(col("model.name").is_in(list(_MODELS)))["optim.lr"].unique(), reverse=True
    )
    found = [chosen(source, cells(list(_MODELS), [lr])) for lr in rates]
    kept = [selection for selection in found if selection]
    if not kept:
        return None
    # The paper states no rate: of several one with both networks, the claim's if it is one.
    usual = rules().claims["mlp_faster"].defaults["optim.lr"]
    selection = max(
        kept, key=lambda s: (s.runs["model.name"].n_unique(), s.runs["optim.lr"][0] == usual)
    )
    lr = selection.runs["optim.lr"][0]
    papers = {(model, lr): f"ioffe_fig1a_testacc_{short}" for model, short in _MODELS.items()}
    accuracy = metrics(source, selection, [Panel(_ACCURACY, "val/accuracy", papers)])
    entering = (col("site") == "after_noise") & col("unit").is_not_null()
    columns = ["step", "layer", "unit", *_QUANTILES]
    # One training, as in the paper: each seed records other units, and a median over units would
    # be the percentile of no distribution.
    one = selection.where(col("seed") == selection.runs["seed"].min())
    rows = source.rows(one, "activations", columns, entering)
    parts = [accuracy] if rows.is_empty() else [accuracy, percentiles(rows, one)]
    return Gathered(selection, curves.together(parts))


def draw(data: DataFrame) -> matplotlib.figure.Figure:
    """Draw accuracy, then for each network the three percentiles of a sigmoid's input."""
    inputs = data.filter(col("panel") != _ACCURACY)
    variants = sorted(inputs["variant"].unique(), key=style.rank)
    figure = style.panels(1, 1 + len(variants), width=9.5, height=2.9)
    curves.draw(figure.axes[0], data.filter(col("panel") == _ACCURACY))
    figure.axes[0].set(title=_ACCURACY, xlabel="step")
    for ax, variant in zip(figure.axes[1:], variants, strict=True):
        mine = inputs.filter(col("variant") == variant)
        for part in mine.partition_by("panel", maintain_order=True):
            curves.draw(ax, part)
            end = part.filter(col("whose") == style.OURS).tail(1)
            for step, value in end.select("step", "value").iter_rows():
                share = part["panel"][0].rpartition("q")[2]
                ax.annotate(
                    f"{share} %", (step, value), (3, 0), textcoords="offset points", va="center"
                )
        ax.set(title=mine["panel"][0].rpartition(", ")[0], xlabel="step")
        ax.sharey(figure.axes[1])
    legend(figure, data)
    style.span(figure.axes[:1], data)
    return figure


FIGURES = (
    Figure(
        "ioffe_fig1",
        "A sigmoid network with and without BatchNorm",
        "Ioffe & Szegedy 2015, Fig. 1",
        "ioffe_mlp",
        "Three hidden layers of 100 sigmoid units. Left: test accuracy, median and range "
        "over seeds; the paper's few readable points dashed where the data are its own, cut where "
        "our runs end. Then, of one seed, the 15th, 50th and 85th percentiles of the input of one "
        "sigmoid of the last hidden layer, drawn at random and the same in both networks; the "
        "paper too shows one typical sigmoid of one training. To see: how "
        "much sooner BatchNorm learns, and whether its input is the steadier. The paper "
        "trains 50,000 steps on binary MNIST and states neither learning rate nor the spread of "
        "its initial weights.",
        _gather,
        draw,
        lambda data: told(data, [_ACCURACY]),
    ),
)
