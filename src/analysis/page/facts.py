"""What a report says of the runs: the list, the readings they chose, where they are from."""

from typing import Any, NamedTuple

import polars
from polars import DataFrame, col

from src.analysis.figures import Source
from src.analysis.figures.select import GROUPS, PLACES, usually
from src.runs.reading import read_rows

READINGS = {
    "model.depth": "Which VGG?",
    "model.head": "Hidden layers of its head?",
    "model.normalise_head": "BatchNorm in the head?",
    "model.affine": "gamma and beta learned?",
    "init.name": "Which initialisation?",
    "data.normalise": "Inputs normalised?",
    "noise.placement": "Noise before or after gamma and beta?",
    "noise.r_sigma_is": "What is r_sigma?",
    "noise.per": "Jitter per pixel or per sample?",
    "noise.evaluation": "Noise at evaluation?",
    "optim.weight_decay": "Weight decay?",
    "optim.momentum": "Momentum?",
    "probes.update": "Shift: which update?",
    "probes.batch": "Probes: which batch?",
    "probes.step_sizes": "Landscape: which step sizes?",
}
ORIGINS = {
    "git.commit": "Commit",
    "git.dirty": "Uncommitted changes",
    "versions.torch": "torch",
    "machine.host": "Machine",
    "machine.platform": "Platform",
    "device": "Device",
    "threads": "Threads",
    "data.variant": "Data",
}
_OWN_COLUMN = ("model.name", "optim.lr", "data.name", "data.variant")


class Spread(NamedTuple):
    """The values of one key over the runs."""

    key: str
    what: str
    values: list[tuple[str, int]]


def listed(source: Source) -> list[dict[str, Any]]:
    """Return the runs, a mapping each: what the page's table shows.

    ``settings`` names what else tells a run apart: what differs between runs, where it is not the
    main reading's value.
    Accuracies are the last ones, in per cent, and null where there is none.
    """
    table = source.runs.table
    finals = _finals(source)
    settings = [key for key in table.columns if key.startswith((*GROUPS, "precision"))]
    usual = usually(table, [key for key in settings if key not in (*_OWN_COLUMN, *PLACES)])
    rows = []
    for row in table.iter_rows(named=True):
        told = {key: row.get(key) for key in ("run", "state", "step", "seconds", "message")}
        told |= {key.rpartition(".")[2]: row.get(key) for key in ("optim.lr", "seed", "scale")}
        told |= {"model": row.get("model.name"), "data": row.get("data.name")}
        told |= {"train": None, "test": None, **finals.get(row["run"], {})}
        given = [f"{k}={row[k]}" for k, v in usual.items() if row[k] is not None and row[k] != v]
        rows.append(told | {"settings": " ".join(given)})
    return sorted(rows, key=lambda r: (str(r["model"]), r["lr"] or 0, r["seed"] or 0, r["run"]))


def _finals(source: Source) -> dict[str, dict[str, float]]:
    names = {"train_eval/accuracy": "train", "val/accuracy": "test"}
    runs = source.runs.table["run"].to_list()
    where = col("name").is_in(list(names))
    rows = read_rows(
        source.root, runs, "metrics", ["step", "name", "value"], where, source.runs.problems
    )
    last = rows.sort("step").group_by("run", "name").agg(col("value").last())
    found: dict[str, dict[str, float]] = {}
    for run, name, value in last.iter_rows():
        found.setdefault(run, {})[names[name]] = 100 * value
    return found


def readings(table: DataFrame) -> list[Spread]:
    """Return what the runs chose where the papers are silent, the commonest value first."""
    noisy = table.filter(col("model.name").str.contains("noisy"))
    network = col("model.name").str.split("_").list.first()

    def having(key: str) -> DataFrame:
        """Return the runs of the networks that have a setting."""
        if key.startswith("noise."):
            return noisy
        networks = table.filter(col(key).is_not_null()).select(network).to_series().unique()
        return table.filter(network.is_in(networks.to_list()))

    return [
        Spread(key, what, _counted(having(key), key))
        for key, what in READINGS.items()
        if key in table.columns
    ]


def origins(table: DataFrame) -> list[Spread]:
    """Return where the runs are from: commits, versions, machines, data."""
    return [Spread(key, what, _counted(table, key)) for key, what in ORIGINS.items()]


def _counted(table: DataFrame, key: str) -> list[tuple[str, int]]:
    counts = table.group_by(key).len("runs").sort(polars.col("runs"), key, descending=[True, False])
    return [("not recorded" if v is None else str(v), runs) for v, runs in counts.iter_rows()]
