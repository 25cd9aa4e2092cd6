"""Weights & Biases as a mirror of the run folder: never asked, never waited for, never needed."""

import csv
import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
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
        Lightning's logger, or False where ``logger=none`` wants none or W&B does not even start.
    """
    if settings.logger.name == "none":
        return False
    os.environ.setdefault("WANDB_SILENT", "true")  # what matters, we say
    mode = os.environ.get("WANDB_MODE") or settings.logger.mode
    for attempt, instead in ((mode, "logged offline"), ("offline", "not logged there")):
        try:
            return _logger(settings, folder, run, config, attempt)
        except Exception as error:
            wandb.teardown()
            _log.warning("W&B does not start (%s): this run is %s", _reason(error), instead)
    return False


def finish(ended: bool) -> None:
    """End W&B's run, if there is one; what has not reached the server by then stays here.

    Args:
        ended: Whether the training came to its end; W&B shows the run as failed otherwise.
    """
    try:
        wandb.finish(exit_code=0 if ended else 1)
    except Exception:  # its process died, as the logger has said: the next cell finds no trace
        with suppress(Exception):
            wandb.teardown()
        wandb.run = None


def show_report(
    folder: Path, files: Iterable[Path], claims: Path, project: str, entity: str | None
) -> None:
    """Mirror a report as a run of its own: its figures and the table of its claims.

    Args:
        folder: Where W&B keeps its files.
        files: The figures, as PNG.
        claims: The claims, as CSV.
        project: At W&B.
        entity: At W&B; None: one's own.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        wandb.setup()
        run = wandb.init(
            dir=folder,
            job_type="report",
            name="report",
            project=project,
            entity=entity,
            mode=_mode(os.environ.get("WANDB_MODE") or "auto"),
            settings=_limits(),
        )
        with claims.open(newline="") as file:
            heads, *rows = csv.reader(file)
        run.log({"claims": wandb.Table(columns=[*heads], data=rows)})
        run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in files})
        run.finish()
    except Exception as error:
        wandb.teardown()
        _log.warning("the report is not at W&B (%s); it is whole in %s", _reason(error), folder)


class _Mirror(WandbLogger):
    """Lightning's logger, but the run goes on where W&B's own process has died."""

    lost = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log, until that fails once; a pair of bin edges and counts becomes a histogram."""
        if not self.lost:
            try:
                super().log_metrics({name: _shown(value) for name, value in metrics.items()}, step)
            except Exception as error:
                self.lost = True
                _log.warning("W&B was lost (%s); the run folder has everything", _reason(error))


def _reason(error: Exception) -> str:
    return (str(error) or repr(error)).splitlines()[0]


def _limits() -> wandb.Settings:
    return wandb.Settings(console="off", init_timeout=20, finish_timeout=60)


def _mode(wanted: str) -> Any:
    if wanted != "auto":
        return wanted
    # Whether the key is right, the server tells at init, which has a time limit.
    return "online" if wandb.login(prompt=False, verify=False) else "offline"


def _shown(value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    edges, counts = value
    return wandb.Histogram(np_histogram=(counts, edges))


def _logger(
    settings: Settings, folder: Path, run: str, config: Mapping[str, Any], mode: str
) -> WandbLogger:
    wandb.setup()  # reads the environment; without it the first warnings would not be silent
    chosen = settings.logger
    logger = _Mirror(
        save_dir=folder,
        id=run,
        name=run,
        project=chosen.project,
        entity=chosen.entity,
        group=settings.sweep,
        tags=chosen.tags,
        config=dict(config),
        mode=_mode(mode),
        settings=_limits(),
    )
    logger.experiment.define_metric("val/accuracy", summary="last")
    return logger
