"""Publish results: ``python -m src.results runs``.

What ``docs/results`` holds is small enough for a repository, and whole: all that its page says can
be made again, and checked, from the runs beside it.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars
import yaml
from polars import DataFrame, col
from polars.exceptions import PolarsError
from rich.console import Console

from src.analysis.figures import ridgelines
from src.analysis.page.markdown import summary
from src.analysis.page.report import compiled
from src.catalogue import VARIANTS
from src.report import show, written
from src.runs.folder import RunFolder, whole
from src.runs.reading import read_manifests, read_rows, read_runs
from src.runs.store import RunStore
from src.terminal import reason

_PLACES = ("runs_dir", "data.root", "data.cache")  # settings that only one machine understands
VERDICTS = ("<!-- verdicts, by make results -->", "<!-- end of verdicts -->")  # in the README
_TABLES = ("metrics", "ics", "landscape", "activations", "curvature", "theory")


def main(arguments: Sequence[str] | None = None) -> None:
    """Take in what has ended, make the page again.

    Exit code 1 if some run was left out, 2 where it cannot begin.
    """
    parser = argparse.ArgumentParser(
        prog="python -m src.results",
        description="Take the runs that have ended into the published ones, each made small, and "
        "make the published report of them all.",
    )
    parser.add_argument("folders", type=Path, nargs="*", help="runs folders; none: the report only")
    out = Path("docs/results")
    parser.add_argument("--out", type=Path, default=out, help=f"default: {out}")
    parser.add_argument(
        "--readme",
        type=Path,
        help=f"renew the verdicts in it too; default: README.md if what is made is {out}",
    )
    chosen = parser.parse_args(arguments)
    readme = chosen.readme or (Path("README.md") if chosen.out == out else None)
    runs = chosen.out / "runs"
    for folder in chosen.folders:
        if not folder.is_dir() or folder.resolve() == runs.resolve():
            print(f"{folder} is not a folder of runs to be published", file=sys.stderr)
            raise SystemExit(2)
    around = split_at_verdicts(readme) if readme else None
    if readme and not around:
        print(f"{readme} has no place for verdicts: {' '.join(VERDICTS)}", file=sys.stderr)
        raise SystemExit(2)
    runs.mkdir(parents=True, exist_ok=True)
    problems = [problem for folder in chosen.folders for problem in take_in(folder, runs)]
    report = compiled(runs)
    written(report, chosen.out, without=(".html", ".png"))
    _write(final_rows(runs), chosen.out / "runs.parquet")
    if readme and around:
        with whole(readme) as temporary:
            temporary.write_text(f"\n\n{summary(report.results)}\n\n".join(around))
    show(report, Console())
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise SystemExit(1)


def take_in(root: Path, published: Path) -> list[str]:
    """Add the runs of a folder that have ended, and its sweeps' cells, to the published ones.

    Returns:
        A line for each run that could not be read, or of which another training is published.
    """
    store, problems = RunStore(published), list[str]()
    for path in sorted(root.iterdir()):
        if not path.is_dir() or path.name.startswith(".") or not RunFolder(path).ended():
            continue
        target = published / path.name
        new, old = RunFolder(path).status(), RunFolder(target).status()
        if old and new and old["started"] != new["started"]:
            other = f"another training of it is in {target}; delete that to take this one"
            problems.append(f"{path} is left out: {other}")
        elif old != new:
            try:
                make_small(path, target)
            except (OSError, KeyError, ValueError, yaml.YAMLError, PolarsError) as error:
                problems.append(f"{path} is left out: {reason(error)}")
    for sweep, cells in read_manifests(root, problems).items():
        store.add_to_sweep(sweep, [_kept(cell) for cell in cells])
    shutil.rmtree(published / ".locks", ignore_errors=True)
    return problems


def make_small(run: Path, target: Path) -> None:
    """Copy what claims and figures read of a run; of its distributions, few are drawn."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    for *branch, last in (place.split(".") for place in _PLACES):
        (config[branch[0]] if branch else config).pop(last, None)
    with TemporaryDirectory(dir=target.parent, prefix=".") as place:
        making = Path(place) / run.name
        making.mkdir()
        (making / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        shutil.copy(run / "status.json", making)
        for name in _TABLES:
            path = run / f"{name}.parquet"
            if not path.exists() or _unread(run.name, name):
                continue
            table = polars.read_parquet(path, glob=False)
            _write(_drawn(table) if name == "activations" else table, making / path.name)
        if target.exists():
            shutil.rmtree(target)
        making.rename(target)


def split_at_verdicts(readme: Path) -> tuple[str, str] | None:
    """Return what stands in a README before its verdicts and after them; None without a place."""
    text = readme.read_text() if readme.is_file() else ""
    before, start, rest = text.partition(VERDICTS[0])
    _, end, after = rest.partition(VERDICTS[1])
    return (before + start, end + after) if end else None


def final_rows(root: Path) -> DataFrame:
    """Return a row a run: its settings, how it ended, and the last value of each metric."""
    table = read_runs(root).table
    rows = read_rows(root, table["run"], "metrics").sort("step")
    last = rows.group_by("run", "name").agg(col("value").last())
    return table.join(
        last.pivot("name", index="run", sort_columns=True), on="run", how="left"
    ).sort("run")


def _drawn(activations: DataFrame) -> DataFrame:
    """Keep single units: their means and variances, and the distributions that figures draw."""
    units = activations.filter(col("unit").is_not_null())
    lowest = col("unit") == col("unit").min().over("layer")
    shown = (col("site") == "after_noise") & lowest
    layers = [layer for figure in ridgelines.LAYERS.values() for layer in figure]
    ridge = shown & col("layer").is_in(layers)
    ridge &= col("step").is_in(ridgelines.probed(units["step"].to_list()))
    kept = dict.fromkeys(("q15", "q50", "q85"), shown) | dict.fromkeys(("edges", "counts"), ridge)
    return units.with_columns(
        polars.when(where).then(name).alias(name) for name, where in kept.items()
    )


def _kept(cell: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a sweep's cell what only one machine has, and tables left out of its run."""
    run, given = cell["run"], cell.get("overrides", [])
    overrides = [o for o in given if o.partition("=")[0].lstrip("+~") not in _PLACES]
    probes = {probe: asked for probe, asked in cell["probes"].items() if not _unread(run, probe)}
    return {"overrides": overrides, "run": run, "probes": probes}


def _unread(run: str, table: str) -> bool:
    """Tell whether no claim or figure reads a table of a run: a linear net's distributions."""
    return table == "activations" and VARIANTS[run.rpartition("-")[0]].family == "dln"


def _write(table: DataFrame, path: Path) -> None:
    with whole(path) as temporary:
        table.write_parquet(temporary, compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
