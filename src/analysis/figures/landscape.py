"""The loss along the gradient, over training: Santurkar et al. Fig. 4, 10, 12 and 13."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.figure
import polars
from polars import DataFrame, col

from src.analysis.figures import curves, style
from src.analysis.figures.figure import Figure, Gathered, Source
from src.analysis.figures.select import Selection
from src.analysis.figures.training import (
    DLN_LP,
    VGG_LP,
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

FROM_HE = {"init.name": "he_normal"}
OWN = {"init.name": {"vgg": "he_normal", "vgg_bn": "glorot_normal"}}
LOSS, GRADIENT, BETA = "loss along the gradient", "gradient predictiveness", "effective beta"


class Design(NamedTuple):
    """What one such figure holds.

    Attributes:
        models: The variants, and what the paper's curves call them.
        lr: The learning rate.
        sizes: The least and the greatest step size, as multiples of it.
        papers: The names of the paper's curves, by panel.
        progress: A first panel of accuracy or loss, if any.
        metric: ``euclidean``, the papers', or ``relative``.
        nats: Whether the loss has a linear axis, on which a band is as high as it is wide in nats.
        also: What else the runs have, where it is not the paper's.
    """

    models: Mapping[str, str]
    lr: float
    sizes: tuple[float, float]
    papers: Mapping[str, str]
    progress: Panel | None
    metric: str = "euclidean"
    nats: bool = False
    also: Also | None = None


def extremes(rows: DataFrame) -> DataFrame:
    """Return of each run and step what the paper draws: the extremes over the step sizes.

    Loss and gradient difference have a least and a greatest value (``low``, ``high``), beta only a
    greatest. A point that overflowed is infinite: it lies beyond every finite one.

    Args:
        rows: ``run``, ``variant``, ``lr``, ``step``, and a step size each ``loss``, ``grad_diff``,
            ``beta``.
    """
    keys, value = ["run", "variant", "lr", "step"], col("value").fill_nan(math.inf)
    named = rows.rename({"loss": LOSS, "grad_diff": GRADIENT, "beta": BETA})
    tall = named.unpivot([LOSS, GRADIENT, BETA], index=keys, variable_name="panel")
    ends = tall.group_by("panel", *keys, maintain_order=True)
    return ends.agg(low=value.min(), high=value.max())


def walked(
    source: Source,
    selection: Selection,
    sizes: tuple[float, float] = (0, math.inf),
    metric: str = "euclidean",
) -> DataFrame:
    """Return what the runs met along the gradient, a row a step size of these multiples of LR."""
    along = (col("metric") == metric) & (col("direction") == "gradient")
    rows = source.rows(selection, "landscape", where=along)
    if metric == "euclidean":  # the probe matches the relative step sizes to these
        multiple, (least, greatest) = col("eta") / col("lr"), sizes
        rows = rows.filter(multiple.is_between(0.999 * least, 1.001 * greatest))
    return rows


def _bands(found: DataFrame, selection: Selection) -> DataFrame:
    """Return the bands of loss and gradient difference, and the curves of the greatest beta."""
    keys = ["panel", "variant", "lr", "step"]
    bands = curves.edges_over_seeds(found.filter(col("panel") != BETA), keys)
    beta = found.filter(col("panel") == BETA).with_columns(value=col("high"))
    return curves.together([curves.ours(bands), points(beta.drop("low", "high"), selection)])


def _gather(source: Source, design: Design) -> Gathered | None:
    own = list(design.models)[2:]  # with the first two alone it is another figure
    selection = chosen(source, cells(list(design.models), [design.lr]), own, design.also)
    if selection is None:
        return None
    rows = walked(source, selection, design.sizes, design.metric)
    measured = _bands(extremes(rows), selection)
    if measured.is_empty():
        return None
    theirs = [
        curves.Theirs(f"{curve}_{short}", panel, model, design.lr)
        for panel, curve in design.papers.items()
        for model, short in design.models.items()
    ]
    parts = [metrics(source, selection, [design.progress])] if design.progress else []
    data = curves.with_papers(measured, theirs, selection)
    return Gathered(selection, curves.together([*parts, data]))


def draw(data: DataFrame, design: Design) -> matplotlib.figure.Figure:
    """Draw a row a network, each beside BatchNorm, with 2/LR, the edge of stability, dotted."""
    titles = sorted(data["panel"].unique(), key=_place)
    norm = list(design.models)[1]
    others = sorted(set(data["variant"]) - {norm}, key=style.rank) or [norm]
    several = len(others) > 1
    figure = style.panels(len(others), len(titles), width=9.5, height=2.0 if several else 2.9)
    top = dict(zip(titles, figure.axes, strict=False))
    for ax, (other, title) in zip(figure.axes, itertools.product(others, titles), strict=True):
        part = data.filter(col("panel") == title, col("variant").is_in([other, norm]))
        if ax is not top[title]:
            ax.sharey(top[title])
        if title in (LOSS, GRADIENT):
            curves.draw_band(ax, part)
        else:
            curves.draw(ax, part)
        if several and title == titles[0]:
            ax.set_ylabel(style.look(other).name, fontweight="bold")
        if other == others[-1]:
            ax.set_xlabel("step")
        if title == BETA and design.metric == "euclidean":
            edge = 2 / data["lr"][0]
            ax.axhline(edge, color="#333333", lw=0.9, ls=":")
            at = ("axes fraction", "data")
            ax.annotate("2/LR", (1.01, edge), xycoords=at, va="center", fontsize="small")
    for title, ax in top.items():
        ax.set_title(title)
        if "accuracy" in title:
            ax.set_ylim(bottom=0)
            continue
        if title == LOSS and design.nats:
            ax.set_ylim(bottom=0)
        else:
            style.logarithmic(ax.yaxis)
        mine = data.filter(col("panel") == title, col("whose") == style.OURS)
        most = mine.select(polars.max_horizontal("value", "high").max()).item() or math.inf
        # Lest one spike of the paper's flatten all of ours.
        room = 1.05 if title == LOSS and design.nats else 10
        ax.set_ylim(top=min(ax.get_ylim()[1], room * most))
    legend(figure, data)
    style.span(figure.axes, data)
    return figure


def _place(title: str) -> int:
    own = (LOSS, GRADIENT, BETA)
    return own.index(title) if title in own else -1


def _figure(name: str, title: str, source: str, sweep: str, design: Design, text: str) -> Figure:
    return Figure(
        name,
        title,
        source,
        sweep,
        text,
        lambda runs: _gather(runs, design),
        lambda data: draw(data, design),
        lambda data: told(data, [LOSS, GRADIENT]),
    )


def _models(network: str, *variants: str) -> dict[str, str]:
    return {network: "std"} | {f"{network}_{variant}": variant for variant in variants}


_FIG4 = {LOSS: "fig4a_loss_minmax", GRADIENT: "fig4b_gradpred_minmax", BETA: "fig4c_beta"}
_FIG10 = {
    LOSS: "fig10a_dln_loss_minmax",
    GRADIENT: "fig10b_dln_gradpred_minmax",
    BETA: "fig10c_dln_beta",
}
_READ = (
    "At a step of training one walks along that step's own gradient and evaluates, on the same "
    "batch, the loss (left), the distance of the gradient there from the gradient here (middle), "
    "and the greatest ratio of that distance to the distance walked (right); training goes on as "
    "if nothing had been. This is not a band over separately trained runs with several learning "
    "rates, as which it is often reproduced. Bands: from the least to the greatest over the step "
    "sizes, each edge the median over seeds; beta: median and range over seeds. Dashed: the "
    "paper's edges, one run, at its own steps, cut where our runs end and where they would "
    "flatten ours. "
)
_NATS = (
    "The loss has a linear axis, where the paper's is logarithmic: the claim is of a band's width "
    "in nats. Gradient and beta have logarithmic ones, where the paper's are linear. "
)
_EDGE = (
    "Dotted: 2/LR, the edge of stability at which full-batch descent hovers, with BatchNorm or "
    "without. A plateau on that line says nothing of smoothness. "
)
_SMALLEST = (
    "With step sizes from LR/2 on it is also 1 over the smallest step, at which beta saturates "
    "when the gradient vanishes. "
)
_VGG_LP, _DLN_LP = (_models(n, "bn", "l1", "l2", "linf") for n in ("vgg", "dln"))
_ACCURACY = Panel("training accuracy (%)", "train/accuracy", {})
_VGG_WITHIN_IMAGES = _models("vgg", "bn", "layer", "group", "instance")
FIGURES: Sequence[Figure] = (
    _figure(
        "fig4_landscape",
        "The landscape of VGG along the gradient",
        "Santurkar et al. 2018, Fig. 4",
        "fig4_landscape",
        Design(_models("vgg", "bn"), 0.1, (0.5, 4), _FIG4, None, nats=True),
        _READ
        + _NATS
        + _EDGE
        + _SMALLEST
        + "To see: how far apart the two networks are in the middle of training, not "
        "at single spikes. Why the paper's loss starts two nats above ours is left open; with "
        "reading=fig4a it begins there.",
    ),
    _figure(
        "fig4_he",
        "The landscape of VGG along the gradient, from He's initialisation",
        "ours, after Santurkar et al. 2018, Fig. 4",
        "fig4_landscape",
        Design(_models("vgg", "bn"), 0.1, (0.5, 4), {}, None, nats=True, also=FROM_HE),
        "As Fig. 4, from He's initialisation, which is made for ReLU; Glorot's, the paper's, is "
        "smaller, and the standard network stays at chance for some hundred steps. To see: "
        "whether BatchNorm is the smoother here, too, and from when on. No paper has this figure. "
        "Bands: from the least to the greatest over the step sizes, each edge the median over "
        "seeds; beta: median and range over seeds. " + _NATS,
    ),
    _figure(
        "fig4_own",
        "The landscape of VGG along the gradient, the standard network from He's initialisation",
        "ours, after Santurkar et al. 2018, Fig. 4",
        "own_initialisation",
        Design(_models("vgg", "bn"), 0.1, (0.5, 4), {}, None, nats=True, also=OWN),
        "As Fig. 4, the standard network from He's initialisation, BatchNorm from Glorot's, the "
        "paper's. To see: whether BatchNorm is the smoother here, too. No paper has this figure. "
        "Bands: from the least to the greatest over the step sizes, each edge the median over "
        "seeds; beta: median and range over seeds. " + _NATS,
    ),
    _figure(
        "fig4_relative",
        "The landscape of VGG, each parameter measured by its length",
        "ours, after Santurkar et al. 2018, Fig. 4",
        "fig4_landscape",
        Design(_models("vgg", "bn"), 0.1, (0.5, 4), {}, None, "relative"),
        "As Fig. 4, but each layer's step and gradient are measured against the norm of its "
        "weights, so that a network cannot look smooth by having large weights, as BatchNorm lets "
        "it. The step sizes promise the decrease of the loss that those of Fig. 4 promise, so they "
        "go with the scale of the layers, as those do. To see: "
        "whether BatchNorm is still the smoother. No paper has this figure. Bands: from the least "
        "to the greatest over the step sizes, each edge the median over seeds; where an edge "
        "breaks off it has overflowed.",
    ),
    _figure(
        "fig10_landscape_dln",
        "The landscape of the deep linear network along the gradient",
        "Santurkar et al. 2018, Fig. 10",
        "fig10_landscape_dln",
        Design(_models("dln", "bn"), 1e-6, (0.01, 30), _FIG10, None),
        _READ + _EDGE,
    ),
    _figure(
        "fig12_landscape_lp",
        "The landscape of VGG under other norms",
        "Santurkar et al. 2018, Fig. 12",
        "fig5_lp_vgg",
        Design(_VGG_LP, 0.1, (0.5, 4), {}, VGG_LP, nats=True),
        "As Fig. 4, for norms that divide by an average l1, l2 or l-infinity norm; a row a "
        "network, each beside BatchNorm, a column of one scale. To see: whether each of them is as "
        "smooth as BatchNorm. Bands: each edge the median over seeds. The "
        "paper's bands of these networks could not be read off. " + _EDGE + _SMALLEST + WINDOWS,
    ),
    _figure(
        "batch_independent_landscape",
        "The landscape of VGG under batch-independent norms",
        "ours, after Santurkar et al. 2018, Fig. 12",
        "controls",
        Design(_VGG_WITHIN_IMAGES, 0.1, (0.5, 4), {}, _ACCURACY, nats=True),
        "As Fig. 12, for norms that take their statistics within one image: layer, group and "
        "instance norm; a row a network, each beside BatchNorm, a column of one scale. To see: "
        "whether those that train as fast are as smooth. Instance norm has statistics of four "
        "values in the last stage. Bands: each edge the median over seeds. No paper has this "
        "figure. " + _EDGE + _SMALLEST + WINDOWS,
    ),
    _figure(
        "fig13_landscape_lp_dln",
        "The landscape of the deep linear network under other norms",
        "Santurkar et al. 2018, Fig. 13",
        "fig5_lp_dln",
        Design(_DLN_LP, 1e-6, (0.01, 30), {}, DLN_LP),
        "As Fig. 10, for the other norms; a row a network, each beside BatchNorm, a column of one "
        "scale. Bands: each edge the median over seeds. The paper's "
        "bands of these networks could not be read off. " + _EDGE + WINDOWS,
    ),
)
