"""One line of progress on a terminal; nothing where the output goes elsewhere."""

import sys
import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_REFRESH_SECONDS = 0.5
_WARM_UP_STEPS = 10


class ProgressLine(pl.Callback):
    """Show loss, accuracy, speed and time left; once, what the whole grid will take."""

    cells_to_train = 1  # set by the grid; 1 once its estimate has been given

    def __init__(self, name: str) -> None:
        self.name = name
        self._line: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the line, if someone is there to see it."""
        console = Console()
        self._first, self._start, self._drawn = trainer.global_step, time.monotonic(), 0.0
        if sys.stdout.isatty():  # rich would also draw where FORCE_COLOR is set
            self._line = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._line.add_task(
                self.name, total=trainer.max_steps, completed=self._first, figures=""
            )
            self._line.start()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Redraw at most twice a second, and at the end."""
        now, taken = time.monotonic(), trainer.global_step - self._first
        if taken == 1:  # the first step, slower than all others, does not count
            self._start = now
        elif taken == 1 + _WARM_UP_STEPS:
            self._estimate(now, trainer)
        due = now - self._drawn > _REFRESH_SECONDS or trainer.global_step == trainer.max_steps
        if self._line and due:
            self._drawn = now
            correct = (outputs["output"].argmax(1) == batch[1]) if pl_module.classes else None
            accuracy = "" if correct is None else f"  acc {correct.float().mean():.3f}"
            speed = f"{(taken - 1) / (now - self._start):.1f} steps/s" if taken > 1 else ""
            figures = f"loss {outputs['loss']:.3f}{accuracy}  {speed}"
            self._line.update(self._task, completed=trainer.global_step, figures=figures)

    def _estimate(self, now: float, trainer: pl.Trainer) -> None:
        if ProgressLine.cells_to_train > 1:
            seconds = (now - self._start) / _WARM_UP_STEPS * trainer.max_steps
            cells = ProgressLine.cells_to_train
            console = self._line.console if self._line else Console()
            console.print(
                f"about {_duration(seconds)} a cell, {_duration(cells * seconds)} for the {cells} "
                "cells to train (evaluation not counted)",
                highlight=False,
                soft_wrap=True,
            )
            ProgressLine.cells_to_train = 1

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the line as it stands."""
        if self._line:
            self._line.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Do so too when the run ends early."""
        self.teardown(trainer, pl_module, "fit")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
