"""Final accuracies side by side: regularisers and saturating non-linearities."""

import matplotlib.figure
from matplotlib.lines import Line2D
from polars import DataFrame, col

from src.analysis.figures import style
from src.analysis.figures.figure import Figure, Gathered, Source
from src.analysis.figures.maps import DEFAULT, compared_runs, varying

_PANELS = {
    "training accuracy (%)": ("accuracy", "low", "high"),
    "test accuracy (%)": ("test_accuracy", "test_low", "test_high"),
}


def _gather(source: Source, keys: tuple[str, ...], lrs: tuple[float, ...]) -> Gathered | None:
    found = compared_runs(source, ["vgg", "vgg_bn"], varying(*keys), lrs)
    return found if found and found.data["level"].n_unique() > 1 else None


def draw(data: DataFrame) -> matplotlib.figure.Figure:
    """Draw a row a level, a dot a variant with its range over seeds; a cross where all diverged."""
    several = data["lr"].n_unique() > 1
    rows = [f"{level}, LR {lr:g}" if several else level for level, lr in _levels(data)]
    figure = style.panels(1, 2, width=7.4, height=1.1 + 0.36 * len(rows))
    variants = sorted(data["variant"].unique(), key=style.rank)
    for ax, (title, (value, low, high)) in zip(figure.axes, _PANELS.items(), strict=True):
        for place, (level, lr) in enumerate(_levels(data)):
            here = data.filter(col("level") == level, col("lr") == lr)
            for offset, variant in enumerate(variants):
                _, colour, marker = style.look(variant)
                y = place + 0.24 * (offset - (len(variants) - 1) / 2)
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
    cells = data.select("level", "lr").unique().rows()
    return sorted(cells, key=lambda cell: (cell[0] != DEFAULT, cell))


def told(data: DataFrame) -> str:
    """Say each cell's accuracies."""
    each = []
    for row in data.iter_rows(named=True):
        kinds = [row[kind] for kind in ("accuracy", "test_accuracy", "minibatch")]
        values = [f"{value:.0f}" for value in kinds if value is not None]
        values += [f"{row['diverged']} of {row['seeds']} diverged"] if row["diverged"] else []
        each.append(f"{style.look(row['variant']).name}, {row['level']}: {', '.join(values)}")
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
        lambda source: _gather(source, ("model.dropout", "optim.weight_decay"), (0.1,)),
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
        lambda source: _gather(source, ("model.activation",), (0.1,)),
        draw,
        told,
    ),
)
