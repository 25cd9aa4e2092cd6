"""The papers' own curves, read off their figures (see the source in ``paper_curves.json``)."""

import functools
import json
from pathlib import Path

import polars
from polars import DataFrame, Float64, Int64

_FILE = Path(__file__).with_name("paper_curves.json")


@functools.cache
def _content() -> dict[str, dict[str, list[list[float]]]]:
    return json.loads(_FILE.read_text())


def names() -> list[str]:
    """Return the names of the curves, such as ``fig1a_trainacc_bn_lr0.1``."""
    return list(_content()["series"])


def curve(name: str, last: int | None = None) -> DataFrame:
    """Return a curve of a paper: ``step``, ``value``, ``low``, ``high``.

    Accuracies are in per cent. Where the paper draws a band, its edges are low and high and value
    is null, as nothing is known between them; a line has null edges.

    Args:
        name: One of :func:`names`.
        last: The last step wanted; default: all the paper shows.

    Raises:
        KeyError: If there is no such curve.
    """
    points = _content()["series"][name]
    if band := len(points[0]) == 3:
        rows = [(step, None, low, high) for step, low, high in points]
    else:
        rows = [(step, value, None, None) for step, value in points]
    schema = {"step": Int64, "value": Float64, "low": Float64, "high": Float64}
    # Digitised steps may lie a little before 0; a band's edges are not always read in order.
    found = DataFrame(rows, schema, orient="row").with_columns(polars.col("step").clip(0))
    if band:
        edges = polars.min_horizontal("low", "high"), polars.max_horizontal("low", "high")
        found = found.with_columns(low=edges[0], high=edges[1])
    return found if last is None else found.filter(polars.col("step") <= last)
