"""One cell of a grid: its run trained, if anything is left to do."""

import logging
import os
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from src.compose import settings_of
from src.runs.identity import run_name
from src.runs.lease import Held
from src.runs.needs import merged, needs
from src.runs.store import RunStore


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
            attempts = (folder.status(), store.folder(name).status())
            known = next((s for s in attempts if s and s["state"] != "failed"), {})
            wanted = merged(known.get("probes", {}), wanted)
            folder.write_config(OmegaConf.to_yaml(config, resolve=True))
            from src.training import train  # imports torch, which takes seconds

            resolved = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
            return train(settings, wanted, folder, name, resolved)
    except Held as held:
        logging.getLogger(__name__).warning("%s", held)
        return "running"
