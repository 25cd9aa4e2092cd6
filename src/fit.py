"""From settings to a fitted network: data, callbacks, Lightning's trainer."""

import logging
import warnings
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.plugins.environments import LightningEnvironment

from src import models, tracking
from src.callbacks.checkpoint import Checkpoint
from src.callbacks.evaluate import Evaluate
from src.callbacks.norms import Norms
from src.callbacks.probing import Probing
from src.callbacks.progress import ProgressLine
from src.callbacks.record import Record
from src.materials import Materials, prepare
from src.models.classifier import Classifier
from src.runs.folder import RunFolder
from src.runs.needs import Needs
from src.settings import Settings

_log = logging.getLogger(__name__)
# Lightning talks about devices, tips and its own loggers; what a user must know we say ourselves.
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)


def fit(
    settings: Settings, probes: Needs, folder: RunFolder, name: str, config: dict[str, Any]
) -> None:
    """Train to the last step, from the newest checkpoint in the folder if there is one.

    Raises:
        Diverged: If the training loss becomes NaN or infinite.
        Stopped: If a signal asks; the folder then holds a checkpoint of that step.
    """
    materials = prepare(settings, settings.max_steps, start=lambda: trainer.global_step)
    device = materials.device
    folder.update_status(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        threads=torch.get_num_threads(),
        data=materials.dataset.variant,
    )
    record = Record(folder, settings.log_every)
    norms = Norms(folder, settings.log_every)
    probing = _probing(settings, probes, folder, materials)
    tables = (record, norms, probing)
    keep = settings.keep_checkpoints
    trainer = _trainer(
        settings,
        materials,
        max_steps=settings.max_steps,
        callbacks=[
            *tables,
            Evaluate(record, settings.eval_every, materials.fixed, materials.test),
            Checkpoint(folder, tables, settings.checkpoint_every, keep),
            ProgressLine(name),
        ],
        logger=tracking.start(settings, folder.path, name, config),
    )
    model, newest = _model(settings, materials), _newest_whole(folder)
    try:
        trainer.fit(model, materials.batches, ckpt_path=newest, weights_only=True)
    finally:
        for table in tables if record.rows else ():
            table.write()


def replay(
    settings: Settings, probes: Needs, folder: RunFolder, step: int, checkpoint: Path | None
) -> None:
    """Take one step of a run again and probe it.

    Args:
        settings: The run's.
        probes: What to measure.
        folder: Where the probes' tables go.
        step: The step to take.
        checkpoint: Of the run after so many steps; None for its beginning.
    """
    materials = prepare(settings, step + 1, start=lambda: step)
    probing = _probing(settings, probes, folder, materials)
    trainer = _trainer(settings, materials, step + 1, [probing], logger=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`")  # callbacks
        trainer.fit(
            _model(settings, materials), materials.batches, ckpt_path=checkpoint, weights_only=True
        )
    probing.write()


def _probing(settings: Settings, probes: Needs, folder: RunFolder, materials: Materials) -> Probing:
    chosen = {
        probe: replace(settings.probes, which=[probe], **asked) for probe, asked in probes.items()
    }
    return Probing(folder, chosen, lambda count: list(islice(materials.fixed(), count)))


def _trainer(
    settings: Settings,
    materials: Materials,
    max_steps: int,
    callbacks: list[pl.Callback],
    logger: WandbLogger | bool,
) -> pl.Trainer:
    return pl.Trainer(
        accelerator=materials.device.type,
        devices=1,
        precision=cast(Literal["32-true", "64-true", "bf16-mixed"], settings.precision),
        max_steps=max_steps,
        max_epochs=-1,
        callbacks=callbacks,
        logger=logger,
        log_every_n_steps=settings.log_every,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        deterministic="warn" if materials.device.type == "cuda" else None,
        plugins=[LightningEnvironment()],
    )


def _model(settings: Settings, materials: Materials) -> Classifier:
    model = models.build(settings, materials.dataset.classes)
    return model.to(memory_format=torch.channels_last) if materials.channels_last else model


def _newest_whole(folder: RunFolder) -> Path | None:
    for path in folder.checkpoints():
        try:
            torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:
            _log.warning("%s is damaged (%s): the one before it is tried", path, error)
        else:
            return path
    return None
