"""Which runs a figure is made of: equal in all but what the figure compares."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars
from polars import DataFrame, col

from src.analysis.claims import rules
from src.runs.folder import ENDED

# What the papers train on, and how long.
_PAPERS = {"vgg": ("cifar10", 15_000), "dln": ("linear", 10_000), "mlp": ("mnist", 50_000)}
GROUPS = ("model.", "noise.", "init.", "data.", "optim.")
PLACES = ("data.root", "data.cache", "data.download")
_NETWORK = ("depth", "width", "head", "activation", "dropout")


@dataclass(frozen=True)
class Selection:
    """The runs of a figure.

    Attributes:
        runs: Their rows of the table of runs.
        others: How many runs of the same networks were left out, for their setting is another.
        axes: The settings the figure compares, in which they differ.
    """

    runs: DataFrame
    others: int
    axes: Sequence[str]

    @property
    def last(self) -> int:
        """The last step of the longest of them."""
        return int(self.runs["max_steps"].max() or 0)  # type: ignore[arg-type]

    @property
    def on_papers_data(self) -> bool:
        """Whether the paper's curves, which are of other data otherwise, may stand beside them."""
        row = self.runs.row(0, named=True)
        return _same(row.get("data.name"), _papers(row)[0])

    def where(self, holds: polars.Expr) -> "Selection":
        """Return those runs of them of which something holds."""
        return dataclasses.replace(self, runs=self.runs.filter(holds))

    def setting(self) -> str:
        """Say what they have in common: data, size, and what differs from the papers' setting."""
        row = self.runs.row(0, named=True)
        network, steps = row["model.name"].partition("_")[0], row["max_steps"]
        data, longest = _papers(row)
        words = [row["data.name"]] if row["data.name"] else []
        if not self.on_papers_data:
            words = [f"{words[0]} (the paper: {data})"]
        words += [f"scale {row['scale']}"] if row["scale"] else []
        if network == "vgg":
            sizes = {key: row.get(f"model.{key}") for key in ("depth", "width")}
            words += [f"{key} {size:g}" for key, size in sizes.items() if size is not None]
        longer = f" of the paper's {longest:,}" if longest > steps else ""
        words.append(f"{steps:,}{longer} steps")
        for key, standard in rules().defaults.items():
            told = key in row and key not in (*self.axes, "model.depth", "data.name")
            values = self.runs[key].unique().to_list() if told else []
            if len(values) == 1 and not _same(values[0], standard):
                asked = re.sub(r"^probes\.\w+\.", "probes.", key)  # one setting, recorded by probe
                words.append(f"{asked}={values[0]}")
        if len(devices := self.runs["device"].drop_nulls().unique().sort()) > 1:
            words.append(f"on {' and '.join(devices)}")
        seeds = self.runs["seed"].n_unique()
        return ", ".join([*dict.fromkeys(words), f"{seeds} seed{'s' * (seeds != 1)}"])


def select(table: DataFrame, cells: Sequence[Mapping[str, Any]]) -> Selection | None:
    """Return the ended runs of a figure's cells that share one setting; None where there is none.

    A cell says what the figure compares, such as ``{"model.name": "vgg", "optim.lr": 0.1}``. Of
    several settings that one is taken which has the most cells, then the larger scale, then the
    fewest differences from the papers', then the most runs.
    """
    axes = list(dict.fromkeys(key for cell in cells for key in cell))
    if not {"run", "state", *axes} <= set(table.columns):
        return None
    fitting = [
        table.filter(col("state").is_in(ENDED), *(col(k) == v for k, v in cell.items()))
        for cell in cells
    ]
    whole = polars.concat(fitting).unique("run", maintain_order=True)
    shared, own = _keys(table, axes)
    found = []
    for _, runs in whole.group_by(*shared, maintain_order=True):
        kept = [part for cell in cells for part in _nearest(runs, cell, own)]
        if kept:
            found.append((len(kept), polars.concat(kept).unique("run", maintain_order=True)))
    if not found:
        return None
    _, runs = max(found, key=lambda item: _rank(*item))
    return Selection(runs, len(whole) - len(runs), axes)


def usually(table: DataFrame, keys: Iterable[str]) -> dict[str, Any]:
    """Return of each key in which runs differ the main reading's value, or else the commonest."""
    differing = [key for key in keys if table[key].n_unique() > 1]
    return {key: rules().defaults.get(key, table[key].mode().sort()[0]) for key in differing}


def _papers(row: Mapping[str, Any]) -> tuple[str, int]:
    return _PAPERS[row["model.name"].partition("_")[0]]


def _keys(table: DataFrame, axes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the settings every network has, and those that only some variants have."""
    keys = [
        name
        for name in table.columns
        if name not in (*axes, *PLACES, "model.name")
        and (name.startswith(GROUPS) or name in ("scale", "precision", "max_steps"))
    ]
    own = [
        k for k in keys if k.startswith(("model.", "noise.")) and k.split(".")[1] not in _NETWORK
    ]
    return [k for k in keys if k not in own], own


def _nearest(runs: DataFrame, cell: Mapping[str, Any], own: list[str]) -> Iterator[DataFrame]:
    """Yield the runs of a cell, and of several of the variant's own settings the papers'."""
    here = runs.filter(*(col(k) == v for k, v in cell.items()))
    if own and not here.is_empty():
        parts = [part for _, part in here.group_by(*own, maintain_order=True)]
        here = min(parts, key=lambda part: (_differences(part), -len(part)))
    if not here.is_empty():
        yield here


def _rank(cells: int, runs: DataFrame) -> tuple[int, int, int, int]:
    scale, scales = runs["scale"][0], rules().scales
    return cells, scales.index(scale) if scale in scales else -1, -_differences(runs), len(runs)


def _differences(runs: DataFrame) -> int:
    row = runs.row(0, named=True)
    return sum(key in row and not _same(row[key], value) for key, value in rules().defaults.items())


def _same(value: Any, standard: Any) -> bool:
    """Tell whether a setting is the main reading's; a column of mixed types holds its text."""
    return value is None or value == standard or value == str(standard)
