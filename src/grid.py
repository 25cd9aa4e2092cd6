"""A grid of cells: what it holds, what of it is left to do, and how it ended."""

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from src.compose import NO_GRIDS
from src.runs.folder import ENDED
from src.runs.identity import run_name
from src.runs.needs import Needs, needs
from src.runs.progress import progress
from src.runs.store import RunStore
from src.settings import Settings
from src.terminal import uncut

_FORCE = re.compile(r"\+*force=.*")


@dataclass(frozen=True)
class Cell:
    """One point of the grid: its overrides as Hydra takes them, its settings and its run."""

    overrides: tuple[str, ...]
    settings: Settings

    @property
    def alone(self) -> list[str]:
        """The overrides that ask for it by itself, and not for all grids of a sweep."""
        named = any(re.match(r"\+*sweeps[@=]", override) for override in self.overrides)
        return [*self.overrides, *[NO_GRIDS] * named]

    @property
    def run(self) -> str:
        """The run's name."""
        return run_name(self.settings)

    @property
    def probes(self) -> Needs:
        """The probes it asks for."""
        return needs(self.settings)


class Grid:
    """The cells one command asks for."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = cells
        first = cells[0].settings
        self.store = RunStore(Path(first.runs_dir))
        runs = ",".join(sorted({cell.run for cell in cells}))
        digest = hashlib.sha256(runs.encode()).hexdigest()[:8]
        self.name = first.sweep or f"grid-{digest}"
        self._before = {cell.run: self._updated(cell.run) for cell in cells}
        # What makes one of the cells, trained by itself, a member of this grid.
        self.membership = [] if first.sweep else [f"sweep={self.name}"]

    def _updated(self, run: str) -> float | None:
        """Return when a run was last trained, by the clock of whatever trained it."""
        return (self.store.attempt(run).status() or {}).get("updated")

    def to_train(self) -> list[Cell]:
        """Return the cells that have something left to do; of equal cells one."""
        first: dict[str, Cell] = {}
        for cell in self.cells:
            first.setdefault(json.dumps([cell.run, cell.probes]), cell)
        return [
            cell
            for cell in first.values()
            if cell.settings.force or not self.store.folder(cell.run).serves(cell.probes)
        ]

    def announce(self, console: Console, command: str) -> None:
        """Write the manifest, with the command that asks for the grid; say what lies ahead.

        Whoever gives that command later wants what is left, and not all of it once more.
        """
        words = [word for word in shlex.split(command) if not _FORCE.fullmatch(word)]
        command = shlex.join(words)
        asked = [{"overrides": c.overrides, "run": c.run, "probes": c.probes} for c in self.cells]
        self.store.add_to_sweep(self.name, [cell | {"command": command} for cell in asked])
        left = len({cell.run for cell in self.to_train()})
        total = len({cell.run for cell in self.cells})
        scales = ", ".join(sorted({cell.settings.scale for cell in self.cells}))
        cells = f"{len(self.cells)} cell{'s' * (len(self.cells) > 1)}"
        shared = f" ({total} runs)" if total < len(self.cells) else ""
        console.print(
            f"{self.name}: scale {scales}, {cells}{shared}, {total - left} already complete",
            highlight=False,
        )

    def report(self, console: Console, ends: Mapping[str, str]) -> bool:
        """Print the table of the cells; tell whether none failed or is left.

        Args:
            console: Where to.
            ends: By run, how its training failed in the eyes of what launched it: what was raised,
                how its process ended. A run that says it has ended has.
        """
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("model", "lr", "seed", "state", "train acc", "test acc", "time", "folder"):
            table.add_column(heading, justify="left" if heading in ("model", "folder") else "right")
        failed: list[tuple[Cell, str]] = []
        lacking: dict[str, str] = {}
        left: list[Cell] = []
        for cell in self.cells:
            folder, settings = self.store.folder(cell.run), cell.settings
            found = progress(self.store, cell.run, cell.probes, settings.force)
            status, metrics = folder.status() or {}, folder.final_metrics()
            seconds = status.get("seconds")
            new = self._updated(cell.run) != self._before[cell.run]
            ended = found.state in ENDED and (new or not settings.force)
            bad = found.state in ("failed", "stopped", "stale")
            bad |= cell.run in ends and not ended
            if not (ended or bad):
                left.append(cell)
            heard = found.state in ("failed", "stopped") and (new or cell.run not in ends)
            told = found.message if heard else None
            if found.state == "completed" and found.message:
                lacking[cell.run] = found.message
            if bad:
                failed.append((cell, told or ends.get(cell.run, found.state)))
            table.add_row(
                settings.model.name,
                f"{settings.optim.lr:g}",
                str(settings.seed),
                "failed" if bad and not told else found.state,
                _percent(metrics.get("train_eval/accuracy")),
                _percent(metrics.get("val/accuracy")),
                "" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d}",
                escape(str(folder.path)),
            )
        console.print(uncut(table), soft_wrap=True)
        for run, message in lacking.items():
            told = f"{run}: {message}; force=true trains it again"
            console.print(told, highlight=False, markup=False, soft_wrap=True)
        if failed:
            console.print(f"\n{len(failed)} of {len(self.cells)} cells failed:", style="bold red")
            before = None
            for cell, message in failed:
                line = message.splitlines()[0]
                told = "likewise" if line == before else line
                console.print(f"  {cell.run}: {told}", highlight=False, markup=False)
                before = line
            forced = any(cell.settings.force for cell, _ in failed)
            which = "all again" if forced else "them again, and only them"
            console.print(f"The same command trains {which}; one alone:")
            _print_alone(console, [cell for cell, _ in failed])
        # Another process trains them, or SLURM, which takes one of a run's cells at a time.
        if left:
            told = f"{len(left)} of {len(self.cells)} cells are left"
            if any(cell.settings.force for cell in left):
                console.print(f"{told}; the same command trains all again; one alone:")
                _print_alone(console, left)
            else:
                console.print(f"{told}: give the command again")
        return not failed and not left


def _print_alone(console: Console, cells: Sequence[Cell]) -> None:
    for cell in cells:
        command = shlex.join(["python", "-m", "src.train", *cell.alone])
        console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f} %"
