"""Checkpoints, orderly stops, and the sign of life between them."""

import signal
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any, Protocol

import pytorch_lightning as pl

from src.runs.folder import RunFolder

_HEARTBEAT_SECONDS = 5.0


class Written(Protocol):
    """A callback whose rows must be on disk before a checkpoint is."""

    def write(self) -> None:
        """Write them to the run folder."""


class Stopped(SystemExit):
    """A signal asked the run to stop; its checkpoint is whole."""

    def __init__(self, received: signal.Signals, step: int) -> None:
        super().__init__(128 + received)
        self.received, self.step = received, step

    def __str__(self) -> str:
        return f"stopped by {self.received.name} at step {self.step}"


class Checkpoint(pl.Callback):
    """Save every few steps and, when a signal asks, at the end of the step; then stop.

    With ``keep`` a checkpoint is kept by its step too, and the last step has one.

    Comes last of the callbacks that record, so that a checkpoint holds all that its step produced.
    A second Ctrl-C stops at once.
    """

    def __init__(
        self, folder: RunFolder, tables: Sequence[Written], every: int, keep: bool
    ) -> None:
        self.folder, self.tables, self.every, self.keep = folder, tables, every, keep
        self._received: signal.Signals | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._beat = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals over from Lightning, whose own handlers leave no exact checkpoint."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's wish is respected
                self._handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._received = signal.Signals(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save where it is due.

        Raises:
            Stopped: If a signal came. At the last step too, or a grid would go on with the next.
        """
        done = trainer.global_step
        if time.monotonic() - self._beat > _HEARTBEAT_SECONDS:
            self._beat = time.monotonic()
            self.folder.update_status(step=done, updated=time.time())
        ending = self.keep and done == trainer.max_steps
        if done % self.every and not ending and not self._received:
            return
        for table in self.tables:
            table.write()
        with self.folder.new_checkpoint(kept=done if self.keep else None) as path:
            trainer.save_checkpoint(path)
        if self._received:
            raise Stopped(self._received, done)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Name the run: a checkpoint of another may well fit its network."""
        checkpoint["run"] = self.folder.path.name

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back here too: Lightning tears down after an orderly end alone."""
        self.teardown(trainer, pl_module, "fit")
