"""When the model is evaluated on whole sets."""

from contextlib import nullcontext
from typing import Any

import pytorch_lightning as pl

from src.callbacks.record import Record
from src.models.evaluation import BatchSource, evaluate, without_noise


class Evaluate(pl.Callback):
    """Every few steps and after the last: the fixed training data and the whole test set, if any.

    Where noise is on, the test set takes ``noise.passes`` passes and one at the mean noise; the
    training data take one pass.
    """

    def __init__(
        self, record: Record, every: int, train: BatchSource, test: BatchSource | None
    ) -> None:
        self.record, self.every, self.train, self.test = record, every, train, test

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate the parameters after this step's update; the row's step counts the updates."""
        done = trainer.global_step
        if done % self.every and done < trainer.max_steps:
            return
        pl_module.clock.step = done
        noise = pl_module.settings.noise
        off = pl_module.settings.variant.noise and noise.evaluation == "off"
        undisturbed = without_noise(pl_module, self.train) if off else nullcontext()
        with trainer.precision_plugin.val_step_context(), undisturbed:
            scores = {"train_eval": evaluate(pl_module, self.train)}
            if self.test:
                scores["val"] = evaluate(pl_module, self.test, noise.passes, mean_noise=True)
        self.record.add(
            trainer, done, {f"{s}/{k}": v for s, vs in scores.items() for k, v in vs.items()}
        )
