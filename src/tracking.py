"""Weights & Biases as a mirror of the run folder: never asked, never waited for, never needed."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import WandbLogger

from src.settings import Settings

_log = logging.getLogger(__name__)


def start(
    settings: Settings, folder: Path, run: str, config: Mapping[str, Any]
) -> WandbLogger | bool:
    """Start W&B's run for a cell; its id is the run's name, so a resumed run continues it.

    Without credentials, or if the server does not answer, it is offline; ``wandb sync`` uploads
    such a folder later. Each cell decides for itself.

    Returns:
        Lightning's logger, or False where ``logger=none`` wants none.
    """
    chosen = settings.logger
    if chosen.name == "none":
        return False
    os.environ.setdefault("WANDB_SILENT", "true")  # what matters, we say
    mode = os.environ.get("WANDB_MODE") or chosen.mode
    if mode == "auto":
        mode = "online" if _logged_in() else "offline"

    def logger(mode: str) -> WandbLogger:
        logger = WandbLogger(
            save_dir=folder,
            id=run,
            name=run,
            project=chosen.project,
            entity=chosen.entity,
            group=settings.sweep,
            tags=chosen.tags,
            config=dict(config),
            mode=mode,
            settings=wandb.Settings(console="off", init_timeout=20),
        )
        logger.experiment.define_metric("val/accuracy", summary="last")
        return logger

    try:
        return logger(mode)
    except Exception as error:
        if mode != "online":
            raise
        wandb.teardown()
        _log.warning("W&B is out of reach (%s); this run is logged offline", error)
        return logger("offline")


def _logged_in() -> bool:
    try:
        return wandb.login(prompt=False)
    except wandb.errors.UsageError:
        return False
