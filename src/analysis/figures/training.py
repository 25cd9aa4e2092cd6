"""Accuracy and loss over training: Santurkar et al. Fig. 1a-b, 2 and 5."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.figure
import polars
from polars import DataFrame, col

from src.analysis.figures import curves, style
from src.analysis.figures.figure import Figure, Gathered, Source
from src.analysis.figures.select import Selection, select

Cells = Sequence[tuple[str, float]]
Also = Mapping[str, str | Mapping[str, str]]  # settings, of all or by variant
FROM_HE = {"init.name": "he_normal"}
OWN = {"init.name": {"vgg": "he_normal", "vgg_bn": "glorot_normal"}}


class Panel(NamedTuple):
    """One panel: a metric, and the paper's curves by variant and learning rate."""

    title: str
    metric: str
    papers: Mapping[tuple[str, float], str]

    @property
    def unit(self) -> float:
        """What a value is multiplied with: accuracies are drawn in per cent."""
        return 100.0 if self.metric.endswith("accuracy") else 1.0


def cells(models: Sequence[str], lrs: Sequence[float]) -> Cells:
    """Return every model at every learning rate."""
    return [(model, lr) for model in models for lr in lrs]


def chosen(
    source: Source,
    wanted: Cells,
    own: Sequence[str] = (),
    also: Also | None = None,
) -> Selection | None:
    """Return the runs of some variants and learning rates that share one setting.

    Args:
        source: The runs.
        wanted: The variants and rates.
        own: The variants without any of which there is nothing to show.
        also: What else they have, all of them or by variant.
    """
    cells = []
    for model, lr in wanted:
        others = {k: v if isinstance(v, str) else v[model] for k, v in (also or {}).items()}
        cells.append({"model.name": model, "optim.lr": lr, **others})
    selection = select(source.runs.table, cells)
    if selection and own and not selection.runs["model.name"].is_in(list(own)).any():
        return None
    return selection


def window(last: int) -> int:
    """Return over how many steps training curves are averaged, as the figures' texts say."""
    return min(100, max(1, last // 30))


def metrics(source: Source, selection: Selection, panels: Sequence[Panel]) -> DataFrame:
    """Return the panels' curves: ours, the paper's up to our last step, and where runs diverged."""
    parts, theirs = [], []
    for panel in panels:
        rows = source.rows(selection, "metrics", ["step", "value"], col("name") == panel.metric)
        rows = rows.with_columns(panel=polars.lit(panel.title), value=panel.unit * col("value"))
        minibatch = panel.metric.startswith("train/")
        parts.append(points(rows, selection, window(selection.last) if minibatch else 1))
        theirs += [curves.Theirs(name, panel.title, *cell) for cell, name in panel.papers.items()]
    return curves.with_papers(curves.together(parts), theirs, selection)


def points(rows: DataFrame, selection: Selection, width: int = 1) -> DataFrame:
    """Return the curves of ``panel``, ``variant``, ``lr``, ``run``, ``step``, ``value`` rows."""
    rows = curves.windowed(rows.drop_nulls("value").drop_nans("value"), width)
    median = curves.over_seeds(rows, ["panel", "variant", "lr", "step"])
    return curves.together([curves.ours(median), curves.ends(rows, selection.runs)])


def legend(figure: matplotlib.figure.Figure, data: DataFrame, columns: int = 4) -> Sequence[float]:
    """Put the legend of all curves above a figure; return the rates whose markers are hollow."""
    mine = data.filter(col("whose") == style.OURS).unique(["variant", "lr"], maintain_order=True)
    rates = sorted(mine["lr"].unique().to_list())
    several = mine.group_by("variant").len()["len"].max() != 1
    handles = [
        style.handle(
            variant,
            f"{style.look(variant).name}, LR {lr:g}" if several else None,
            hollow=several and lr != rates[0],
        )
        for variant, lr in sorted(mine.select("variant", "lr").rows(), key=_order)
    ]
    whose = set(data["whose"])
    handles += style.notes(style.PAPERS in whose, curves.ENDED in whose, rates if several else [])
    style.legend(figure, handles, columns)
    return rates[1:] if several else []


def _order(series: tuple[str, float]) -> tuple[int, str, float]:
    model, lr = series
    return style.rank(model), model, lr


def draw(data: DataFrame) -> matplotlib.figure.Figure:
    """Draw the panels side by side."""
    titles = data["panel"].unique(maintain_order=True).to_list()
    figure = style.panels(1, len(titles), width=7.4 if len(titles) > 1 else 5.2, height=3.0)
    hollow = legend(figure, data, columns=3)
    for ax, title in zip(figure.axes, titles, strict=True):
        part = data.filter(col("panel") == title)
        curves.draw(ax, part, hollow)
        ax.set(title=title, xlabel="step")
        if "loss" in title:
            style.logarithmic(ax.yaxis)
        else:
            ax.set_ylim(0, 101)
    style.span(figure.axes, data)
    return figure


def told(data: DataFrame, panels: Sequence[str] = ()) -> str:
    """Say in a sentence where our curves end, and in another where runs diverged first.

    Args:
        data: The figure's.
        panels: Of which the ends are told; default: of all.
    """
    mine = data.filter(col("whose") == style.OURS)
    mine = mine.filter(col("panel").is_in(panels)) if panels else mine
    last = []
    for (panel,), part in mine.sort("step").group_by("panel", maintain_order=True):
        several = part["lr"].n_unique() > 1
        ends = part.group_by("variant", "lr").last().sort("variant", "lr")
        values = [
            f"{_value(row)} for {_name(row['variant'], row['lr'] if several else None)}"
            for row in ends.iter_rows(named=True)
        ]
        last.append(f"{panel} {', '.join(values)}")
    ended = data.filter(col("whose") == curves.ENDED).group_by("variant", "lr")
    first = ended.agg(col("step").min()).sort("step", "variant", "lr")
    diverged = [f"{_name(variant, lr)} at step {step}" for variant, lr, step in first.iter_rows()]
    sentences = {"At the last step: ": "; ".join(last), "Diverged: ": ", ".join(diverged)}
    return " ".join(f"{start}{what}." for start, what in sentences.items() if what)


def _name(variant: str, lr: float | None) -> str:
    return style.look(variant).name + ("" if lr is None else f" at LR {lr:g}")


def _value(row: Mapping[str, float | None]) -> str:
    if row["value"] is None:
        return f"{row['low']:.3g} to {row['high']:.3g}"
    return f"{row['value']:.3g}"


def _figure(
    name: str,
    title: str,
    source: str,
    sweep: str,
    wanted: Cells,
    panels: Sequence[Panel],
    text: str,
    also: Also | None = None,
) -> Figure:
    def gather(runs: Source) -> Gathered | None:
        own = [model for model, _ in wanted if style.rank(model) > 1]
        selection = chosen(runs, wanted, own, also)
        if selection is None:
            return None
        return Gathered(selection, metrics(runs, selection, panels))

    return Figure(name, title, source, sweep, text, gather, draw, told)


WINDOWS = (
    "Training accuracy and loss are averaged over windows of a thirtieth of the run, at most 100 "
    "steps; the paper's are of single steps, about every 100. "
)
_AXIS = (
    "Line and band: median and range over seeds. The paper's curves (dashed, one run) stand at the "
    "paper's own steps and are cut where our runs end. "
)


def _accuracy(figure: str, series: Mapping[tuple[str, float], str]) -> Panel:
    papers = {cell: f"{figure}_{name}" for cell, name in series.items()}
    return Panel("training accuracy (%)", "train/accuracy", papers)


_RATES = {
    ("vgg", 0.1): "std_lr0.1",
    ("vgg", 0.5): "std_lr0.5",
    ("vgg_bn", 0.1): "bn_lr0.1",
    ("vgg_bn", 0.5): "bn_lr0.5",
}
_LP = {"": "std", "_bn": "bn", "_l1": "l1", "_l2": "l2", "_linf": "linf"}
VGG_LP = _accuracy("fig5a_vgg_trainacc", {(f"vgg{v}", 0.1): name for v, name in _LP.items()})
_DLN_LOSSES = {(f"dln{v}", 1e-6): f"fig5b_dln_loss_{name}" for v, name in _LP.items()}
DLN_LP = Panel("training loss", "train/loss", _DLN_LOSSES)

FIGURES = (
    _figure(
        "fig1_training",
        "Training and test accuracy with and without BatchNorm",
        "Santurkar et al. 2018, Fig. 1a-b",
        "fig1_training",
        cells(["vgg", "vgg_bn"], [0.1, 0.5]),
        [
            _accuracy("fig1a_trainacc", _RATES),
            Panel(
                "test accuracy (%)",
                "val/accuracy",
                {cell: f"fig1b_testacc_{name}" for cell, name in _RATES.items()},
            ),
        ],
        "VGG trained by plain SGD at two learning rates. To see: how much sooner BatchNorm rises, "
        "and that only with it the higher rate trains. " + _AXIS + WINDOWS,
    ),
    _figure(
        "fig1_he",
        "Training and test accuracy from He's initialisation",
        "ours, after Santurkar et al. 2018, Fig. 1a-b",
        "fig1_training",
        cells(["vgg", "vgg_bn"], [0.1, 0.5]),
        [
            Panel("training accuracy (%)", "train/accuracy", {}),
            Panel("test accuracy (%)", "val/accuracy", {}),
        ],
        "As Fig. 1, from He's initialisation, from which the standard network is sooner off its "
        "plateau at chance. To see: how much of BatchNorm's lead is left. No paper has this "
        "figure. Line and band: median and range over seeds. " + WINDOWS,
        FROM_HE,
    ),
    _figure(
        "fig2_noise",
        "Training accuracy with noise after BatchNorm, and with the same noise alone",
        "Santurkar et al. 2018, Fig. 2 (left) and Sec. 2.2",
        "fig2_noise",
        cells(["vgg", "vgg_bn", "vgg_noisy", "vgg_plain_noisy"], [0.1]),
        [
            _accuracy(
                "fig2_trainacc",
                {("vgg", 0.1): "std", ("vgg_bn", 0.1): "bn", ("vgg_noisy", 0.1): "noisybn"},
            )
        ],
        "Noisy BatchNorm injects shift anew at every step. To see: whether it still trains like "
        "BatchNorm rather than like the standard network, and whether the same noise alone stops "
        "the standard network, which the paper says in a sentence and does not draw. "
        + _AXIS
        + WINDOWS,
    ),
    _figure(
        "fig5_lp_vgg",
        "Training accuracy under other norms",
        "Santurkar et al. 2018, Fig. 5a",
        "fig5_lp_vgg",
        list(VGG_LP.papers),
        [VGG_LP],
        "Division by the average l1, l2 or l-infinity norm in place of the standard deviation. To "
        "see: whether these train as fast as BatchNorm does. " + _AXIS + WINDOWS,
    ),
    _figure(
        "fig5_lp_dln",
        "Loss of the deep linear network under other norms",
        "Santurkar et al. 2018, Fig. 5b",
        "fig5_lp_dln",
        list(DLN_LP.papers),
        [DLN_LP],
        "25 linear layers of 10 x 10, full batch. To see: which norm reaches the lowest loss. "
        "The paper states neither the spread of its data nor whether its loss is halved, so "
        "compare shapes and order, not levels. " + _AXIS + WINDOWS,
    ),
)
