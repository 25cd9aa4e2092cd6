"""Publish results: ``python -m src.results runs``.

What ``docs/results`` holds is small enough for a repository, and whole: all that its page says can
be made again, and checked, from the runs beside it.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars
import yaml
from polars import DataFrame, col
from rich.console import Console

from src.analysis.figures import ridgelines
from src.analysis.page.report import compiled
from src.report import show, written
from src.runs.folder import RunFolder, whole
from src.runs.reading import read_manifests, read_rows, read_runs
from src.runs.store import RunStore
from src.settings import VARIANTS

_PLACES = ("runs_dir", "data.root", "data.cache")  # settings that only one machine understands
_TABLES = ("metrics", "ics", "landscape", "curvature", "theory")


def main(arguments: Sequence[str] | None = None) -> None:
    """Take in what has ended, make the page again; exit code 2 if there is no such folder."""
    parser = argparse.ArgumentParser(
        prog="python -m src.results",
        description="Take the runs that have ended into the published ones, each made small, and "
        "make the published report of them all.",
    )
    parser.add_argument("folders", type=Path, nargs="*", help="runs folders; none: the report only")
    out = Path("docs/results")
    parser.add_argument("--out", type=Path, default=out, help=f"default: {out}")
    chosen = parser.parse_args(arguments)
    for folder in chosen.folders:
        if not folder.is_dir():
            print(f"{folder} is not a folder of runs", file=sys.stderr)
            raise SystemExit(2)
    runs = chosen.out / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    for folder in chosen.folders:
        take_in(folder, runs)
    report = compiled(runs)
    written(report, chosen.out, without=(".html", ".png"))
    _write(final_rows(runs), chosen.out / "runs.parquet")
    show(report, Console())


def take_in(root: Path, published: Path) -> None:
    """Add the runs of a folder that have ended, and its sweeps' cells, to the published ones."""
    for path in sorted(root.iterdir()):
        ended = path.is_dir() and not path.name.startswith(".") and RunFolder(path).ended()
        if ended and RunFolder(path).status() != RunFolder(published / path.name).status():
            make_small(path, published / path.name)
    store, problems = RunStore(published), list[str]()
    for sweep, cells in read_manifests(root, problems).items():
        there = [cell for cell in cells if (published / cell["run"]).is_dir()]
        store.add_to_sweep(sweep, [_anywhere(cell) for cell in there])
    shutil.rmtree(published / ".locks", ignore_errors=True)
    for problem in problems:
        print(problem, file=sys.stderr)


def make_small(run: Path, target: Path) -> None:
    """Copy what claims and figures read of a run; of its distributions, few are drawn."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name in _TABLES:
        if (run / f"{name}.parquet").exists():
            _write(polars.read_parquet(run / f"{name}.parquet"), target / f"{name}.parquet")
    config = yaml.safe_load((run / "config.yaml").read_text())
    nobody_reads = VARIANTS[config["model"]["name"]].family == "dln"
    if (run / "activations.parquet").exists() and not nobody_reads:
        moments = _drawn(polars.read_parquet(run / "activations.parquet"))
        _write(moments, target / "activations.parquet")
    for *path, last in (place.split(".") for place in _PLACES):
        (config[path[0]] if path else config).pop(last, None)
    (target / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    with whole(target / "status.json") as temporary:  # last: with it the run has ended
        shutil.copy(run / "status.json", temporary)


def final_rows(root: Path) -> DataFrame:
    """Return a row a run: its settings, how it ended, and the last value of each metric."""
    table = read_runs(root).table
    rows = read_rows(root, table["run"], "metrics").sort("step")
    last = rows.group_by("run", "name").agg(col("value").last())
    return table.join(last.pivot("name", index="run"), on="run", how="left").sort("run")


def _drawn(activations: DataFrame) -> DataFrame:
    """Keep single units: their means and variances, and the distributions that figures draw."""
    units = activations.filter(col("unit").is_not_null())
    lowest = col("unit") == col("unit").min().over("layer")
    shown = (col("site") == "after_noise") & lowest
    ridge = shown & col("layer").is_in(ridgelines.LAYERS)
    ridge &= col("step").is_in(ridgelines.probed(units["step"].to_list()))
    kept = dict.fromkeys(("q15", "q50", "q85"), shown) | dict.fromkeys(("edges", "counts"), ridge)
    return units.with_columns(
        polars.when(where).then(name).alias(name) for name, where in kept.items()
    )


def _anywhere(cell: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a sweep's cell what holds on one machine only."""
    overrides = [o for o in cell["overrides"] if o.partition("=")[0] not in _PLACES]
    return {"overrides": overrides, "run": cell["run"], "probes": cell["probes"]}


def _write(table: DataFrame, path: Path) -> None:
    with whole(path) as temporary:
        table.write_parquet(temporary, compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
