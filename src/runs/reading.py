"""Many run folders as one table."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars
import yaml
from polars import Boolean, DataType, Float64, Int64, String
from polars.exceptions import PolarsError

from src.runs.store import manifest
from src.runs.tables import COLUMNS

_log = logging.getLogger(__name__)

# The columns there always are; a configuration key, or another entry of status.json, is one more.
RUN_COLUMNS: dict[str, type[DataType]] = {
    "run": String,
    "state": String,
    "step": Int64,
    "max_steps": Int64,
    "seconds": Float64,
    "started": Float64,
    "message": String,
    "device": String,
    "threads": Int64,
    "machine.host": String,
    "machine.platform": String,
    "versions.torch": String,
    "git.commit": String,
    "git.dirty": Boolean,
    "data.variant": String,
    "scale": String,
    "seed": Int64,
    "model.name": String,
    "data.name": String,
    "optim.lr": Float64,
}


@dataclass(frozen=True)
class Runs:
    """What a runs folder holds.

    Attributes:
        table: A row a run: ``run``, the entries of ``status.json`` and the configuration's keys,
            each a dotted column: ``optim.lr``, ``versions.torch``, ``probes.ics.update``. A list is
            its JSON text. Null: the run has no such key. ``started`` and ``seconds`` in seconds.
        sweeps: The cells of each sweep's manifest (overrides, run, the probes it needs).
        problems: A line for each folder or file that could not be read.
    """

    table: polars.DataFrame
    sweeps: Mapping[str, Sequence[Mapping[str, Any]]]
    problems: list[str]

    def of(self, sweep: str) -> polars.DataFrame:
        """Return the rows of a sweep's runs; none where it was never started."""
        return self.table.filter(polars.col("run").is_in(self._names(sweep)))

    def pool(self, sweep: str) -> polars.DataFrame:
        """Return the rows of a sweep's runs; where it was never started, those of all runs."""
        return self.of(sweep) if sweep in self.sweeps else self.table

    def missing(self, sweep: str) -> list[str]:
        """Return the runs of a sweep's manifest of which there is no folder that can be read."""
        there = set(self.table["run"])
        return [name for name in self._names(sweep) if name not in there]

    def _names(self, sweep: str) -> list[str]:
        return [cell["run"] for cell in self.sweeps.get(sweep, ())]


def read_runs(root: Path) -> Runs:
    """Read every run under a runs folder; what cannot be read is a problem, not an error.

    Raises:
        NotADirectoryError: If there is no such folder.
    """
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a folder of runs")
    problems: list[str] = []
    rows = []
    for folder in sorted(root.iterdir()):
        if not folder.is_dir() or folder.name.startswith(".") or folder.name == "sweeps":
            continue
        try:
            rows.append({"run": folder.name} | _config(folder) | _status(folder))
        except (OSError, ValueError, yaml.YAMLError) as error:
            problems.append(f"{folder.name}: {_one_line(error)}")
    return Runs(_table(rows), read_manifests(root, problems), problems)


def read_manifests(root: Path, problems: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the cells of each sweep under a runs folder; add a line for each that is damaged."""
    found = {}
    for path in sorted((root / "sweeps").glob("*.json")):
        try:
            found[path.stem] = manifest(path)
        except (OSError, ValueError) as error:
            problems.append(f"sweeps/{path.name}: {_one_line(error)}")
    return found


def read_rows(
    root: Path,
    runs: Iterable[str],
    table: str,
    columns: Sequence[str] | None = None,
    where: polars.Expr | None = None,
    problems: list[str] | None = None,
) -> polars.DataFrame:
    """Return one Parquet table of many runs, with a column ``run``; empty where none has it.

    Args:
        root: The runs folder.
        runs: The names of the runs; those without such a table have no rows.
        table: ``metrics``, ``ics``, ``landscape`` ...: the file's name.
        columns: Only these; default: all.
        where: Only the rows of which this holds. Columns and rows left out are not read.
        problems: Takes a line for each table that is damaged; the log tells of it too.
    """
    parts = []
    for run in runs:
        path = root / run / f"{table}.parquet"
        if not path.exists():
            continue
        lazy = polars.scan_parquet(path, glob=False)
        lazy = lazy if where is None else lazy.filter(where)
        lazy = lazy if columns is None else lazy.select(columns)
        try:
            parts.append(lazy.select(polars.lit(run).alias("run"), polars.all()).collect())
        except (PolarsError, OSError) as error:
            line = f"{run}/{path.name}: {_one_line(error)}"
            _log.warning("%s", line)
            if problems is not None:
                problems.append(line)
    if not parts:
        schema = {"run": String} | COLUMNS[table]
        return polars.DataFrame(schema=schema).select("run", *(columns or COLUMNS[table]))
    return polars.concat(parts, how="diagonal_relaxed")


def _config(folder: Path) -> dict[str, Any]:
    content = yaml.load((folder / "config.yaml").read_text(), yaml.CSafeLoader)
    if not isinstance(content, dict):
        raise ValueError("config.yaml is no mapping")
    return dict(_flat(content))


def _status(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "status.json").read_text())
    if not isinstance(content, dict) or "state" not in content:
        raise ValueError("status.json names no state")
    variant = content.pop("data", None)
    return dict(_flat(content)) | {"data.variant": variant}


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value) if isinstance(value, list) else value


def _table(rows: Sequence[Mapping[str, Any]]) -> polars.DataFrame:
    keys = list(dict.fromkeys([*RUN_COLUMNS, *(key for row in rows for key in row)]))
    return polars.DataFrame([_column(key, [row.get(key) for row in rows]) for key in keys])


def _column(name: str, values: list[Any]) -> polars.Series:
    """Return a column of one type: that of its values, text where they differ."""
    kinds = {type(value) for value in values} - {type(None)}
    if name in RUN_COLUMNS:
        return polars.Series(name, values, RUN_COLUMNS[name], strict=False)
    if kinds <= {int, float} or len(kinds) == 1:
        return polars.Series(name, values, Float64 if float in kinds else None)
    return polars.Series(name, [None if v is None else str(v) for v in values], String)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: " + " ".join(str(error).split())
