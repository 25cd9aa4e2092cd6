"""One run, from its settings to its folder: begun, ended, and what is told of it."""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from src import tracking
from src.callbacks.checkpoint import Stopped
from src.callbacks.record import Diverged
from src.fit import fit
from src.resume import PLACE
from src.runs.folder import RunFolder
from src.runs.needs import Needs
from src.runs.provenance import provenance
from src.settings import Settings
from src.terminal import reason

_log = logging.getLogger(__name__)


def train(
    settings: Settings,
    probes: Needs,
    folder: RunFolder,
    name: str,
    config: dict[str, Any],
    ended: Mapping[str, Any] | None = None,
) -> str:
    """Train a run in its folder, from its newest checkpoint if it has one.

    Args:
        settings: What to train.
        probes: What to measure on the way. A run that was begun with others, or with other
            cadences of its records, begins anew.
        folder: Where; this process is its only writer.
        name: The run's name, its id at W&B too.
        config: The resolved configuration, for W&B.
        ended: The status this same training has left, where it is made again for more probes.

    Returns:
        The end state, ``completed`` or ``diverged``.

    Raises:
        Stopped: If a signal stopped it; the same call continues it.
        Exception: What made it fail, after ``status.json`` and the log have been told.
    """
    began, clock = time.time(), time.monotonic()
    before: dict[str, Any] = {"started": began, "step": 0, "attempts": 0, "seconds": 0.0}
    before["probes"] = {}
    before |= {key: ended[key] for key in ("started", *PLACE) if ended and key in ended}
    before |= folder.status() or {}
    if before.get("attempt_began"):  # the attempt before this one was killed
        before["seconds"] += max(before["updated"] - before["attempt_began"], 0.0)
    now = {"state": "running", "message": None, "attempts": before["attempts"] + 1}
    now |= {"attempt_began": began, "updated": began}
    what = {"max_steps": settings.max_steps, "probes": probes}
    what |= {"log_every": settings.log_every, "eval_every": settings.eval_every}
    other = [key for key, value in what.items() if before.get(key, value) != value]
    anew = ""
    if other and folder.checkpoints():
        anew = f"the attempt that got to step {before['step']} had other {', '.join(other)}"
        folder.remove_checkpoints()
    if not folder.checkpoints():  # what was trained before is trained again
        before |= {"step": 0, "seconds": 0.0}
        folder.remove_tables(but=probes)
    folder.update_status(**before | now | what | provenance())

    def end(state: str, **entries: Any) -> str:
        seconds = before["seconds"] + time.monotonic() - clock
        told = {"state": state, "seconds": seconds, "updated": time.time(), "attempt_began": None}
        folder.update_status(**told, **entries)
        return state

    def conclude() -> str:
        if math.isfinite(folder.final_metrics()["train_eval/loss"]):
            return end("completed", step=settings.max_steps)
        return end("diverged", step=settings.max_steps, message="the final loss is not finite")

    with ExitStack() as log:
        try:
            log.enter_context(_log_file(folder.path / "train.log"))
            if anew:
                _log.warning("%s begins anew: %s", name, anew)
            fit(settings, probes, folder, name, config, before)
            return conclude()
        except Diverged as divergence:
            return end("diverged", step=divergence.step, message=str(divergence))
        except Stopped as stop:
            if stop.step == settings.max_steps:
                conclude()
            else:
                end("running", step=stop.step, message=f"stopped by {stop.received.name}")
                told = "begins it anew" if settings.force else "continues it"
                _log.warning("%s %s; the same command %s", name, stop, told)
            raise
        except Exception as error:
            _log.exception("%s failed: %s", name, reason(error))
            with suppress(OSError):  # of a folder that cannot be written the log alone can tell
                end("failed", message=f"{type(error).__name__}: {error}")
            raise
        finally:
            if folder.ended() and not settings.keep_checkpoints:
                folder.remove_checkpoints()
            tracking.finish(folder.ended())


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path)
    handler.handleError = lambda record: None  # type: ignore[method-assign] # a full disk: see stderr
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        with suppress(OSError):
            handler.close()
