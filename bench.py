"""What a run costs, as ratios measured side by side in one process: ``make bench``.

Competitors take turns, each turn is warmed up, and a figure is the median of its turns' medians.
"""

import json
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

import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table
from torch.optim.optimizer import register_optimizer_step_post_hook

from src import data, models
from src.compose import settings_of
from src.data.feed import feed
from src.runs.folder import RunFolder
from src.settings import ImageSettings, Settings
from src.training import train

ROOT = Path(__file__).parent
os.environ["BATCHNORM_ROOT"] = str(ROOT)  # conf/train.yaml looks for sweeps/ there
TURNS, WARM_UP, STEPS = 5, 3, 12


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
    batches = _batches(chosen)
    model = models.build(chosen, classes=10).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(model.parameters(), lr=chosen.optim.lr)
    losses = []
    with step_times() as times:
        for step in range(chosen.max_steps):
            model.moment.step = step
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
    batches = _batches(chosen)
    return _median(batches.batch)


def pil_loader(chosen: Settings) -> float:
    """Return the seconds torchvision's CIFAR10 under a DataLoader with two workers takes."""
    from torchvision.datasets import CIFAR10
    from torchvision.transforms import Compose, Normalize, ToTensor

    digits = data.load("digits", Path())
    dataset = CIFAR10.__new__(CIFAR10)  # its images put in by hand: no file is needed
    repeats = 8
    dataset.data = digits.train_images.permute(0, 2, 3, 1).repeat(repeats, 1, 1, 1).numpy()
    dataset.targets = digits.train_labels.repeat(repeats).tolist()
    dataset.transform = Compose([ToTensor(), Normalize(digits.mean, digits.std)])
    dataset.target_transform = None
    assert isinstance(chosen.data, ImageSettings)
    loader = torch.utils.data.DataLoader(
        dataset, chosen.data.batch_size, shuffle=True, num_workers=2, drop_last=True
    )
    batches = iter(loader)
    return _median(lambda _: next(batches))


def first_step(*overrides: str) -> tuple[float, float]:
    """Run the real command; return the seconds to its first step and its peak memory in GiB."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "src.train", "max_steps=3", f"runs_dir={place}"]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, *overrides], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        seconds = None
        while seconds is None and process.poll() is None:
            statuses = [
                RunFolder(path.parent).status() for path in Path(place).glob("*/status.json")
            ]
            if any(status and status["step"] >= 1 for status in statuses):
                seconds = time.perf_counter() - began
            time.sleep(0.02)
        _, exit_status, usage = os.wait4(process.pid, 0)
        if seconds is None or exit_status:
            raise RuntimeError(f"{' '.join(command)} did not get to its end")
    unit = 1 if platform.system() == "Darwin" else 1024
    return seconds, usage.ru_maxrss * unit / 2**30


def refusal() -> float:
    """Return the seconds until a wrong setting is answered."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "src.train", "optim.lr=-1"]
    outcome = subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    if outcome.returncode != 2:
        raise RuntimeError("a wrong setting was not refused")
    return time.perf_counter() - began


def alternate(*competitors: Callable[[], float]) -> list[list[float]]:
    """Let competitors take turns; return each one's figures, turn by turn."""
    turns = [[competitor() for competitor in competitors] for _ in range(TURNS)]
    return [list(column) for column in zip(*turns, strict=True)]


def ratio(over: list[float], under: list[float]) -> float:
    """Return the median of the turns' ratios: what disturbs a whole turn cancels."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def main() -> None:
    """Measure, print the table, write ``bench.json``."""
    plain, bn, noisy = (settings(f"model={name}") for name in ("vgg", "vgg_bn", "vgg_noisy"))
    if under_lightning(bn)[1] != by_hand(bn)[1]:
        raise RuntimeError("Lightning and the loop by hand differ in their losses")
    lightning, hand = alternate(lambda: under_lightning(bn)[0], lambda: by_hand(bn)[0])
    steps = alternate(*(lambda s=s: by_hand(s)[0] for s in (plain, bn, noisy)))
    ours, pil = alternate(lambda: our_loader(bn), lambda: pil_loader(bn))
    real = "CIFAR10_ROOT" in os.environ
    source = [] if real else ["data=digits"]
    starts = [first_step("scale=small", "model=vgg_noisy", *source) for _ in range(3)]
    rows: list[tuple[str, float, str, float | None]] = [
        ("Lightning step / loop by hand", ratio(lightning, hand), "", 1.05),
        ("noisy BatchNorm step / BatchNorm step", ratio(steps[2], steps[1]), "", 1.5),
        (
            "our loader / BatchNorm step",
            statistics.median(ours) / statistics.median(steps[1]),
            "",
            0.02,
        ),
        ("torchvision and DataLoader / our loader", ratio(pil, ours), "", None),
        ("command to first step", statistics.median(s for s, _ in starts), "s", 10),
        ("a wrong setting refused", statistics.median(refusal() for _ in range(5)), "s", 1),
        ("peak memory of a small noisy run", max(m for _, m in starts), "GiB", 1.5),
        ("standard step", 1000 * statistics.median(steps[0]), "ms", None),
        ("BatchNorm step", 1000 * statistics.median(steps[1]), "ms", None),
        ("noisy BatchNorm step", 1000 * statistics.median(steps[2]), "ms", None),
        ("our loader, a batch", 1000 * statistics.median(ours), "ms", None),
    ]
    table = Table("what", "measured", "at most", box=None, pad_edge=False)
    for name, value, unit, limit in rows:
        over = limit is not None and value > limit
        measured = f"{value:.3g} {unit}"
        table.add_row(name, f"[red]{measured}[/]" if over else measured, f"{limit or ''}")
    Console().print(table)
    machine = {
        "platform": platform.platform(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "data": "cifar10" if real else "digits",
    }
    figures = {
        name: {"value": value, "unit": unit, "at_most": limit} for name, value, unit, limit in rows
    }
    (ROOT / "bench.json").write_text(json.dumps({"machine": machine, "figures": figures}, indent=1))


def _batches(chosen: Settings) -> data.Batches:
    batches = feed(chosen, torch.device("cpu"), channels_last=True, start=lambda: 0).training
    assert isinstance(batches, data.Batches)
    return batches


def _losses(folder: RunFolder) -> list[float]:
    import polars

    rows = polars.read_parquet(folder.path / "metrics.parquet")
    return rows.filter(polars.col("name") == "train/loss")["value"].to_list()


def _median(call: Callable[[int], object], repeats: int = 60) -> float:
    times = []
    for number in range(repeats):
        began = time.perf_counter()
        call(number)
        times.append(time.perf_counter() - began)
    return statistics.median(times[repeats // 3 :])


if __name__ == "__main__":
    main()
