"""The tables of a run folder that grow with the run."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars
from polars import DataFrame, DataType, Float64, Int64, LazyFrame, List, String
from polars.exceptions import PolarsError

from src.runs.folder import whole

_Columns = dict[str, type[DataType] | DataType]
_LAYER: _Columns = {"step": Int64, "layer": Int64, "name": String}


def _floats(*names: str) -> _Columns:
    return dict.fromkeys(names, Float64)


COLUMNS: dict[str, _Columns] = {
    "metrics": {"step": Int64, "name": String, "value": Float64},
    "norms": _LAYER | _floats("grad_norm", "update_norm", "weight_norm"),
    "ics": _LAYER
    | _floats("l2", "cosine", "relative", "grad_norm", "grad_norm_after", "weight_norm"),
    "landscape": {"step": Int64, "metric": String, "direction": String}
    | _floats("eta", "loss_at_zero", "loss", "grad_norm", "grad_norm_at", "grad_diff")
    | _floats("cosine", "beta", "weight_norm"),
    "activations": _LAYER
    | {"site": String, "unit": Int64}
    | _floats("mean", "variance", "q15", "q50", "q85")
    | {"edges": List(Float64), "counts": List(Int64)},
    "curvature": {"step": Int64, "quantity": String, "value": Float64, "error": Float64},
    "theory": {"step": Int64, "layer": Int64, "quantity": String, "value": Float64},
}
# The columns, the step apart, that say what a row is about.
KEYS = ("layer", "name", "metric", "direction", "eta", "site", "unit", "quantity")


class Table:
    """One Parquet file of a run, brought up to date just before each checkpoint.

    Only the rows since then are held in memory. A killed run leaves its rows up to the newest
    checkpoint at least, and the attempt that goes on from there takes up those and repeats none.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.path, self.columns = name, folder / f"{name}.parquet", COLUMNS[name]
        self._new: list[DataFrame] | None = None

    def readable(self) -> bool:
        """Tell whether the file is there and a Parquet file: neither removed nor cut off."""
        try:
            return bool(polars.read_parquet_schema(self.path))
        except (PolarsError, FileNotFoundError):
            return False

    def start(self, step: int) -> None:
        """Keep the rows of the steps before ``step``, the first of this attempt, and no others."""
        self._new = []
        if step and self.path.exists():
            self._replace(self._scan().filter(polars.col("step") < step))
        else:
            self._replace(DataFrame(schema=self.columns).lazy())

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows, in the order of the columns."""
        assert self._new is not None
        self._new.append(DataFrame(rows, self.columns, orient="row"))

    def write(self) -> None:
        """Write all rows so far; before the start there is nothing to write."""
        if self._new:
            new = polars.concat(self._new).lazy()
            self._replace(polars.concat([self._scan(), new]))
            self._new = []

    def _scan(self) -> LazyFrame:
        return polars.scan_parquet(self.path, glob=False)

    def _replace(self, rows: LazyFrame) -> None:
        with whole(self.path) as temporary:
            rows.sink_parquet(temporary)

    def scalars(self, rows: Sequence[tuple[Any, ...]]) -> dict[str, float]:
        """Return the numbers of some rows, named by table, keys and column; not of single units.

        A step size goes by its place, from 1: in the relative metric it is another at every step.
        """
        found: dict[str, float] = {}
        seen: Counter[tuple[str, ...]] = Counter()
        for row in rows:
            cells = dict(zip(self.columns, row, strict=True))
            if cells.get("unit") is not None:
                continue
            keys = [str(cells[k]) for k in KEYS if k != "eta" and cells.get(k) is not None]
            if "eta" in cells:
                seen[tuple(keys)] += 1
                keys.append(str(seen[tuple(keys)]))
            found |= {
                "/".join([self.name, *keys, column]): value
                for column, value in cells.items()
                if column not in KEYS and isinstance(value, float)
            }
        return found
