"""When the model is evaluated on whole sets."""

from typing import Any

import pytorch_lightning as pl

from src.callbacks.record import Record
from src.models.evaluation import Batches, evaluate, without_noise


class Evaluate(pl.Callback):
    """Every few steps and after the last: the fixed training images and the whole test set."""

    def __init__(self, record: Record, every: int, train: Batches, test: Batches) -> None:
        self.record, self.every = record, every
        self.sets = {"train_eval": train, "val": test}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate the parameters after this step's update; the row's step counts the updates."""
        done = trainer.global_step
        if done % self.every and done < trainer.max_steps:
            return
        noise, variant = pl_module.settings.noise, pl_module.settings.variant
        pl_module.moment.step = done
        with trainer.precision_plugin.val_step_context():
            if variant.noise and noise.evaluation == "off":
                with without_noise(pl_module, self.sets["train_eval"]):
                    scores = {name: evaluate(pl_module, s) for name, s in self.sets.items()}
            else:
                scores = {name: evaluate(pl_module, s) for name, s in self.sets.items()}
        self.record.add(
            trainer, done, {f"{s}/{k}": v for s, vs in scores.items() for k, v in vs.items()}
        )
