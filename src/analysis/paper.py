"""The papers' own curves, read off their figures (see the source in ``paper_curves.json``)."""

import functools
import json
from pathlib import Path
from typing import Any

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
    steps, *values = zip(*points, strict=True)
    names = ("low", "high") if len(values) == 2 else ("value",)
    schema = {"step": Int64, "value": Float64, "low": Float64, "high": Float64}
    columns: dict[str, Any] = {name: None for name in schema}
    columns |= {"step": steps} | dict(zip(names, values, strict=True))
    # Digitised steps may lie a little before 0.
    found = DataFrame(columns, schema, strict=False).with_columns(polars.col("step").clip(0))
    return found if last is None else found.filter(polars.col("step") <= last)
