"""Which runs a claim compares: one scale, one reading, one kind of machine, paired by seed."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars
from polars import DataFrame, col

from src.analysis.claims.rulebook import Rule, rules
from src.catalogue import VARIANTS
from src.runs.folder import ENDED
from src.runs.identity import without_effect
from src.runs.reading import Runs, read_rows

_ESSENTIAL = ("scale", "seed", "model.name", "optim.lr", "max_steps", "log_every", "eval_every")
MACHINE = "machine"  # the kind of it, beside the keys
_Point = tuple[str | None, ...]  # a value of each key that runs differ in
# What changes a training, or how finely it is recorded.
_SETTINGS = ("model.", "noise.", "init.", "data.", "optim.", "precision", "max_steps")
_CADENCES = ("log_every", "eval_every")
_PLACES = ("data.root", "data.cache", "data.download", "data.variant")
# Probe settings that change how much is measured, not what.
_AMOUNT = ("every", "layers", "units", "metrics", "directions")
# Activations come with a histogram a row, which no claim needs.
_SELECTED: Mapping[str, tuple[list[str], polars.Expr]] = {
    "activations": (
        ["step", "layer", "site", "unit", "mean", "variance"],
        col("unit").is_not_null(),
    )
}


class Tables:
    """The tables of the runs, each read once."""

    def __init__(self, root: Path, problems: list[str]) -> None:
        self.root, self.problems = root, problems
        self._read: dict[tuple[str, str], DataFrame] = {}

    def rows(self, run: str, table: str) -> DataFrame:
        """Return a run's rows; none where it has no such table, or a damaged one."""
        key = (run, table)
        if key not in self._read:
            columns, where = _SELECTED.get(table, (None, None))
            self._read[key] = read_rows(self.root, [run], table, columns, where, self.problems)
        return self._read[key]


@dataclass(frozen=True, eq=False)
class Run:
    """One run that has ended."""

    name: str
    config: Mapping[str, Any]
    tables: Tables

    @property
    def model(self) -> str:
        """The variant."""
        return self.config["model.name"]

    @property
    def machine(self) -> str:
        """The kind of machine it ran on."""
        return ", ".join(str(self.config.get(column)) for column in rules().machine)

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self.config["optim.lr"]

    @property
    def steps(self) -> int:
        """How many it was to be trained for."""
        return self.config["max_steps"]

    @property
    def diverged(self) -> bool:
        """Whether its loss became infinite or NaN."""
        return self.config["state"] == "diverged"

    def rows(self, table: str) -> DataFrame:
        """Return its rows of a table; none where it has none."""
        return self.tables.rows(self.name, table)

    def metric(self, name: str) -> DataFrame:
        """Return steps and values of a metric."""
        return self.rows("metrics").filter(col("name") == name).sort("step")


@dataclass(frozen=True)
class Cells:
    """The runs of one reading, and how they are measured.

    Attributes:
        runs: All alike but for the claim's axes, its variants and the seed.
        scale: Of them all.
        reading: The key and value of what other readings have otherwise; empty for the main one.
        measured: What of the runs is looked at, such as the metric of a landscape.
        used: The runs the claim has asked for, by name.
    """

    runs: Sequence[Run]
    scale: str
    reading: Mapping[str, str]
    measured: Mapping[str, str]
    used: dict[str, Run] = field(default_factory=dict)

    def of(self, model: str, **axes: Any) -> dict[int, Run]:
        """Return a variant's run of each seed, in their order, at given values of the axes.

        An axis is named as its key with ``__`` for the dot: ``of("vgg", optim__lr=0.1)``.
        """
        wanted = {key.replace("__", "."): value for key, value in axes.items()}
        found = {
            run.config["seed"]: run
            for run in self.runs
            if run.model == model and all(_same(run.config.get(k), v) for k, v in wanted.items())
        }
        self.used.update({run.name: run for run in found.values()})
        return dict(sorted(found.items()))

    def pair(self, first: str, second: str, **axes: Any) -> tuple[dict[int, Run], dict[int, Run]]:
        """Return the runs of two variants, each as :meth:`of` does."""
        return self.of(first, **axes), self.of(second, **axes)

    def shared(self, key: str, *models: str) -> list[Any]:
        """Return the values of an axis at which all of some variants were run, in order."""
        by_model = [{r.config.get(key) for r in self.runs if r.model == m} for m in models]
        return sorted(set.intersection(*by_model) - {None})

    def diverged(self) -> dict[str, int]:
        """Return how many of the runs used diverged, by variant."""
        return dict(Counter(run.model for run in self.used.values() if run.diverged))


def pairs(
    first: Mapping[int, Run], second: Mapping[int, Run], quantity: Callable[[Run, Run], float]
) -> dict[int, float]:
    """Return a quantity of the runs of each seed that both have."""
    return {s: quantity(first[s], second[s]) for s in sorted(first.keys() & second.keys())}


def ended(runs: Runs, tables: Tables) -> dict[str, Run]:
    """Return the runs that have ended, by name, the oldest first."""
    rows = runs.table.filter(col("state").is_in(ENDED)).sort("started", nulls_last=False)
    found = [Run(row["run"], row, tables) for row in rows.iter_rows(named=True)]
    return {run.name: run for run in found if None not in map(run.config.get, _ESSENTIAL)}


def pool(rule: Rule, runs: Runs, there: Mapping[str, Run]) -> tuple[list[Run], str]:
    """Return the runs a claim may be judged on, and a note on which these are.

    Those of its sweep that have ended; where it was never started, any of its variants that were
    probed as the claim needs.
    """
    names = set(runs.pool(rule.sweep).filter(col("model.name").is_in(rule.models))["run"])
    found = [run for name, run in there.items() if name in names]
    left, notes = len(names) - len(found), []
    if rule.sweep not in runs.sweeps:
        needed = {key: text(value) for key, value in rule.needed.items()}
        found = [run for run in found if told(run, rule, needed) == needed]
        elsewhere = f"{rule.sweep} was not started: runs of other sweeps count"
        notes = [elsewhere] if found else []
    if left:
        notes.append(f"{left} run{'s' * (left > 1)} not ended and left out")
    if missing := len(runs.missing(rule.sweep)):
        notes.append(f"{missing} run{'s' * (missing > 1)} of the sweep missing")
    return found, "; ".join(notes)


def readings(rule: Rule, found: Sequence[Run], scale: str) -> Iterator[Cells]:
    """Yield the runs of a scale by reading, the main one first.

    A reading is a value of each key that runs differ in though the claim does not vary it, the kind
    of machine among them. A setting without effect on a variant does not part its runs. The main
    reading is the one with the fewest departures from the defaults, then with the most runs.
    """
    here = [run for run in found if run.config["scale"] == scale]
    keys = _parting(here, rule)
    settings = {run.name: told(run, rule, keys) for run in here}
    varied = [k for k in keys if len({v[k] for v in settings.values() if v.get(k) is not None}) > 1]
    points = {name: tuple(values.get(key) for key in varied) for name, values in settings.items()}
    defaults = tuple(text(rule.defaults.get(key)) for key in varied)

    def rank(reading: _Point) -> tuple[int, int]:
        departures = sum(
            value is not None and default is not None and value != default
            for value, default in zip(reading, defaults, strict=True)
        )
        return departures, -sum(_fits(point, reading) for point in points.values())

    for reading in sorted(_whole(set(points.values())), key=rank):
        label = {key: v for key, v in zip(varied, reading, strict=True) if v is not None}
        inside = [run for run in here if _fits(points[run.name], reading)]
        for measured in rule.measured:
            yield Cells(inside, scale, label, measured)


def _parting(here: Sequence[Run], rule: Rule) -> list[str]:
    """Return the keys that runs differ in, of those that change what a claim looks at."""
    keys = []
    for key in here[0].config if here else ():
        probe = key.startswith(f"probes.{rule.table}.") and key.split(".")[2] not in _AMOUNT
        setting = key.startswith(_SETTINGS) or key in _CADENCES
        apart = key in (*_PLACES, "model.name", *rule.axes)
        if (probe or setting) and not apart and len({run.config[key] for run in here}) > 1:
            keys.append(key)
    return [MACHINE, *sorted(keys)]


def told(run: Run, rule: Rule, keys: Iterable[str]) -> dict[str, str | None]:
    """Return some settings of a run as text; None: it has no effect on the run's variant."""
    silent = without_effect(VARIANTS[run.model]) if run.model in VARIANTS else set()
    found: dict[str, str | None] = {}
    for key in keys:
        value = run.machine if key == MACHINE else run.config.get(key)
        value = rule.defaults.get(key) if value is None else value
        found[key] = None if key in silent else text(value)
    return found


def _fits(point: _Point, reading: _Point) -> bool:
    return all(p is None or p == r for p, r in zip(point, reading, strict=True))


def _whole(points: set[_Point]) -> list[_Point]:
    """Return the points, joined wherever they agree, that no other contains."""
    while joined := {_join(a, b) for a in points for b in points if _agree(a, b)} - points:
        points = points | joined
    return sorted((p for p in points if not any(p != o and _fits(p, o) for o in points)), key=str)


def _agree(a: _Point, b: _Point) -> bool:
    return all(None in (x, y) or x == y for x, y in zip(a, b, strict=True))


def _join(a: _Point, b: _Point) -> _Point:
    return tuple(y if x is None else x for x, y in zip(a, b, strict=True))


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(value, float) and isinstance(wanted, int | float):
        return math.isclose(value, wanted, rel_tol=1e-9)
    return text(value) == text(wanted)


def text(value: Any) -> str | None:
    """Return a value as the command line takes it."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else str(value)
