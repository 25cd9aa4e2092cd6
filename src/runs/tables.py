"""The tables of a run folder that grow with the run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars
from polars import DataType, Float64, Int64, List, String

from src.runs.folder import whole

_LAYER = {"step": Int64, "layer": Int64, "name": String}
COLUMNS: dict[str, dict[str, type[DataType] | DataType]] = {
    "norms": _LAYER | dict.fromkeys(("grad_norm", "update_norm", "weight_norm"), Float64),
    "ics": _LAYER
    | dict.fromkeys(
        ("l2", "cosine", "relative", "grad_norm", "grad_norm_after", "weight_norm"), Float64
    ),
    "landscape": {"step": Int64, "metric": String, "direction": String}
    | dict.fromkeys(
        ("eta", "loss_at_zero", "loss", "grad_norm", "grad_norm_at")
        + ("grad_diff", "cosine", "beta", "weight_norm"),
        Float64,
    ),
    "activations": _LAYER
    | {"site": String, "unit": Int64}
    | dict.fromkeys(("mean", "variance", "q15", "q50", "q85"), Float64)
    | {"edges": List(Float64), "counts": List(Int64)},
    "curvature": {"step": Int64, "quantity": String, "value": Float64, "error": Float64},
    "theory": {"step": Int64, "layer": Int64, "quantity": String, "value": Float64},
}


class Table:
    """One Parquet file of a run, written whole at each checkpoint."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path, self.columns = folder / f"{name}.parquet", COLUMNS[name]
        self.rows: list[tuple[Any, ...]] = []

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows, in the order of the columns."""
        self.rows += rows

    def write(self) -> None:
        """Write all rows so far."""
        with whole(self.path) as temporary:
            polars.DataFrame(self.rows, self.columns, orient="row").write_parquet(temporary)

    def resume(self, step: int) -> None:
        """Take up the rows of the steps before ``step``; the others will come again."""
        if self.path.exists():
            kept = polars.read_parquet(self.path).filter(polars.col("step") < step)
            self.rows = kept.rows()
