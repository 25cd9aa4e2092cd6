"""Weights & Biases as a mirror of the run folder: never asked, hardly waited for, never needed."""

import csv
import logging
import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import wandb
from pytorch_lightning.loggers import WandbLogger

from src.settings import Settings
from src.terminal import reason

_log = logging.getLogger(__name__)
_Run = TypeVar("_Run")


def start(
    settings: Settings, folder: Path, run: str, config: Mapping[str, Any]
) -> WandbLogger | bool:
    """Start W&B's run for a cell; its id is the run's name, so a resumed run continues it.

    Under the agent of a W&B sweep the client takes the agent's id and project in place of ours.
    Without credentials it is offline, and so are this run and all after it in this process once
    the server does not work.

    Returns:
        Lightning's logger, or False where ``logger=none`` wants none or W&B does not even start.
    """
    chosen = settings.logger
    if chosen.name == "none":
        return False

    # An agent's: with it W&B would keep model=vgg and refuse our model: {name: vgg, ...}.
    os.environ.pop("WANDB_SWEEP_PARAM_PATH", None)

    def begin(mode: str) -> WandbLogger:
        logger = _Mirror(
            save_dir=folder,
            id=run,
            name=run,
            project=chosen.project,
            entity=chosen.entity,
            group=settings.sweep,
            tags=chosen.tags,
            config=dict(config),
            mode=mode,
            settings=_limits(),
        )
        logger.experiment.define_metric("val/accuracy", summary="last")
        return logger

    try:
        return _begun(begin, chosen.mode, Path(settings.runs_dir))
    except Exception as error:
        wandb.teardown()
        _log.warning("W&B does not start (%s): this run is not logged there", reason(error))
        return False


def finish(ended: bool) -> None:
    """End W&B's run, if there is one; what has not reached the server by then stays here.

    Args:
        ended: Whether the training came to its end; W&B shows the run as failed otherwise.
    """
    if (run := wandb.run) is None:
        return
    with _server.waited_for():
        run.finish(exit_code=0 if ended else 1)
        if run.settings.mode != "offline":
            _mark_uploaded(run.settings)
    if wandb.run is not None:  # its process died, as the logger has said: the next finds no trace
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

    def begin(mode: Any) -> wandb.Run:
        return wandb.init(
            dir=folder,
            job_type="report",
            name="report",
            project=project,
            entity=entity,
            mode=mode,
            settings=_limits(),
        )

    try:
        run = _begun(begin, "auto", folder)
        with claims.open(newline="") as file:
            heads, *rows = csv.reader(file)
        run.log({"claims": wandb.Table(columns=[*heads], data=rows)})
        run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in files})
        finish(True)
    except Exception as error:
        wandb.teardown()
        _log.warning("the report is not at W&B (%s); it is whole in %s", reason(error), folder)


class _Server:
    """W&B's server, and this process's patience with it.

    It is asked once, at the first run. Once it fails, in whatever way, all that follows is logged
    offline: a grid of many cells waits for a bad server once, and its user is told once.
    """

    PROBE, STEP, IN_ALL = 3, 5, 10  # seconds: for the first answer, for a start or an end, for all
    AT_BEST = 2  # of each start and end are not counted: W&B takes about that offline, too

    def __init__(self) -> None:
        self.usable: bool | None = None  # None: not asked yet
        self.patience = float(self.IN_ALL)
        self.root = Path()  # of the folders to upload later

    def mode(self, wanted: str, root: Path) -> str:
        """Return W&B's mode for a run; ``auto`` is online for those who are logged in."""
        self.root = root
        if wanted not in ("auto", "online"):
            return wanted
        if self.usable is None:
            self.usable = True
            with self.waited_for():
                self.usable = self._logged_in(wanted == "online")
        return "online" if self.usable else "offline"

    def _logged_in(self, must: bool) -> bool:
        os.environ.setdefault("WANDB_HTTP_TIMEOUT", str(self.PROBE))
        try:
            found = wandb.login(prompt=False, verify=True)
        except wandb.errors.AuthenticationError as error:
            if "in time" not in str(error):
                raise
            host = urlsplit(wandb.setup().settings.base_url).hostname  # the rest may hold a key
            raise TimeoutError(f"no good answer from {host} within {self.PROBE} s") from error
        if must and not found:
            raise ValueError("nobody is logged in")
        return found

    @contextmanager
    def waited_for(self) -> Iterator[None]:
        """Wait for it; an error, or the end of patience, ends its use."""
        began = time.monotonic()
        try:
            yield
        except Exception as error:
            self._give_up(reason(error))
        self.patience -= max(time.monotonic() - began - self.AT_BEST, 0)
        if self.patience < 0:
            self._give_up("it is too slow")

    def _give_up(self, why: str) -> None:
        if self.usable:
            command = shlex.join(["python", "-m", "src.sync", str(self.root)])
            told = "W&B does not work (%s): logged offline; to upload later: %s"
            _log.warning(told, why, command)
        self.usable = False


_server = _Server()


def _begun(begin: Callable[[str], _Run], wanted: str, root: Path) -> _Run:
    """Begin a run online, if that is wanted and works, or else offline."""
    os.environ.setdefault("WANDB_SILENT", "true")  # what matters, we say
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would report to stderr, too
    wanted = os.environ.get("WANDB_MODE") or wanted
    if wanted not in ("auto", "online", "offline", "disabled"):
        raise ValueError(f"WANDB_MODE={wanted}: allowed is online, offline or disabled")
    wandb.setup()  # reads the environment; without it the first warnings would not be silent
    mode = _server.mode(wanted, root)
    if mode == "online":
        with _server.waited_for():
            return begin(mode)
        wandb.teardown()
        mode = "offline"
    return begin(mode)


def _limits() -> wandb.Settings:
    return wandb.Settings(
        console="off",
        init_timeout=_Server.STEP,
        finish_timeout=_Server.STEP,
        finish_timeout_raises=True,
    )


def _mark_uploaded(settings: wandb.Settings) -> None:
    """Mark a run as ``wandb sync`` does, unless the server has refused a part of it."""
    if "fatal error" in Path(settings.log_internal).read_text():
        raise ConnectionError("the server refused a part")
    Path(settings.sync_file).with_suffix(".wandb.synced").touch()


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
                _log.warning("W&B was lost (%s); the run folder has everything", reason(error))


def _shown(value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    edges, counts = value
    return wandb.Histogram(np_histogram=(counts, edges))
