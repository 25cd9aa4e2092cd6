"""The callbacks under Lightning's own loop, on a network of one number."""

import math

import polars as pl
import pytest
import pytorch_lightning as lightning
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment

from src.callbacks import evaluate
from src.callbacks.checkpoint import Checkpoint
from src.callbacks.record import Diverged, Record
from src.data.loader import Batches
from src.data.transforms import Normaliser
from src.models.clock import Clock
from src.runs.folder import RunFolder


class Killed(Exception):
    """The process ends here."""


class Net(lightning.LightningModule):
    """Learns one number; its loss is infinite at the steps of ``bad``."""

    classes = 10

    def __init__(self, settings, bad, killed_at):
        super().__init__()
        self.killed_at = killed_at
        self.settings, self.bad, self.clock = settings, bad, Clock(0)
        self.number = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        logits = torch.zeros(len(batch[1]), 10) + self.number
        loss = (self.number - 1).square()
        if self.trainer.global_step == self.killed_at:
            raise Killed
        if self.trainer.global_step in self.bad:
            loss = loss + math.inf
        return {"loss": loss, "output": logits}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.fixture
def fit(settings, tmp_path, monkeypatch):
    """Trains in ``tmp_path`` and returns the rows; an evaluation's loss is its step."""
    monkeypatch.setattr(
        evaluate,
        "evaluate",
        lambda module, *_, **__: {"loss": float(module.clock.step), "accuracy": 1.0},
    )
    folder = RunFolder(tmp_path)
    images, labels = torch.zeros(8, 3, 4, 4, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64)
    normaliser = Normaliser(torch.zeros(3), torch.ones(3), False, False, torch.device("cpu"))

    def run(steps, log=1, evaluation=1000, save=1000, bad=(), resume=False, killed_at=None):
        module = Net(settings("data=digits", "scale=smoke", "model=vgg"), bad, killed_at)
        record = Record(folder, log)
        checkpoint = Checkpoint(folder, [record], save, keep=False)
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_steps=steps,
            max_epochs=-1,
            callbacks=[record, evaluate.Evaluate(record, evaluation, list, list), checkpoint],
            logger=False,
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            plugins=[LightningEnvironment()],
        )
        batches = Batches(
            images, labels, 4, steps, 0, normaliser, start=lambda: trainer.global_step
        )
        path = folder.checkpoints()[0] if resume else None
        trainer.fit(module, batches, ckpt_path=path, weights_only=True)
        return record.rows

    run.folder = folder
    return run


def _steps(rows, name):
    return [step for step, row, _ in rows if row == name]


@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [(10, 3, [0, 3, 6, 9]), (9, 3, [0, 3, 6, 8]), (5, 100, [0, 4]), (1, 1, [0])],
)
def test_training_rows_come_every_few_steps_and_at_the_last(fit, steps, every, expected):
    rows = fit(steps, log=every)
    assert _steps(rows, "train/loss") == _steps(rows, "train/accuracy") == expected


@pytest.mark.parametrize(
    ("steps", "every", "expected"), [(10, 4, [4, 8, 10]), (8, 4, [4, 8]), (3, 100, [3])]
)
def test_evaluation_rows_count_updates(fit, steps, every, expected):
    rows = fit(steps, evaluation=every)
    for name in ("train_eval/loss", "val/loss"):
        assert _steps(rows, name) == expected
        assert [value for _, row, value in rows if row == name] == expected


@pytest.mark.parametrize("bad", [{0}, {3}, {4}, {7}, {3, 5, 9}, set(range(2, 20))])
def test_the_first_step_that_is_not_finite_is_exact(fit, bad):
    with pytest.raises(Diverged) as raised:
        fit(20, log=4, bad=bad)
    assert raised.value.step == min(bad)


def test_it_is_exact_across_a_checkpoint(fit):
    # Step 5 is bad, the checkpoint is written after step 6, and only step 10's row looks.
    with pytest.raises(Diverged):
        fit(20, log=10, save=6, bad={5})
    assert torch.load(fit.folder.checkpoints()[0])["global_step"] == 6
    with pytest.raises(Diverged) as raised:
        fit(20, log=10, save=6, resume=True)
    assert raised.value.step == 5


def test_a_checkpoint_holds_its_own_steps_rows(fit):
    rows = fit(10, log=5, evaluation=5, save=5)
    newest, previous = fit.folder.checkpoints()
    assert torch.load(newest)["global_step"] == 10 and torch.load(previous)["global_step"] == 5
    saved = torch.load(previous)["callbacks"]["Record"]["rows"]
    assert _steps(saved, "val/loss") == [5] and _steps(saved, "train/loss") == [0]
    assert saved == rows[: len(saved)]


def test_the_table_on_the_disk_is_as_new_as_the_checkpoint(fit):
    rows = fit(10, save=5)
    table = pl.read_parquet(fit.folder.path / "metrics.parquet")
    assert list(table.iter_rows()) == rows


def test_a_resumed_training_neither_loses_nor_repeats_a_row(fit):
    whole = fit(12, log=2, evaluation=3, save=100)
    with pytest.raises(Killed):
        fit(12, log=2, evaluation=3, save=5, killed_at=8)
    assert torch.load(fit.folder.checkpoints()[0])["global_step"] == 5
    assert fit(12, log=2, evaluation=3, save=100, resume=True) == whole


def test_a_training_resumed_at_its_last_step_has_nothing_to_do(fit):
    whole = fit(10, save=5)
    assert fit(10, save=5, resume=True) == whole
