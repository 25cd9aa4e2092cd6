"""Hand-made run folders."""

import copy
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import polars
import pytest
import yaml

from src.analysis.claims import Result, judge, rules
from src.runs.reading import read_runs
from src.runs.tables import COLUMNS

STEPS = 3000
CONFIG: dict[str, Any] = {
    "model": {"name": "vgg", "depth": 16, "width": 0.25, "head": 512, "activation": "relu"}
    | {"dropout": 0.0, "affine": True, "statistics": "batch"},
    "noise": {"n_mu": 0.5, "placement": "after_affine"},
    "init": {"name": "glorot_normal", "gain": 1.0},
    "data": {"name": "cifar10", "root": "data", "batch_size": 128},
    "optim": {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0},
    "precision": "32-true",
    **{"scale": "small", "max_steps": STEPS, "log_every": 10, "eval_every": 50},
}
STATUS: dict[str, Any] = {
    **{"state": "completed", "step": STEPS, "max_steps": STEPS, "seconds": 1.0},
    **{"device": "cpu", "threads": 2, "data": "cifar10 (Parquet, Hugging Face layout, JPEG)"},
    "started": datetime(2027, 1, 1, tzinfo=UTC).timestamp(),
    "machine": {"host": "here", "platform": "Linux"},
    "versions": {"torch": "2.14.1"},
    "git": {"commit": "0" * 40, "dirty": False},
}
Rows = Mapping[str, Sequence[Any]]


class Folder:
    """A runs folder to write runs into by hand."""

    seeds, steps = range(5), STEPS

    def __init__(self, root: Path) -> None:
        self.root = root
        self.numbers = itertools.count()
        self.cells: dict[str, list[dict[str, Any]]] = {}

    def write(
        self,
        model: str,
        seed: int,
        tables: Mapping[str, Rows] | None = None,
        status: Mapping[str, Any] | None = None,
        sweep: str | None = None,
        **settings: Any,
    ) -> str:
        """Write a run; a setting is named as its key with ``__`` for the dot."""
        name = f"{model}-{next(self.numbers):08x}"
        path = self.root / name
        path.mkdir(parents=True)
        config = copy.deepcopy(CONFIG) | {"seed": seed}
        config["model"]["name"] = model
        for key, value in settings.items():
            group, _, entry = key.partition("__")
            if entry:
                config[group][entry] = value
            else:
                config[group] = value
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        (path / "status.json").write_text(json.dumps(STATUS | dict(status or {})))
        for table, columns in (tables or {}).items():
            frame = polars.DataFrame(columns)
            missing = {k: t for k, t in COLUMNS[table].items() if k not in frame.columns}
            frame = frame.with_columns(polars.lit(None, t).alias(k) for k, t in missing.items())
            frame.select(list(COLUMNS[table])).write_parquet(path / f"{table}.parquet")
        if sweep:
            self.cells.setdefault(sweep, []).append({"overrides": [], "run": name, "probes": {}})
            (self.root / "sweeps").mkdir(exist_ok=True)
            text = json.dumps({"sweep": sweep, "cells": self.cells[sweep]})
            (self.root / "sweeps" / f"{sweep}.json").write_text(text)
        return name

    def judged(self, claim: str) -> Result:
        """Return a claim's result, judged alone: the only one of its Holm family."""
        alone = replace(rules(), claims={claim: rules().claims[claim]})
        with mock.patch("src.analysis.claims.judging.rules", lambda: alone):
            (result,) = judge(self.root, read_runs(self.root))
        return result

    @staticmethod
    def stack(*parts: Rows) -> dict[str, list[Any]]:
        """Return the rows of several tables with equal columns."""
        return {key: [value for part in parts for value in part[key]] for key in parts[0]}

    @staticmethod
    def metric(name: str, steps: Iterable[int], values: Iterable[float]) -> dict[str, list[Any]]:
        """Return rows of ``metrics``."""
        steps = list(steps)
        return {"step": steps, "name": [name] * len(steps), "value": [float(v) for v in values]}

    @staticmethod
    def curve(reached: Mapping[float, int]) -> dict[str, list[Any]]:
        """Return minibatch accuracies that step up to each level so as to be there at a step.

        The mean of five records is at the level when the fifth is, at the step given.
        """
        steps = range(0, STEPS, 10)
        levels = sorted(reached.items())
        values = [max([0.1, *(a for a, at in levels if step >= at - 40)]) for step in steps]
        return Folder.metric("train/accuracy", steps, values)

    @staticmethod
    def final(train: float, test: float = 0.5) -> dict[str, list[Any]]:
        """Return the last evaluation."""
        return Folder.stack(
            Folder.metric("train_eval/accuracy", [STEPS], [train]),
            Folder.metric("val/accuracy", [STEPS], [test]),
        )

    @staticmethod
    def landscape(
        steps: Iterable[int],
        band: float = 1.0,
        change: float = 1.0,
        beta: float | None = None,
        lr: float = 0.1,
        etas: Sequence[float] = (0.5, 1.0, 2.0, 4.0),
        metric: str = "euclidean",
        direction: str = "gradient",
        gradient: float = 1.0,
    ) -> dict[str, list[Any]]:
        """Return a landscape whose loss and gradient change linearly, up to what is given."""
        found: list[dict[str, Any]] = []
        for step in steps:
            for eta in etas:
                grown = eta / max(etas)
                moved = change * grown
                found.append(
                    {
                        **{"step": step, "metric": metric, "direction": direction, "eta": eta * lr},
                        **{"loss_at_zero": 2.0, "loss": 2.0 + band * grown, "grad_norm": gradient},
                        **{
                            "grad_norm_at": 1.0,
                            "grad_diff": moved,
                            "cosine": 0.5,
                            "weight_norm": 1.0,
                        },
                        "beta": moved / (eta * lr * gradient) if beta is None else beta,
                    }
                )
        return {key: [row[key] for row in found] for key in found[0]}

    @staticmethod
    def wobble(seed: int, size: float = 0.02) -> float:
        """Return a factor near 1, another for each seed: seeds differ."""
        return 1 + size * (seed % 5 - 2)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "runs").mkdir()
    return Folder(tmp_path / "runs")


@pytest.fixture
def compared(folder: Folder) -> Callable[..., None]:
    """Writes a landscape of each model at each seed: ``make(place, wobble)``."""

    def write(
        make: Callable[[int, float], Rows],
        sweep: str = "fig4_landscape",
        models: Sequence[str] = ("vgg", "vgg_bn"),
        seeds: Iterable[int] = folder.seeds,
        accuracy: float = 0.8,
        **kept: Any,
    ) -> None:
        for seed in seeds:
            for place, model in enumerate(models):
                landscape = make(place, folder.wobble(seed if place else 2))
                tables = {"landscape": landscape, "metrics": folder.final(accuracy)}
                folder.write(model, seed, tables, sweep=sweep, **kept)

    return write


@pytest.fixture
def fixed() -> float:
    return rules().fixed.timestamp()
