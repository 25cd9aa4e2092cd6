"""Sensitivity maps: the accuracy reached over learning rate and something else."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import matplotlib.figure
import polars
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from polars import DataFrame, col

from src.analysis.claims.accuracies import LATE
from src.analysis.figures import style
from src.analysis.figures.figure import Figure, Gathered, Source
from src.analysis.figures.select import Selection, select, usually
from src.runs.folder import ENDED

COLUMNS = (
    *("variant", "lr", "level", "accuracy", "low", "high"),
    *("test_accuracy", "test_low", "test_high", "minibatch", "seeds", "diverged"),
)
DEFAULT = "the default"
_NAMED = (".name", ".activation")  # settings whose values are told by themselves
_OF = {"init.std": "gaussian"}  # one that is of a single other, and told with it
Compared = Callable[[DataFrame], tuple[list[str], polars.Expr]]
# Percentage points beyond which a cell gives its minibatches' accuracy, and its seeds' range, too.
_APART, _SCATTERED = 5, 10
_VGG = [f"vgg{v}" for v in ("", "_bn", "_noisy", "_plain_noisy", "_l1", "_l2", "_linf")]


def cells(finals: DataFrame) -> DataFrame:
    """Return a row a cell of the maps: the median, least and greatest final accuracy over seeds.

    A diverged run has no accuracy; it is counted. A cell of nothing else has none either.

    Args:
        finals: A row a run: ``variant``, ``lr``, ``level``, ``state``, and ``accuracy``,
            ``test_accuracy`` and ``minibatch``, per cent, null where it diverged.
    """
    accuracy = col("accuracy")
    return (
        finals.group_by("variant", "lr", "level")
        .agg(
            accuracy.median(),
            low=accuracy.min(),
            high=accuracy.max(),
            test_accuracy=col("test_accuracy").median(),
            test_low=col("test_accuracy").min(),
            test_high=col("test_accuracy").max(),
            minibatch=col("minibatch").median(),
            seeds=polars.len().cast(polars.Int64),
            diverged=(col("state") == "diverged").sum().cast(polars.Int64),
        )
        .sort("variant", "lr", "level")
        .select(COLUMNS)
    )


def finals(source: Source, selection: Selection, level: polars.Expr) -> DataFrame:
    """Return a row a run with its last accuracies, per cent, and its ``level``.

    ``minibatch`` is the mean over the last tenth of training.
    """
    names = {"train_eval/accuracy": "accuracy", "val/accuracy": "test_accuracy"}
    names["train/accuracy"] = "minibatch"
    rows = source.rows(
        selection, "metrics", ["step", "name", "value"], col("name").is_in(list(names))
    ).join(selection.runs.select("run", "max_steps"), on="run", maintain_order="left")
    late = col("step") >= LATE * col("max_steps")
    wide = selection.runs.select(
        "run", "state", level.alias("level"), variant=col("model.name"), lr=col("optim.lr")
    )
    for metric, name in names.items():
        here = rows.filter(col("name") == metric, late).sort("step").group_by("run")
        last = here.agg(col("value").mean() if name == "minibatch" else col("value").last())
        last = last.select("run", (100 * col("value")).alias(name))
        wide = wide.join(last, on="run", how="left", maintain_order="left")
    ended = polars.when(col("state") != "diverged")
    return wide.with_columns(ended.then(col(name)).alias(name) for name in names.values())


def compared_runs(
    source: Source, models: Sequence[str], compared: Compared, lrs: Sequence[float] = ()
) -> Gathered | None:
    """Return the cells of every level and rate of some models; None where there is no run.

    Args:
        source: The runs.
        models: The variants.
        compared: What the levels are.
        lrs: Only these rates; default: all.
    """
    table = source.runs.table
    here = table.filter(col("model.name").is_in(list(models)), col("state").is_in(ENDED))
    here = here.filter(col("optim.lr").is_in(list(lrs))) if lrs else here
    if here.is_empty():
        return None
    keys, level = compared(here)
    levels = here.select("model.name", "optim.lr", *keys).unique(maintain_order=True)
    selection = select(table, levels.to_dicts())
    if selection is None:
        return None
    return Gathered(selection, cells(finals(source, selection, level)))


def _gather(
    source: Source, models: Sequence[str], compared: Compared, several: Sequence[str]
) -> Gathered | None:
    found = compared_runs(source, models, compared)
    wide = found and all(found.data[name].n_unique() > 1 for name in several)
    return found if wide else None


def _variants(table: DataFrame) -> tuple[list[str], polars.Expr]:
    return [], col("model.name")


def _in_words(key: str, value: object) -> str:
    name = key.rpartition(".")[2].replace("_", " ")
    if isinstance(value, bool):
        return name if value else f"not {name}"
    return f"{name} {value:g}" if isinstance(value, float) else str(value)


def varying(*groups: str) -> Compared:
    """Return what compares the levels of some settings: how each differs from the main reading."""

    def compared(table: DataFrame) -> tuple[list[str], polars.Expr]:
        usual = usually(table, [key for key in table.columns if key.startswith(groups)])

        def told(level: dict[str, Any]) -> str:
            names = [str(v) for k, v in level.items() if k.endswith(_NAMED)]
            words = [
                _in_words(key, value)
                for key, value in level.items()
                if not key.endswith(_NAMED)
                and value is not None
                and (_OF[key] in names if key in _OF else value != usual[key])
            ]
            return ", ".join(names + words) or DEFAULT

        if not usual:
            return [], polars.lit("")
        return [*usual], polars.struct([*usual]).map_elements(told, polars.String)

    return compared


def draw(data: DataFrame) -> matplotlib.figure.Figure:
    """Draw a map a variant, or one map whose rows are the variants."""
    by_variant = (data["level"] == data["variant"]).all()
    variants = [""] if by_variant else sorted(data["variant"].unique(), key=style.rank)
    levels = sorted(data["level"].unique(), key=style.rank if by_variant else _place)
    rates = sorted(data["lr"].unique())
    width = 1.9 + len(variants) * max(2.2, 0.52 * len(rates))
    figure = style.panels(1, len(variants), width, max(1.9, 1.0 + 0.4 * len(levels)))
    for ax, variant in zip(figure.axes, variants, strict=True):
        part = data if by_variant else data.filter(col("variant") == variant)
        _map(ax, part, rates, levels)
        ax.set_title("" if by_variant else style.look(variant).name)
        names = [style.look(level).name if by_variant else level for level in levels]
        ax.set_yticks(range(len(levels)), names if ax is figure.axes[0] else [""] * len(levels))
    shades = ScalarMappable(Normalize(0, 100), "cividis")
    figure.colorbar(shades, ax=figure.axes, label="training accuracy (%)", aspect=25)
    return figure


def _map(ax: Axes, data: DataFrame, rates: Sequence[float], levels: Sequence[str]) -> None:
    colours = matplotlib.colormaps["cividis"]
    for row in data.iter_rows(named=True):
        x, y, accuracy = rates.index(row["lr"]), levels.index(row["level"]), row["accuracy"]
        face = "white" if accuracy is None else colours(accuracy / 100)
        hatch = "///" if accuracy is None else None
        ax.add_patch(
            Rectangle((x - 0.5, y - 0.5), 1, 1, fc=face, ec="#999999", lw=0.4, hatch=hatch)
        )
        text = "div." if accuracy is None else f"{accuracy:.0f}"
        late = row["minibatch"]
        if None not in (accuracy, late) and abs(late - accuracy) > _APART:
            text += f"\n({late:.0f})"
        if accuracy is not None and max(row["high"] - accuracy, accuracy - row["low"]) > _SCATTERED:
            text += f"\n{row['low']:.0f}-{row['high']:.0f}"
        if accuracy is not None and row["diverged"]:
            text += f"\n{row['diverged']}/{row['seeds']} div."
        ink = "white" if accuracy is not None and accuracy < 55 else "black"
        ax.text(x, y, text, ha="center", va="center", color=ink, fontsize=7)
    ax.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    ax.set(xlim=(-0.5, len(rates) - 0.5), ylim=(len(levels) - 0.5, -0.5), xlabel="learning rate")
    ax.grid(False)
    ax.tick_params(length=0)


def _place(level: str) -> list[tuple[float, str]]:
    # Where the noise's strengths are compared, the default is one of them.
    return natural("strength 1" if level == DEFAULT else level)


def natural(level: str) -> list[tuple[float, str]]:
    """Return a key that sorts the numbers in a level's text as numbers."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e-?\d+)?)", level)
    return [(float(p), "") if n % 2 else (math.inf, p) for n, p in enumerate(parts)]


def told(data: DataFrame) -> str:
    """Say for each variant how many cells train, and which is the best."""
    sentences = []
    for (variant,), part in data.group_by("variant", maintain_order=True):
        name = style.look(str(variant)).name
        best = part.sort("accuracy", nulls_last=False).tail(1).row(0, named=True)
        half = part.filter(col("accuracy") >= 50).height
        sentence = f"{name}: {half} of {part.height} cells reach 50 % training accuracy"
        if best["accuracy"] is not None:
            sentence += f", the best {best['accuracy']:.0f} % at LR {best['lr']:g}"
        sentences.append(sentence)
    return (
        "; ".join(sentences) + f"; {data['diverged'].sum()} of {data['seeds'].sum()} runs diverged."
    )


_TEXT = (
    "The median over seeds of the final accuracy on a fixed part of the training images in "
    "evaluation mode, in per cent; in brackets that of the minibatches over the last tenth of "
    f"training, where it is more than {_APART} points away; below, the range over seeds where one "
    f"is more than {_SCATTERED} points from the median. Hatched: every run diverged; where "
    "some did, their number is given and the median is of the others. An empty cell was not run. "
    "The papers have no such figure. To see: how wide the region is in which a network trains. "
)


def _figure(
    name: str,
    title: str,
    sweep: str,
    models: Sequence[str],
    compared: Compared,
    several: Sequence[str] = ("level",),
) -> Figure:
    """Return a map that is drawn where there are several of some of its axes."""

    def gather(source: Source) -> Gathered | None:
        return _gather(source, models, compared, several)

    return Figure(name, title, "ours", sweep, _TEXT, gather, draw, told)


FIGURES = (
    _figure(
        "lr_sensitivity",
        "Accuracy over learning rate and variant",
        "lr_sensitivity",
        _VGG,
        _variants,
        ("lr", "level"),
    ),
    _figure(
        "init_sensitivity",
        "Accuracy over learning rate and initialisation",
        "init_sensitivity",
        ["vgg", "vgg_bn"],
        varying("init."),
    ),
    _figure(
        "noise_sensitivity",
        "Accuracy over learning rate and noise",
        "noise_sensitivity",
        ["vgg_noisy", "vgg_plain_noisy"],
        varying("noise."),
    ),
)
