"""Say how far the sweeps of a runs folder are: ``python -m src.status runs``."""

import argparse
import dataclasses
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from src.runs.folder import ENDED
from src.runs.progress import STATES, Progress, progress
from src.runs.queue import Job, QueueError, jobs
from src.runs.reading import read_manifests
from src.runs.store import RunStore
from src.terminal import uncut

_WATCH_SECONDS = 5
_UNDER_WAY = ("running", "queued")


@dataclass(frozen=True)
class Sweep:
    """A sweep's cells, and the commands that train those that are not done and not under way."""

    cells: list[Progress]
    commands: list[str]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the status; a folder that is not there is one line and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m src.status",
        description="Say by sweep how many cells are completed, diverged, running, queued, "
        "stopped, stale, failed or missing.",
    )
    parser.add_argument("runs", type=Path, help="the runs folder")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="show anew until nothing runs or waits")
    how.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    if not chosen.runs.is_dir():
        print(f"{chosen.runs} is not a folder of runs", file=sys.stderr)
        raise SystemExit(2)
    if chosen.json:
        sweeps, problems = status(chosen.runs)
        found = {name: dataclasses.asdict(sweep) for name, sweep in sweeps.items()}
        print(json.dumps({"sweeps": found, "problems": problems}, indent=1))
    else:
        if chosen.watch:
            with suppress(KeyboardInterrupt):  # the usual way to leave
                watch(chosen.runs)
        Console(soft_wrap=True).print(shown(*status(chosen.runs)))


def status(root: Path) -> tuple[dict[str, Sweep], list[str]]:
    """Return the sweeps under a runs folder, and a line for each thing that cannot be read."""
    problems: list[str] = []
    store, manifests = RunStore(root), read_manifests(root, problems)
    try:
        queue = jobs(root)
    except QueueError as error:
        queue = {}
        problems.append(f"SLURM does not answer, so queued runs look missing: {error}")
    members = {cell["run"] for cells in manifests.values() for cell in cells}
    alone = sorted({path.parent.name for path in root.glob("*/status.json")} - members)
    if alone:
        manifests["of no sweep"] = [{"run": run, "probes": {}} for run in alone]
    return {name: _sweep(store, cells, queue) for name, cells in manifests.items()}, problems


def _sweep(store: RunStore, cells: Sequence[Mapping[str, Any]], queue: Mapping[str, Job]) -> Sweep:
    found, commands = [], dict[str, None]()
    for cell in cells:
        at = progress(store, cell["run"], cell["probes"])
        job = queue.get(at.run)
        if job and job.live and at.state not in (*ENDED, "running"):
            at = dataclasses.replace(at, state="queued", message=f"job {job.number}, {job.state}")
        if at.state not in (*ENDED, *_UNDER_WAY) and "command" in cell:
            commands[cell["command"]] = None
        found.append(at)
    return Sweep(found, [*commands])


def watch(root: Path) -> None:
    """Show the status anew every few seconds until nothing runs or waits."""
    with Live(auto_refresh=False, transient=True) as live:
        while True:
            sweeps, problems = status(root)
            live.update(shown(sweeps, problems), refresh=True)
            if not any(c.state in _UNDER_WAY for s in sweeps.values() for c in s.cells):
                return
            time.sleep(_WATCH_SECONDS)


def shown(sweeps: Mapping[str, Sweep], problems: Sequence[str]) -> Group:
    """Return what a person sees."""
    counts = {name: Counter(cell.state for cell in s.cells) for name, s in sweeps.items()}
    there = [state for state in STATES if any(c[state] for c in counts.values())]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("sweep", "cells", *there):
        table.add_column(heading, justify="left" if heading == "sweep" else "right")
    for name, of in counts.items():
        table.add_row(name, str(of.total()), *(str(of[state] or "") for state in there))
    told = {cell.run: cell for sweep in sweeps.values() for cell in sweep.cells if _worth(cell)}
    commands = dict.fromkeys(c for sweep in sweeps.values() for c in sweep.commands)
    parts: list[Table | Text] = [uncut(table)] if sweeps else [Text("no run yet")]
    if told:
        parts += [Text(), *(Text(_line(cell)) for cell in told.values())]
    if commands:
        parts += [Text("\nTo finish the rest:"), *(Text(f"  {c}") for c in commands)]
    return Group(*parts, *(Text(problem) for problem in problems))


def _worth(cell: Progress) -> bool:
    if cell.state == "completed":  # without a probe that failed
        return cell.message is not None
    return cell.state not in (*ENDED, "queued") and not (cell.state == "missing" and not cell.step)


def _line(cell: Progress) -> str:
    steps = f" at step {cell.step} of {cell.max_steps}" if cell.step is not None else ""
    left = f", {_duration(cell.seconds_left)} left" if cell.seconds_left is not None else ""
    told = f": {cell.message}" if cell.message else ""
    # The message comes from a file, which may hold what moves a terminal's cursor.
    told = "".join(c if c.isprintable() else "?" for c in told)
    return f"{cell.run} {cell.state}{steps}{left}{told}"


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


if __name__ == "__main__":
    main()
