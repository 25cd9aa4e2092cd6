"""Some cells of a grid fail, each in its own way: the others complete, and the rest is retried."""

import io
import json
import os
import re
import resource
import shlex
from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch

from src.runs.identity import run_name
from src.runs.store import RunStore
from tests.faults.conftest import RUN, TABLE, in_full
from tests.faults.inject import At, Exhaust, Faults, Remove, can_protect, protect

CELLS, FAILING = (200, 20) if TABLE else (8, 3)
FAST = tuple(key for key in RUN if not key.startswith(("probes", "keep", "max_steps")))
GRID = (*FAST, "max_steps=2", f"seed=range({CELLS})")
WAYS = {
    "a checkpoint of another configuration": "is a checkpoint of ",
    "its folder's place taken by a file": "FileExistsError: ",
    "out of memory": "MemoryError",
    "its folder read-only": "PermissionError: ",
    "its folder removed under it": "FileNotFoundError: ",
}


@pytest.fixture
def names(settings):
    """The cells' runs."""
    return {run_name(settings(*FAST, "max_steps=2", f"seed={seed}")) for seed in range(CELLS)}


@pytest.mark.slow
def test_the_others_complete_and_those_are_retried(command, names, chance, tally):
    command = replace(command, patience=2000)
    failing = chance.sample(sorted(names), FAILING)
    ways = [way for way in WAYS if way != "its folder read-only" or can_protect(command.home)]
    way = {run: ways[number % len(ways)] for number, run in enumerate(failing)}
    faults = []
    for run, kind in way.items():
        folder = command.runs_dir / run
        if kind == "a checkpoint of another configuration":
            folder.mkdir(parents=True)
            (folder / "resume.ckpt").write_bytes(foreign())
        elif kind == "its folder's place taken by a file":
            command.runs_dir.mkdir(exist_ok=True)
            folder.touch()
        elif kind == "its folder read-only":
            folder.mkdir(parents=True)
            protect(folder)
        elif kind == "out of memory":
            faults.append(At(rf"{run}/\.metrics", 1, Exhaust()))
        else:
            faults.append(At(rf"{run}/\.metrics", 1, Remove(folder)))
    try:
        done = replace(command, fault=Faults(tuple(faults)))(*GRID, code=None)
    finally:
        for run, kind in way.items():
            if kind == "its folder read-only":
                protect(command.runs_dir / run, on=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    runs = RunStore(command.runs_dir)
    states = {run: runs.folder(run).state() for run in names}
    assert {run for run in names if states[run] == "completed"} == names - way.keys()
    told = re.findall(r"^  (vgg_bn-\w+): (.*)$", done.stdout, re.MULTILINE)
    assert f"\n{FAILING} of {CELLS} cells failed:" in done.stdout
    assert {run for run, _ in told} == way.keys() and len(told) == FAILING
    assert all(WAYS[way[run]] in reason for run, reason in told), told

    commands = [shlex.split(x) for x in done.stdout.splitlines() if " -m src.train " in x]
    (manifest,) = (command.runs_dir / "sweeps").glob("*.json")
    cells = {cell["run"]: cell["overrides"] for cell in json.loads(manifest.read_text())["cells"]}
    assert cells.keys() == names
    assert sorted(words[3:] for words in commands) == sorted(cells[run] for run in way)
    for run, kind in way.items():
        folder = command.runs_dir / run
        if folder.is_file():
            folder.unlink()
        elif kind == "a checkpoint of another configuration":
            (folder / "resume.ckpt").unlink()
    before = {run: written(command, run) for run in names - way.keys()}
    again = command(*GRID)
    assert f"{CELLS} cells, {CELLS - FAILING} already complete" in again.stdout
    assert {runs.folder(run).state() for run in names} == {"completed"}
    assert {run: written(command, run) for run in before} == before
    for kind, count in Counter(way.values()).items():
        tally(f"a cell of a grid: {kind}", "named, the others complete; retried alone", count)
    tally(
        f"a grid of {CELLS} cells, {FAILING} failing in {len({*way.values()})} ways",
        f"{CELLS - FAILING} complete, {FAILING} named, exactly those retried",
    )


def foreign():
    torch.save({"run": "vgg_bn-00000000"}, file := io.BytesIO())
    return file.getvalue()


def written(command, run):
    return {p.name: p.stat().st_mtime_ns for p in (command.runs_dir / run).iterdir()}


@dataclass(frozen=True)
class LimitMemory:
    """As much memory beyond what the process has as a small net needs, not a wide one."""

    def __call__(self) -> None:
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 30), resource.RLIM_INFINITY))


@in_full
@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads its size in /proc")
def test_one_cell_is_too_large_for_the_memory(command, status, tally):
    cells = (*(key for key in FAST if not key.startswith("model.width")), "model.width=8,0.02")
    done = replace(command, fault=LimitMemory())(*cells, "max_steps=2", code=1)
    (line,) = done.stderr.splitlines()
    assert re.search("memory", line), line
    assert "1 of 2 cells failed:" in done.stdout
    assert sorted(status(run)["state"] for run in command.runs()) == ["completed", "failed"]
    tally("out of memory in one cell of two", "one line, the other completes")
