"""Final accuracies side by side: regularisers, non-linearities, batch sizes, controls."""

from typing import Any

import matplotlib.figure
import polars
from matplotlib.lines import Line2D
from polars import DataFrame, col

from src.analysis.figures import style
from src.analysis.figures.figure import Figure, Gathered, Source
from src.analysis.figures.maps import DEFAULT, Compared, compared_runs, natural, varying
from src.analysis.figures.moments import BATCH_INDEPENDENT

_PANELS = {
    "training accuracy (%)": ("accuracy", "low", "high"),
    "test accuracy (%)": ("test_accuracy", "test_low", "test_high"),
}


def _gather(source: Source, compared: Compared) -> Gathered | None:
    found = compared_runs(source, ["vgg", "vgg_bn"], compared, [0.1])
    return found if found and found.data["level"].n_unique() > 1 else None


def _gather_controls(source: Source) -> Gathered | None:
    models = ["vgg", "vgg_bn", "vgg_plain_noisy", *BATCH_INDEPENDENT]
    found = compared_runs(source, models, _controls, [0.1, 0.01])
    return found if found and found.data["variant"].is_in(BATCH_INDEPENDENT).any() else None


def _batch_sizes(table: DataFrame) -> tuple[list[str], polars.Expr]:
    return ["data.batch_size"], polars.format("batches of {}", col("data.batch_size"))


def _controls(table: DataFrame) -> tuple[list[str], polars.Expr]:
    """Return what compares the controls: a level is a variant, and how it differs from its own."""
    start = col("init.name").str.replace_all("_", " ")
    name = polars.concat_str(
        col("model.name").replace_strict({m: style.look(m).name for m in table["model.name"]}),
        polars.when(col("model.statistics") != "batch").then(
            polars.lit(", ") + col("model.statistics")
        ),
        polars.when(start != "glorot normal").then(polars.lit(" from ") + start),
        polars.when(col("noise.relative")).then(polars.lit(", relative")),
        ignore_nulls=True,
    )
    return ["model.statistics", "init.name", "noise.relative"], name


def draw(data: DataFrame) -> matplotlib.figure.Figure:
    """Draw a row a level, a dot a variant with its range over seeds; a cross where all diverged."""
    several = data["lr"].n_unique() > 1
    rows = [f"{level}, LR {lr:g}" if several else level for level, lr in _levels(data)]
    figure = style.panels(1, 2, width=7.4, height=1.1 + 0.36 * len(rows))
    variants = sorted(data["variant"].unique(), key=style.rank)
    for ax, (title, (value, low, high)) in zip(figure.axes, _PANELS.items(), strict=True):
        for place, (level, lr) in enumerate(_levels(data)):
            here = data.filter(col("level") == level, col("lr") == lr)
            beside = [variant for variant in variants if variant in here["variant"]]
            for offset, variant in enumerate(beside):
                _, colour, marker = style.look(variant)
                y = place + 0.24 * (offset - (len(beside) - 1) / 2)
                for row in here.filter(col("variant") == variant).iter_rows(named=True):
                    if row[value] is None:
                        ax.plot(10, y, "x", color=colour, markersize=6)
                    else:
                        ax.plot([row[low], row[high]], [y, y], color=colour, lw=1.2)
                        ax.plot(row[value], y, marker, color=colour)
                        if row["diverged"]:
                            note = f"  {row['diverged']}/{row['seeds']} div."
                            ax.text(row[high], y, note, color=colour, va="center", fontsize=7)
                    if value == "accuracy":
                        ax.plot([row["minibatch"]], [y], marker, color=colour, mfc="none")
        ax.set(title=title, xlim=(0, 101), ylim=(len(rows) - 0.5, -0.5))
        ax.set_yticks(range(len(rows)), rows if ax is figure.axes[0] else [""] * len(rows))
        ax.axvline(10, color="#777777", lw=0.8, ls=":")
    handles = [style.handle(variant) for variant in variants]
    late = Line2D([], [], color="#333333", marker="o", ls="none", mfc="none", label="minibatches")
    style.legend(figure, [*handles, late, *style.notes(False, data["accuracy"].null_count() > 0)])
    return figure


def _levels(data: DataFrame) -> list[tuple[str, float]]:
    def place(cell: tuple[str, float, list[str]]) -> tuple[Any, ...]:
        level, lr, variants = cell
        return level != DEFAULT, min(map(style.rank, variants)), natural(level), lr

    cells = data.group_by("level", "lr").agg("variant").rows()
    return [(level, lr) for level, lr, _ in sorted(cells, key=place)]


def told(data: DataFrame) -> str:
    """Say each cell's accuracies."""
    each, several = [], data["lr"].n_unique() > 1
    for row in data.iter_rows(named=True):
        kinds = [row[kind] for kind in ("accuracy", "test_accuracy", "minibatch")]
        values = [f"{value:.0f}" for value in kinds if value is not None]
        values += [f"{row['diverged']} of {row['seeds']} diverged"] if row["diverged"] else []
        name, level = style.look(row["variant"]).name, row["level"]
        cell = level if level.startswith(name) else f"{name}, {level}"
        cell += f", LR {row['lr']:g}" if several else ""
        each.append(f"{cell}: {', '.join(values)}")
    return f"Training, test and minibatch accuracy in per cent: {'; '.join(each)}."


_TEXT = (
    "Final accuracy in evaluation mode on the training images and on the test images; dot and "
    "bar: median and range over seeds. Hollow: minibatches over the last tenth of training. A "
    "cross: every run diverged; where some did, their number is given and the dot is of the "
    "others. Dotted: chance. "
)
FIGURES = (
    Figure(
        "regularisation",
        "What dropout and weight decay add",
        "ours, on Ioffe & Szegedy 2015, Sec. 3.4",
        "regularisation",
        _TEXT + "To see: whether the regularisers add less to the test accuracy of BatchNorm. "
        "The paper removes dropout from its network and has no such figure.",
        lambda source: _gather(source, varying("model.dropout", "optim.weight_decay")),
        draw,
        told,
    ),
    Figure(
        "saturating",
        "Training with saturating non-linearities",
        "ours, on Ioffe & Szegedy 2015, Sec. 4.2.2",
        "saturating",
        _TEXT + "To see: whether sigmoid and tanh train with BatchNorm and not without. The paper "
        "gives 69.8 % for a sigmoid Inception on ImageNet, and chance without BatchNorm. Where "
        "BatchNorm's running averages lag behind, its minibatches fare better.",
        lambda source: _gather(source, varying("model.activation")),
        draw,
        told,
    ),
    Figure(
        "batch_size",
        "Training on batches of other sizes",
        "ours",
        "batch_size",
        _TEXT + "Each has as many steps, so the smaller its batches, the fewer images it has seen. "
        "To see: whether BatchNorm is ahead where its statistics are of few images, and whether "
        "its running averages, which evaluation takes, keep up.",
        lambda source: _gather(source, _batch_sizes),
        draw,
        told,
    ),
    Figure(
        "controls",
        "What of BatchNorm is needed",
        "ours, on Ioffe & Szegedy 2015, Sec. 2",
        "controls",
        _TEXT + "Detached: BatchNorm by its batch's statistics, through which no gradient passes; "
        "running: by running averages, constants of each step. Unit variance: the standard network "
        "whose activations have it before the first step, and nothing after. Layer, group and "
        "instance norm: statistics within one image. Relative noise: on activations as if "
        "standardised. To see: what of BatchNorm's gain is left in each.",
        _gather_controls,
        draw,
        told,
    ),
)
