"""One run, from its settings to its folder."""

import logging
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import Tensor

from src import data, models, tracking
from src.callbacks.checkpoint import Checkpoint, Stopped
from src.callbacks.evaluate import Evaluate
from src.callbacks.progress import ProgressLine
from src.callbacks.record import Diverged, Record
from src.models.evaluation import Batches
from src.runs.folder import RunFolder
from src.runs.provenance import provenance
from src.settings import Settings

TRAIN_EVAL_IMAGES = 10_000
# Lightning talks about devices, tips and its own loggers; what a user must know we say ourselves.
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
_log = logging.getLogger(__name__)


def train(settings: Settings, folder: RunFolder, name: str, config: dict[str, Any]) -> str:
    """Train a run in its folder, from its newest checkpoint if it has one.

    Args:
        settings: What to train.
        folder: Where; this process is its only writer.
        name: The run's name, its id at W&B too.
        config: The resolved configuration, for W&B.

    Returns:
        The end state, ``completed`` or ``diverged``.

    Raises:
        Stopped: If a signal stopped it; the same call continues it.
        Exception: What made it fail, after ``status.json`` and the log have been told.
    """
    began = time.time()
    before = {"started": began, "step": 0, "attempts": 0, "seconds": 0.0} | (folder.status() or {})
    now = {"state": "running", "message": None, "attempts": before["attempts"] + 1}
    folder.update_status(**before | now | {"max_steps": settings.max_steps} | provenance())

    def end(state: str, **entries: Any) -> str:
        seconds = before["seconds"] + time.time() - began
        folder.update_status(state=state, seconds=seconds, updated=time.time(), **entries)
        return state

    def conclude() -> str:
        if math.isfinite(folder.final_metrics()["train_eval/loss"]):
            return end("completed", step=settings.max_steps)
        return end("diverged", step=settings.max_steps, message="the final loss is not finite")

    with _log_file(folder.path / "train.log"):
        try:
            _fit(settings, folder, name, config)
            return conclude()
        except Diverged as divergence:
            return end("diverged", step=divergence.step, message=str(divergence))
        except Stopped as stop:
            if stop.step == settings.max_steps:
                conclude()
            else:
                end("running", step=stop.step, message=f"stopped by {stop.received.name}")
                _log.warning("%s %s; the same command continues it", name, stop)
            raise
        except Exception as error:
            _log.exception("%s failed", name)
            end("failed", message=f"{type(error).__name__}: {error}")
            raise
        finally:
            tracking.finish()
            if folder.ended() and not settings.keep_checkpoints:
                for path in folder.checkpoints():
                    path.unlink()


def _fit(settings: Settings, folder: RunFolder, name: str, config: dict[str, Any]) -> None:
    torch.set_num_threads(settings.threads or torch.get_num_threads())
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = _device(settings.accelerator)
    # Measured faster on the CPU (by a fifth); on CUDA it is the layout of the bf16 kernels.
    channels_last = device.type == "cpu" or settings.precision == "bf16-mixed"

    source = settings.data
    cache = None if source.cache is None else Path(source.cache)
    dataset = data.load(source.name, Path(source.root), source.download, cache)
    folder.update_status(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        threads=torch.get_num_threads(),
        data=dataset.variant,
    )
    normaliser = data.Normaliser(dataset.mean, dataset.std, source.normalise, channels_last, device)
    images, labels = dataset.train_images.to(device), dataset.train_labels.to(device)
    batches = data.Batches(
        images,
        labels,
        source.batch_size,
        steps=settings.max_steps,
        seed=settings.seed,
        normaliser=normaliser,
        augment=source.augment,
        start=lambda: trainer.global_step,
    )

    def whole(images: Tensor, labels: Tensor) -> Batches:
        return lambda: data.evaluation_batches(images, labels, source.batch_size, normaliser)

    fixed = whole(images[:TRAIN_EVAL_IMAGES], labels[:TRAIN_EVAL_IMAGES])
    test = whole(dataset.test_images.to(device), dataset.test_labels.to(device))
    record = Record(folder, settings.log_every)
    trainer = pl.Trainer(
        accelerator=device.type,
        devices=1,
        precision=cast(Literal["32-true", "64-true", "bf16-mixed"], settings.precision),
        max_steps=settings.max_steps,
        max_epochs=-1,
        callbacks=[
            record,
            Evaluate(record, settings.eval_every, fixed, test),
            Checkpoint(folder, record, settings.checkpoint_every),
            ProgressLine(name),
        ],
        logger=tracking.start(settings, folder.path, name, config),
        log_every_n_steps=settings.log_every,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        deterministic="warn" if device.type == "cuda" else None,
        plugins=[LightningEnvironment()],
    )
    model = models.build(settings, dataset.classes)
    if channels_last:
        model.to(memory_format=torch.channels_last)
    checkpoint = next(iter(folder.checkpoints()), None)
    try:
        trainer.fit(model, batches, ckpt_path=checkpoint, weights_only=True)
    finally:
        if record.rows:
            record.write()


def _device(accelerator: str) -> torch.device:
    """Return the device to train on; ``auto`` takes a CUDA device where there is one."""
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise RuntimeError("accelerator=gpu, but torch sees no CUDA device: allowed is cpu or auto")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
