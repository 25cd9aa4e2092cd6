"""One cell of a grid: its run trained, if anything is left to do."""

import logging
import os
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from src.compose import settings_of
from src.runs.identity import run_name
from src.runs.lease import Held
from src.runs.needs import merged, met, needs
from src.runs.store import RunStore

_log = logging.getLogger(__name__)


def cell(config: DictConfig) -> str:
    """Train the run one configuration describes.

    Returns:
        The run's state: completed, diverged, or running (by another process). What made it fail
        is raised, for the launcher to hand to the grid.
    """
    settings = settings_of(config)
    name = run_name(settings)
    try:
        store, wanted = RunStore(Path(settings.runs_dir)), needs(settings)
        requeued = "SLURM_RESTART_COUNT" in os.environ
        with store.writing(name, wanted, settings.force, requeued) as folder:
            if folder is None:
                return str(store.folder(name).state())
            # All probes asked for so far: the training is the same, and nothing is taken away.
            ended = store.folder(name).status() or {}
            latest = (s for s in (folder.status(), ended) if s and s["state"] != "failed")
            known = next(latest, {}).get("probes", {})
            wanted = merged(known, wanted)
            if not met(wanted, known):
                told = "other settings are asked for than it was probed with, and replace those"
                _log.warning("%s is trained again: %s", name, told)
            folder.write_config(OmegaConf.to_yaml(config, resolve=True))
            from src.training import train  # imports torch, which takes seconds

            resolved = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
            same = None if settings.force else ended
            return train(settings, wanted, folder, name, resolved, same)
    except Held as held:
        _log.warning("%s", held)
        return "running"
