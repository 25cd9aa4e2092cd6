"""How a figure looks: one colour and one marker a variant, everywhere; and what a file of it is."""

import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator
from polars import DataFrame, col


class Look(NamedTuple):
    """How a variant is told apart: by name, by colour and, in grey, by marker."""

    name: str
    colour: str
    marker: str


# Colours of Okabe & Ito (2008), which differ for every common kind of colour vision, and for
# batch-independent norms of Tol (2021), which may need their markers; the network before the
# underscore (vgg, dln, mlp) changes none.
_LOOKS = {
    "": Look("standard", "#0072B2", "o"),
    "bn": Look("BatchNorm", "#D55E00", "s"),
    "noisy": Look("noisy BatchNorm", "#009E73", "^"),
    "plain_noisy": Look("noise alone", "#333333", "X"),
    "l1": Look("l1 norm", "#CC79A7", "v"),
    "l2": Look("l2 norm", "#56B4E9", "D"),
    "linf": Look("l-infinity norm", "#E69F00", "P"),
    "layer": Look("layer norm", "#882255", "<"),
    "group": Look("group norm", "#44AA99", ">"),
    "instance": Look("instance norm", "#999933", "p"),
}
_OTHER = Look("", "#7F7F7F", "h")
# A hundredth of a point is below what a screen or a printer shows.
_GEOMETRY = re.compile(r' (d|x|y|points|transform)="[^"]*"')
_LONG = re.compile(r"-?\d+\.\d{3,}")
OURS, PAPERS = "ours", "the paper's"
DASHED, DOTTED = (0, (4.0, 2.0)), (0, (1.0, 1.2))

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a $ in a setting's name is a $
    "svg.fonttype": "none",  # text that can be searched, read aloud and is small
}


def look(model: str) -> Look:
    """Return how a model of this name looks."""
    _, _, variant = model.partition("_")
    return _LOOKS.get(variant, _OTHER._replace(name=variant.replace("_", " ")))


def rank(model: str) -> int:
    """Return a variant's place in a legend: that of the papers."""
    _, _, variant = model.partition("_")
    return list(_LOOKS).index(variant) if variant in _LOOKS else len(_LOOKS)


@contextmanager
def styled(salt: str) -> Iterator[None]:
    """Draw in this project's style; the salt keeps the identifiers of one SVG from another's."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": salt}):
        yield


def panels(rows: int, columns: int, width: float = 7.4, height: float = 2.5) -> Figure:
    """Return an empty figure with a grid of panels, ``height`` inches a row.

    It belongs to no window and no state of pyplot's.
    """
    figure = Figure(figsize=(width, height * rows))
    figure.subplots(rows, columns, squeeze=False)
    return figure


def legend(figure: Figure, handles: Sequence[Line2D | Patch], columns: int = 4) -> None:
    """Put one legend for all panels above them."""
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, handlelength=2.6)


def handle(model: str, label: str | None = None, hollow: bool = False) -> Line2D:
    """Return a variant's entry in a legend."""
    name, colour, marker = look(model)
    face = "white" if hollow else colour
    return Line2D([], [], color=colour, marker=marker, markerfacecolor=face, label=label or name)


def notes(paper: bool, ended: bool, rates: Sequence[float] = ()) -> Iterator[Line2D]:
    """Yield the legend's entries for what is no variant of ours.

    Args:
        paper: Whether there are curves of the paper's.
        ended: Whether runs diverged.
        rates: The learning rates, where a variant has several; dotted are all but the first.
    """
    lines = [("dashed", DASHED, rates[:1])] if paper else []
    lines += [("dotted", DOTTED, rates[1:])] if paper and rates[1:] else []
    for line, dashes, at in lines:
        which = f", LR {', '.join(f'{rate:g}' for rate in at)}" if at else " curve"
        yield Line2D([], [], color="#555555", lw=1, ls=dashes, label=f"{line}: the paper's{which}")
    if ended:
        yield Line2D([], [], color="#333333", marker="x", ls="none", label="a run diverged here")


def span(axes: Iterable[Axes], data: DataFrame) -> None:
    """Let the step axis of some panels run from 0 to our last step, or our last window's end."""
    steps = data.filter(col("whose") == OURS)["step"].to_list()
    window, last = 2 * min(steps, default=0), max([1, *steps])  # a mean stands at its middle
    last = math.ceil(last / window) * window if window else last
    for ax in axes:
        ax.set_xlim(-0.01 * last, last * 1.01)


def logarithmic(*axes: Axis) -> None:
    """Make axes logarithmic, their ticks powers of ten, where they have anything to show so."""
    for axis in axes:
        if not math.isfinite(axis.get_minpos()):
            continue
        chosen = axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale
        chosen("log")
        axis.set_major_locator(LogLocator(numticks=7))
        axis.set_major_formatter(lambda value, _: _power(value))
        axis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
        axis.set_minor_formatter(partial(_between_powers, axis))


def _between_powers(axis: Axis, value: float, place: int | None) -> str:
    """Return the label of a tick between two powers, where there are few powers."""
    low, high = axis.get_view_interval()
    powers = math.floor(math.log10(high)) - math.ceil(math.log10(low)) + 1
    few = powers < 2 or high < 30 * low
    crowded = high > 10 * low and f"{value:e}".startswith("3")
    return _power(value) if few and not crowded else ""


def _power(value: float) -> str:
    exponent = math.floor(math.log10(value) + 1e-9)
    if -2 <= exponent <= 1:
        return f"{value:.3g}"
    times = f"{value / 10**exponent:.3g}"
    power = "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if times == "1" else f"{times}·{power}"


def svg(figure: Figure) -> str:
    """Return a figure as SVG that can stand inside HTML: the same bytes for the same data."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    # Only what is referred to keeps its identifier, made from the salt: several figures in one
    # page have none in common.
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda i: i.group() if i.group(1) in used else "", text)
    return _GEOMETRY.sub(lambda found: _LONG.sub(_rounded, found.group()), text)


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number.group()):.2f}".rstrip("0").rstrip(".")


def png(figure: Figure) -> bytes:
    """Return a figure as PNG, 150 dots an inch."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return file.getvalue()
