"""From settings to a fitted network: data, callbacks, Lightning's trainer."""

import logging
import warnings
from collections.abc import Mapping, Sequence
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
from src.callbacks.probing import Probing, ProbingAgain
from src.callbacks.progress import ProgressLine
from src.callbacks.record import Record
from src.data.feed import Feed, feed
from src.memory import keep_freed_memory
from src.models.init import scale_to_unit_variance
from src.models.network import Network
from src.resume import OtherData, changes, check, compared, start_from
from src.runs.folder import RunFolder
from src.runs.needs import Needs
from src.runs.provenance import versions
from src.settings import Settings

_log = logging.getLogger(__name__)
# Lightning talks about devices, tips and its own loggers; what a user must know we say ourselves.
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
warnings.filterwarnings("ignore", "The `srun` command is available")  # one process a cell


def fit(
    settings: Settings,
    probes: Needs,
    folder: RunFolder,
    name: str,
    config: dict[str, Any],
    before: Mapping[str, Any],
) -> None:
    """Train to the last step, from the newest checkpoint in the folder if there is one.

    ``before`` is the status that the attempts so far have left.

    Raises:
        DataError: If the data cannot be had, or are others than it was begun with.
        Diverged: If the training loss becomes NaN or infinite.
        Stopped: If a signal asks; the folder then holds a checkpoint of that step.
    """
    keep_freed_memory()
    device = _device(settings)
    fed = feed(
        settings, device, _channels_last(settings, device), start=lambda: trainer.global_step
    )
    record = Record(folder, settings.log_every)
    norms = Norms(folder, settings.log_every)
    probing = _probing(settings, probes, folder, fed)
    checkpoint = start_from(folder, [norms.table, *probing.tables.values()])
    here = _here(device, fed)
    folder.update_status(**here | compared(name, before, here, checkpoint is not None))
    tables = (record, norms, probing)
    keep = settings.keep_checkpoints
    callbacks = [
        *tables,
        Evaluate(record, settings.eval_every, fed.fixed, fed.test),
        Checkpoint(folder, tables, settings.checkpoint_every, keep),
        ProgressLine(name),
    ]
    logger = tracking.start(settings, folder.path, name, config)
    trainer = _trainer(settings, device, callbacks, logger)
    model = _model(settings, device, fed, checkpoint)
    try:
        trainer.fit(model, fed.training, ckpt_path=checkpoint, weights_only=True)
    finally:
        for table in tables if record.rows else ():
            table.write()


def replay(settings: Settings, probes: Needs, folder: RunFolder, run: RunFolder, step: int) -> None:
    """Take one step of a run again and probe it.

    Args:
        settings: The run's.
        probes: What to measure.
        folder: Where the probes' tables go.
        run: The run's folder, with its checkpoint after so many steps; of step 0 it needs none.
        step: The step to take.

    Raises:
        DataError: If the data cannot be had, or are others than the run was trained on.
        ValueError: If the checkpoint is damaged, or of another run.
    """
    checkpoint = run.kept_checkpoint(step) if step else None
    if checkpoint:
        check(checkpoint, run.path.name)
    settings, device = replace(settings, max_steps=step + 1), _device(settings)
    fed = feed(settings, device, _channels_last(settings, device), start=lambda: step)
    status = run.status() or {}
    elsewhere = changes(status, _here(device, fed))
    if "data" in elsewhere:
        told = f"{run.path} was trained on other data ({elsewhere['data']}): give it that"
        raise OtherData(told)
    if told := "; ".join(filter(None, [status.get("moved"), *elsewhere.values()])):
        _log.warning("perhaps not to the last bit the step it was: %s", told)
    probing = _probing(settings, probes, folder, fed, ProbingAgain)
    trainer = _trainer(settings, device, [probing], logger=False)
    model = _model(settings, device, fed, checkpoint)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`")  # callbacks
        trainer.fit(model, fed.training, ckpt_path=checkpoint, weights_only=True)
    probing.write()


def _device(settings: Settings) -> torch.device:
    """Return the device to train on, set up; ``auto`` takes a CUDA device where there is one."""
    torch.set_num_threads(settings.threads or torch.get_num_threads())
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    chosen = settings.accelerator
    if chosen == "gpu" and not torch.cuda.is_available():
        raise RuntimeError("accelerator=gpu, but torch sees no CUDA device: allowed is cpu or auto")
    return torch.device("cuda" if chosen != "cpu" and torch.cuda.is_available() else "cpu")


def _here(device: torch.device, fed: Feed) -> dict[str, Any]:
    """Return where a run is trained, and on what: the keys of its status that ``PLACE`` names."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
        "instructions": None if cuda else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "data": fed.variant,
        "versions": versions(),
    }


def _channels_last(settings: Settings, device: torch.device) -> bool:
    """Measured faster on the CPU (by a fifth); on CUDA it is the layout of the bf16 kernels."""
    return device.type == "cpu" or settings.precision == "bf16-mixed"


def _probing(
    settings: Settings,
    probes: Needs,
    folder: RunFolder,
    fed: Feed,
    kind: type[Probing] = Probing,
) -> Probing:
    chosen = {
        probe: replace(settings.probes, which=[probe], **asked) for probe, asked in probes.items()
    }
    return kind(folder, chosen, lambda count: list(islice(fed.fixed(), count)))


def _model(settings: Settings, device: torch.device, fed: Feed, checkpoint: Path | None) -> Network:
    model = models.build(settings, fed.classes)
    if settings.init.name == "unit_variance" and checkpoint is None:
        inputs, _ = next(iter(fed.training))
        scale_to_unit_variance(model.network, inputs, settings.init.gain)
    if settings.precision == "64-true":  # before Lightning restores a checkpoint, or it is rounded
        model.double()
    if _channels_last(settings, device):
        model.to(memory_format=torch.channels_last)
    return model


def _trainer(
    settings: Settings,
    device: torch.device,
    callbacks: Sequence[pl.Callback],
    logger: WandbLogger | bool,
) -> pl.Trainer:
    return pl.Trainer(
        accelerator=device.type,
        devices=1,
        precision=cast(Literal["32-true", "64-true", "bf16-mixed"], settings.precision),
        max_steps=settings.max_steps,
        max_epochs=-1,
        callbacks=[*callbacks],
        logger=logger,
        log_every_n_steps=settings.log_every,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        deterministic="warn" if device.type == "cuda" else None,
        plugins=[LightningEnvironment()],
    )
