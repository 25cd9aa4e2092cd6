"""What a run measures about its own training, kept as rows."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy

from src.runs.folder import Row, RunFolder


class Diverged(Exception):
    """The training loss became NaN or infinite."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the training loss is not finite at step {step}")
        self.step = step


class Record(pl.Callback):
    """Keep the minibatch's loss and accuracy every few steps and at the last; mirror them at W&B.

    Only a classifier has an accuracy. The rows travel with the checkpoint, so a resumed run neither
    loses nor repeats one. The first step whose loss is not finite is remembered on the device and
    asked for only when a row is due, so a step costs no synchronisation; for torchmetrics to
    validate the labels would be one.
    """

    def __init__(self, folder: RunFolder, every: int) -> None:
        self.folder, self.every = folder, every
        self.rows: list[Row] = []
        self._nonfinite: Tensor | None = None  # the first step whose loss was not finite, or inf
        self._restored = math.inf

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Record the step just taken.

        Raises:
            Diverged: If its loss, or one since the last recorded step, was not finite.
        """
        step, loss = trainer.global_step - 1, outputs["loss"]
        if self._nonfinite is None:
            self._nonfinite = torch.full_like(loss, self._restored)
        self._nonfinite.clamp_(max=torch.where(loss.isfinite(), torch.inf, step))
        if step % self.every and trainer.global_step < trainer.max_steps:
            return
        found = {"train/loss": loss}
        if classes := pl_module.classes:
            output, labels = outputs["output"], batch[1]
            found["train/accuracy"] = multiclass_accuracy(
                *(output, labels, classes), average="micro", validate_args=False
            )
        *values, nonfinite = torch.stack(
            [value.to(loss.dtype) for value in (*found.values(), self._nonfinite)]
        ).tolist()
        self.add(trainer, step, dict(zip(found, values, strict=True)))
        if nonfinite < torch.inf:
            raise Diverged(int(nonfinite))

    def add(self, trainer: pl.Trainer, step: int, values: dict[str, float]) -> None:
        """Add a row a value."""
        self.rows += [(step, name, value) for name, value in values.items()]
        for logger in trainer.loggers:
            logger.log_metrics(values, step)

    def write(self) -> None:
        """Write all rows so far to ``metrics.parquet``."""
        self.folder.write_metrics(self.rows)

    def state_dict(self) -> dict[str, Any]:
        """Return the rows, and the first step whose loss was not finite, for the checkpoint."""
        nonfinite = self._restored if self._nonfinite is None else float(self._nonfinite)
        return {"rows": self.rows, "nonfinite": nonfinite}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back from the checkpoint."""
        self.rows, self._restored = state_dict["rows"], state_dict["nonfinite"]
