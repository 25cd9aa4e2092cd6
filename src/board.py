"""What a person sees of cells that train in other processes."""

import sys
from collections.abc import Collection
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

    def __init__(self, store: RunStore, cells: Collection[Cell]) -> None:
        self.store, self.cells = store, {cell.run: cell for cell in cells}
        self._ended, self._total = 0, len(cells)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
        self._bars = Bars(*columns, console=Console(), disable=not sys.stdout.isatty())
        self._tasks: dict[str, TaskID] = {}

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

    def show(self, running: Collection[str]) -> None:
        """Bring the bars up to date."""
        if self._bars.disable:
            return
        for run in running:
            if run not in self._tasks:
                self._tasks[run] = self._bars.add_task(run, total=None)
            found = self._progress(run)
            self._bars.update(self._tasks[run], total=found.max_steps, completed=found.step or 0)

    def ended(self, run: str) -> None:
        """Say how a cell has ended."""
        self._ended += 1
        if run in self._tasks:
            self._bars.remove_task(self._tasks.pop(run))
        found = self._progress(run)
        told = "" if found.message is None else f": {found.message}"
        self._bars.console.print(
            f"{self._ended}/{self._total} {run} {found.state}{told}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def _progress(self, run: str) -> Progress:
        cell = self.cells[run]
        return progress(self.store, run, cell.probes, cell.settings.force)
