"""What a person sees of cells that train in other processes."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from src.grid import Cell
from src.runs.progress import Progress, progress
from src.runs.store import RunStore


class Board:
    """A line for each cell that has ended; on a terminal a bar for each that is under way."""

    def __init__(self, store: RunStore, total: int) -> None:
        self.store, self.total, self._ended = store, total, 0
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
        self._bars = Bars(*columns, console=Console(), disable=not sys.stdout.isatty())
        self._running: dict[str, tuple[Cell, TaskID]] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def began(self, cell: Cell) -> None:
        """Give a cell a bar."""
        self._running[cell.run] = cell, self._bars.add_task(cell.run, total=None)

    def show(self) -> None:
        """Bring the bars up to date."""
        if self._bars.disable:
            return
        for cell, task in self._running.values():
            found = self._progress(cell)
            self._bars.update(task, total=found.max_steps, completed=found.step or 0)

    def ended(self, run: str) -> None:
        """Say how a run's cell has ended."""
        self._ended += 1
        cell, task = self._running.pop(run)
        self._bars.remove_task(task)
        found = self._progress(cell)
        told = "" if found.message is None else f": {found.message}"
        self._bars.console.print(
            f"{self._ended}/{self.total} {run} {found.state}{told}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def _progress(self, cell: Cell) -> Progress:
        return progress(self.store, cell.run, cell.probes, cell.settings.force)
