"""What training costs: steps, batches, the start, the memory."""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch.optim.optimizer import register_optimizer_step_post_hook

from src import models
from src.compose import settings_of
from src.data.digits import digits
from src.data.feed import feed
from src.data.loader import Batches
from src.runs.folder import RunFolder
from src.settings import ImageSettings, Settings
from src.training import train

ROOT = Path(__file__).resolve().parents[1]
os.environ["BATCHNORM_ROOT"] = str(ROOT)  # conf/train.yaml looks for sweeps/ there
WARM_UP, STEPS = 3, 12


def settings(*overrides: str) -> Settings:
    """Compose the ``small`` scale on the digits, without evaluation before the end."""
    fixed = ["data=digits", "logger=none", f"max_steps={WARM_UP + STEPS}", "eval_every=1000000"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return settings_of(compose("train", [*fixed, "checkpoint_every=1000000", *overrides]))


@contextmanager
def step_times() -> Iterator[list[float]]:
    """Collect the seconds between the ends of successive optimiser steps, warm-up left out."""
    ends: list[float] = []
    handle = register_optimizer_step_post_hook(lambda *_: ends.append(time.perf_counter()))
    times: list[float] = []
    try:
        yield times
    finally:
        handle.remove()
        times += [after - before for before, after in pairwise(ends)][WARM_UP:]


def under_lightning(chosen: Settings) -> tuple[float, list[float]]:
    """Train as the command does; return the median step's seconds and the losses."""
    with tempfile.TemporaryDirectory() as place, step_times() as times:
        folder = RunFolder(Path(place))
        train(chosen, {}, folder, "bench", {})
        losses = _losses(folder)
    return statistics.median(times), losses


def by_hand(chosen: Settings) -> tuple[float, list[float]]:
    """Train by a plain loop with the same network and batches; return the same."""
    batches = batches_of(chosen)
    model = models.build(chosen, classes=10).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(model.parameters(), lr=chosen.optim.lr)
    losses = []
    with step_times() as times:
        for step in range(chosen.max_steps):
            model.clock.step = step
            images, labels = batches.batch(step)
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(model.network(images), labels)
            loss.backward()
            optimiser.step()
            if step % chosen.log_every == 0 or step == chosen.max_steps - 1:
                losses.append(loss.item())
    return statistics.median(times), losses


def our_loader(chosen: Settings) -> float:
    """Return the seconds our loader takes for a batch."""
    batches = batches_of(chosen)
    return median_time(batches.batch)


def pil_loader(chosen: Settings) -> float:
    """Return the seconds torchvision's CIFAR10 under a DataLoader with two workers takes."""
    from torchvision.datasets import CIFAR10
    from torchvision.transforms import Compose, Normalize, ToTensor

    images = digits()
    dataset = CIFAR10.__new__(CIFAR10)  # its images put in by hand: no file is needed
    repeats = 8
    dataset.data = images.train_images.permute(0, 2, 3, 1).repeat(repeats, 1, 1, 1).numpy()
    dataset.targets = images.train_labels.repeat(repeats).tolist()
    dataset.transform = Compose([ToTensor(), Normalize(images.mean, images.std)])
    dataset.target_transform = None
    assert isinstance(chosen.data, ImageSettings)
    loader = torch.utils.data.DataLoader(
        dataset, chosen.data.batch_size, shuffle=True, num_workers=2, drop_last=True
    )
    batches = iter(loader)
    return median_time(lambda _: next(batches))


def first_step(*overrides: str) -> float:
    """Run the real command; return the seconds to its first step, and stop it there."""
    with tempfile.TemporaryDirectory() as place, _command(place, *overrides) as process:
        began = time.perf_counter()
        while process.poll() is None:
            if any(status["step"] >= 1 for status in _statuses(place)):
                return time.perf_counter() - began
            time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} took no step")


def peak_memory(*overrides: str) -> float:
    """Run the real command for three steps and an evaluation; return its peak memory in GiB."""
    with tempfile.TemporaryDirectory() as place, _command(place, "max_steps=3", *overrides) as run:
        _, exit_status, usage = os.wait4(run.pid, 0)
        run.returncode = exit_status
    if exit_status:
        raise RuntimeError(f"{run.args!r} did not get to its end")
    return usage.ru_maxrss * (1 if platform.system() == "Darwin" else 1024) / 2**30


def two_cells(launcher: str) -> float:
    """Train two cells; return the seconds from the first one's start to the last one's end.

    Importing torch comes before and is left out.
    """
    cells = ("max_steps=100", "seed=0,1", "data=digits", "logger=none")
    launched = (*cells, f"hydra/launcher={launcher}")
    with tempfile.TemporaryDirectory() as place, _command(place, *launched) as run:
        if run.wait():
            raise RuntimeError(f"{run.args!r} did not get to its end")
        statuses = _statuses(place)
        return max(s["updated"] for s in statuses) - min(s["started"] for s in statuses)


def _statuses(place: str) -> list[dict[str, Any]]:
    found = (RunFolder(path.parent).status() for path in Path(place).glob("*/status.json"))
    return [status for status in found if status]


@contextmanager
def _command(place: str, *overrides: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "src.train", "scale=small", f"runs_dir={place}", *overrides]
    null = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, stdout=null, stderr=null)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def refusal() -> float:
    """Return the seconds until a wrong setting is answered."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "src.train", "optim.lr=-1"]
    outcome = subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    if outcome.returncode != 2:
        raise RuntimeError("a wrong setting was not refused")
    return time.perf_counter() - began


def batches_of(chosen: Settings) -> Batches:
    """Return a run's training batches, of digits."""
    batches = feed(chosen, torch.device("cpu"), channels_last=True, start=lambda: 0).training
    assert isinstance(batches, Batches)
    return batches


def _losses(folder: RunFolder) -> list[float]:
    import polars

    rows = polars.read_parquet(folder.path / "metrics.parquet")
    return rows.filter(polars.col("name") == "train/loss")["value"].to_list()


def median_time(call: Callable[[int], object], repeats: int = 60) -> float:
    """Return the median seconds of a call, the first third of the calls left out."""
    times = []
    for number in range(repeats):
        began = time.perf_counter()
        call(number)
        times.append(time.perf_counter() - began)
    return statistics.median(times[repeats // 3 :])
