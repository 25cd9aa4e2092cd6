"""Runs made by hand: folders as training leaves them, with curves shaped like the papers'."""

import json
import math
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy
import polars
import pytest
import yaml

from src.runs.tables import COLUMNS

# By variant: how fast it learns, how rough its landscape is, how unstable its activations are.
SHAPES = {
    "": (1500, 3.0, 0.05),
    "bn": (350, 1.0, 0.003),
    "noisy": (550, 1.2, 0.33),
    "plain_noisy": (math.inf, 0.5, 0.3),
    "l1": (330, 1.1, 0.02),
    "l2": (360, 1.0, 0.02),
    "linf": (340, 1.05, 0.04),
    "layer": (500, 1.2, 0.03),
    "group": (450, 1.1, 0.02),
    "instance": (400, 1.1, 0.02),
}
STEP_SIZES = {"vgg": (0.5, 1, 2, 4), "mlp": (0.5, 1, 2, 4), "dln": (0.01, 0.1, 1, 10, 30)}
PROBED = {"every": 100, "batch": "training", "precision": "float32", "update": "optimiser"}
LAYERS = {"vgg": 16, "dln": 25, "mlp": 4}


def _write(folder: Path, name: str, rows: list[tuple[Any, ...]]) -> None:
    schema = {"step": polars.Int64, "name": polars.String, "value": polars.Float64}
    frame = polars.DataFrame(rows, COLUMNS.get(name, schema), orient="row")
    frame.write_parquet(folder / f"{name}.parquet")


def _config(model: str, lr: float, seed: int, steps: int, scale: str) -> dict[str, Any]:
    return {
        "model": {"name": model, "depth": 16, "width": 0.25, "head": "512", "activation": "relu"}
        | {"dropout": 0.0, "affine": True, "normalise_head": True, "statistics": "batch"},
        "noise": {"n_mu": 0.5, "n_sigma": 1.25, "r_mu": 0.1, "r_sigma": 0.1, "per": "position"}
        | {"relative": False},
        "init": {"name": "glorot_normal", "gain": 1.0},
        "data": {"name": "cifar10", "batch_size": 128, "augment": False, "normalise": True},
        "optim": {"lr": lr, "momentum": 0.0, "weight_decay": 0.0},
        "scale": scale,
        "seed": seed,
        "precision": "32-true",
        "max_steps": steps,
        "log_every": 10,
        "eval_every": 500,
    }


def _histogram(mean: float, spread: float) -> tuple[list[float], list[int]]:
    edges = numpy.linspace(mean - 4 * spread, mean + 4 * spread, 129)
    middle = (edges[1:] + edges[:-1]) / 2
    counts = 2000 * numpy.exp(-(((middle - mean) / spread) ** 2) / 2)
    return edges.tolist(), counts.astype(int).tolist()


def make_run(
    root: Path,
    model: str = "vgg",
    lr: float = 0.1,
    seed: int = 0,
    *,
    steps: int = 3000,
    scale: str = "small",
    config: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    diverged_at: int | None = None,
    tables: tuple[str, ...] = ("metrics", "ics", "landscape", "activations", "theory"),
    accuracy: float | None = None,
    units: int = 2,
) -> Path:
    """Write one run's folder.

    Args:
        root: The runs folder.
        model: Its name.
        lr: Learning rate.
        seed: Of the run, and of its curves.
        steps: How many it was to train.
        scale: Its name.
        config: Dotted keys to set or change.
        status: Entries of ``status.json`` to set or change.
        diverged_at: The step it diverged at; None: it completed.
        tables: Which of its tables to write.
        accuracy: The final accuracy, a fraction; None: by the variant and the learning rate.
        units: How many units of a layer the activations table holds.
    """
    network, _, variant = model.partition("_")
    half, rough, unstable = SHAPES[variant]
    drawn = numpy.random.default_rng([seed, len(model), round(1e9 * lr)])
    settings = _config(model, lr, seed, steps, scale)
    for key, value in (config or {}).items():
        *path, last = key.split(".")
        branch = settings
        for name in path:
            branch = branch.setdefault(name, {})
        branch[last] = value
    told = json.dumps([lr, seed, steps, scale, sorted((config or {}).items())])
    folder = root / f"{model}-{zlib.crc32(told.encode()):08x}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    ended = steps if diverged_at is None else diverged_at
    (folder / "status.json").write_text(
        json.dumps(
            {
                "state": "completed" if diverged_at is None else "diverged",
                "step": ended,
                "max_steps": steps,
                "seconds": 100.0 + seed,
                "started": 1.8e9,
                "message": None if diverged_at is None else f"the loss is nan at step {ended}",
                "device": "cpu",
                "threads": 1,
                "machine": {"host": "here", "platform": "Linux"},
                "versions": {"torch": "2.14.1"},
                "git": {"commit": "0123456789abcdef", "dirty": False},
                "data": "cifar10 (by hand)",
                "probes": {name: PROBED for name in tables if name != "metrics"},
            }
            | dict(status or {})
        )
    )
    fails = network == "vgg" and variant == "" and lr > 0.3
    half = math.inf if fails else half * drawn.uniform(0.85, 1.15) * (1 + (lr > 0.3))

    def learnt(step: float) -> float:
        return 0.1 if half == math.inf else 1 - 0.9 / (1 + (step / half) ** 1.3)

    def loss(step: float) -> float:
        if network == "dln":
            return 4e4 / (1 + step / (3 if variant else 12)) + (100 * rough)
        return 2.3 * (1 - learnt(step)) / 0.9 + 0.02

    metrics: list[tuple[Any, ...]] = []
    for step in range(0, ended, 10):
        metrics.append((step, "train/loss", loss(step) * drawn.uniform(0.95, 1.05)))
        if network != "dln":
            seen = min(1.0, max(0.0, learnt(step) + drawn.normal(0, 0.03)))
            metrics.append((step, "train/accuracy", seen))
    if network != "dln":
        for step in range(500, ended + 1, 500):
            final = learnt(step) if accuracy is None else accuracy
            metrics.append((step, "train_eval/accuracy", final))
            metrics.append((step, "val/accuracy", 0.85 * final))
    written: dict[str, list[tuple[Any, ...]]] = {"metrics": metrics}
    ics, landscape, activations, theory = (
        written.setdefault(name, []) for name in ("ics", "landscape", "activations", "theory")
    )
    for step in range(0, ended, 100):
        early = math.exp(-step / 1000)
        for layer in range(1, LAYERS[network] + 1):
            cosine = math.tanh(2 * early / rough + drawn.normal(0, 0.1))
            size = (
                rough * (0.1 + early) * drawn.uniform(0.7, 1.4) * (1e4 if network == "dln" else 1)
            )
            ics.append((step, layer, f"layer{layer}", size, cosine, size / 2, 2.0, 2.0, 1.0))
        spike = 1 + 3 * rough * (drawn.uniform() < 0.1)
        for multiple in STEP_SIZES[network]:
            eta, grad = multiple * lr, rough * (1 + early)
            difference = grad * spike * min(2.0, multiple) * drawn.uniform(5, 8)
            at = loss(step) * (1 + 0.2 * rough * spike * multiple)
            for metric in ("euclidean", "relative"):
                row = (step, metric, "gradient", eta, loss(step), at, grad, grad, difference, 0.1)
                landscape.append((*row, difference / (eta * grad), 10.0))
        for moment in (step, step + 1):
            for layer in range(1, LAYERS[network]):
                for unit in (None, *range(units)):
                    mean = (0.5 * (1 - early) if not variant else 0) + drawn.normal(0, unstable)
                    spread = 1 + 0.1 * layer * (1 - early) * (not variant)
                    edges, counts = _histogram(mean, spread)
                    name, spots = f"layer{layer}", (mean - spread, mean, mean + spread)
                    row = (moment, layer, name, "after_noise", unit, mean, spread**2)
                    activations.append((*row, *spots, edges, counts))
    for step in range(0, ended, 100):
        for layer in (1, 2, 3):
            values = {"gradient_ratio": 0.5, "factor_weighted": 0.8, "mean_share": 0.1}
            values["correlation_share"] = 0.2
            theory += [(step, layer, name, layer * value) for name, value in values.items()]
    for name in tables:
        _write(folder, name, written[name])
    return folder


@pytest.fixture(scope="session")
def run() -> Callable[..., Path]:
    """Writes one run's folder by hand; see :func:`make_run`."""
    return make_run


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with every figure's runs, two seeds each, some of them diverged."""
    return make_all(tmp_path_factory.mktemp("full"), seeds=2, steps=1000)


def make_all(root: Path, seeds: int, steps: int) -> Path:
    """Write the runs of every figure."""
    everything = ("metrics", "ics", "landscape", "activations", "theory")
    for seed in range(seeds):
        for model in ("vgg", "vgg_bn"):
            for lr in (0.01, 0.5):
                make_run(root, model, lr, seed, steps=steps, tables=("metrics", "ics"))
        for variant in SHAPES:
            model = f"vgg_{variant}".rstrip("_")
            ends = 700 if variant == "plain_noisy" and seed == 0 else None
            make_run(root, model, 0.1, seed, steps=steps, tables=everything, diverged_at=ends)
            if variant in ("", "bn", "l1", "l2", "linf"):
                dln = f"dln_{variant}".rstrip("_")
                for lr in (1e-6, 1e-7):
                    make_run(root, dln, lr, seed, steps=steps, scale="paper", tables=everything[:3])
        for model in ("mlp", "mlp_bn"):
            tables = ("metrics", "activations")
            make_run(
                root, model, 0.1, seed, steps=steps, tables=tables, config={"data.name": "mnist"}
            )
        for model in ("vgg", "vgg_bn"):
            for gain in (0.5, 2.0):
                for lr in (0.1, 0.5):
                    config = {"init.gain": gain}
                    make_run(root, model, lr, seed, steps=steps, config=config, tables=("metrics",))
            from_he = {"init.name": "he_normal"}
            make_run(root, model, 0.1, seed, steps=steps, config=from_he, tables=everything[:3])
            on_same = {"probes": {"activations": PROBED | {"batch": "fixed"}}}
            changed, tables = {"data.augment": True}, ("metrics", "activations")
            make_run(
                root, model, 0.1, seed, steps=steps, config=changed, tables=tables, status=on_same
            )
            absolute = {"probes": {"landscape": PROBED | {"step_sizes_are": "absolute"}}}
            changed = {"optim.weight_decay": 5e-4}
            make_run(
                root,
                model,
                0.1,
                seed,
                steps=steps,
                config=changed,
                tables=everything[:3],
                status=absolute,
            )
            for changed in (
                {"model.dropout": 0.5},
                {"model.activation": "sigmoid"},
                {"data.batch_size": 8},
            ):
                make_run(root, model, 0.1, seed, steps=steps, config=changed, tables=("metrics",))
        for model, changed in (
            ("vgg", {"init.name": "unit_variance"}),
            ("vgg_bn", {"model.statistics": "running"}),
            ("vgg_plain_noisy", {"noise.relative": True}),
        ):
            make_run(root, model, 0.1, seed, steps=steps, config=changed, tables=("metrics",))
        for n_mu in (0.25, 1.0):
            for lr in (0.1, 0.5):
                config = {"noise.n_mu": n_mu}
                make_run(
                    root, "vgg_noisy", lr, seed, steps=steps, config=config, tables=("metrics",)
                )
    return root
