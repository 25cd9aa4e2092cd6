"""Which runs a figure is made of: equal in all but what the figure compares."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars
from polars import DataFrame, col

# The papers' setting as conf/ reads it: of several settings that would do, the nearest is drawn,
# and the others' differences from it are what a figure says of its own.
STANDARD: Mapping[str, Any] = {
    "model.activation": "relu",
    "model.dropout": 0.0,
    "model.affine": True,
    "model.normalise_head": True,
    "noise.n_mu": 0.5,
    "noise.n_sigma": 1.25,
    "noise.r_mu": 0.1,
    "noise.r_sigma": 0.1,
    "noise.r_sigma_is": "std",
    "noise.placement": "after_affine",
    "noise.per": "position",
    "noise.evaluation": "on_as_trained",
    "init.name": "glorot_normal",
    "init.gain": 1.0,
    "data.batch_size": 128,
    "data.augment": False,
    "data.normalise": True,
    "optim.momentum": 0.0,
    "optim.weight_decay": 0.0,
    "precision": "32-true",
}
_GROUPS = ("model.", "noise.", "init.", "data.", "optim.")
_PLACES = ("data.root", "data.cache", "data.download")
_NETWORK = ("depth", "width", "head", "activation", "dropout")
_SCALES = ("smoke", "small", "paper")
SHOWN = ("completed", "diverged")


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

    def where(self, holds: polars.Expr) -> "Selection":
        """Return those runs of them of which something holds."""
        return dataclasses.replace(self, runs=self.runs.filter(holds))

    def setting(self) -> str:
        """Say what they have in common: data, size, and what differs from the papers' setting."""
        row = self.runs.row(0, named=True)
        words = [str(row["data.name"])] if row.get("data.name") else []
        if row.get("scale"):
            words.append(f"scale {row['scale']}")
        sizes = [key for key in ("model.depth", "model.width") if row.get(key)]
        words += [f"{key.partition('.')[2]} {row[key]:g}" for key in sizes]
        words.append(f"{row['max_steps']:,} steps")
        for key, standard in STANDARD.items():
            values = (
                self.runs[key].unique().to_list() if key in row and key not in self.axes else []
            )
            if len(values) == 1 and values[0] not in (None, standard):
                words.append(f"{key}={values[0]}")
        seeds = self.runs["seed"].n_unique()
        return ", ".join([*words, f"{seeds} seed{'s' * (seeds != 1)}"])


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
        table.filter(col("state").is_in(SHOWN), *(col(k) == v for k, v in cell.items()))
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


def _keys(table: DataFrame, axes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the settings every network has, and those that only some variants have."""
    keys = [
        name
        for name in table.columns
        if name not in (*axes, *_PLACES, "model.name")
        and (name.startswith(_GROUPS) or name in ("scale", "precision", "max_steps"))
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
    scale = runs["scale"][0] if "scale" in runs.columns else ""
    return cells, _SCALES.index(scale) if scale in _SCALES else -1, -_differences(runs), len(runs)


def _differences(runs: DataFrame) -> int:
    row = runs.row(0, named=True)
    return sum(key in row and row[key] != value for key, value in STANDARD.items())
