"""Cells as jobs of a SLURM cluster: submitted by submitit's launcher, watched through the queue.

Who handles which signal: a job that SLURM preempts or requeues gets TERM, and SLURM starts it again
by itself; near its time limit submitit has it sent USR2. Both make the training save at the end of
its step and stop (``src.callbacks.checkpoint``); after USR2 submitit's handler, which is its own
again by then, puts the job back into the queue. TERM by a person's hand requeues nobody.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.singleton import Singleton
from rich.console import Console

from src.compose import SettingsError
from src.grid import Cell, Grid
from src.runs.queue import Job, QueueError, jobs, marked

try:
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as Submitit
except ImportError:  # Hydra imports every plugin, also where the extra is not installed

    class Submitit(BasicLauncher):  # type: ignore[no-redef]
        """Stands in until ``problem`` has said what is missing."""

        def __init__(self, **parameters: Any) -> None:
            super().__init__()


# What submitit takes for any kind of cluster; all else is for SLURM alone.
_GENERAL = ("name", "timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node")
# What nobody checks before jobs are submitted.
_RULES: dict[str, tuple[Any, Callable[[Any], bool], str]] = {
    "poll_seconds": (int | float, lambda value: value > 0, "a number above 0"),
    "array_parallelism": (int, lambda value: value > 0, "a whole number from 1"),
    "max_num_timeout": (int, lambda value: value >= 0, "a whole number from 0"),
    "timeout_min": (int, lambda value: value > 0, "a whole number from 1"),
    "setup": (list, lambda value: all(isinstance(line, str) for line in value), "a list of lines"),
}


class SlurmLauncher(Submitit):  # type: ignore[misc]
    """Submit the cells that are not in the queue yet as one array, and wait for them all.

    Args:
        poll_seconds: How often the queue is asked.
        parameters: Of submitit; of each null leaves the cluster's default.
    """

    def __init__(self, poll_seconds: float, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.poll_seconds = poll_seconds

    def problem(self) -> str | None:
        """Return what stands in the way of any job."""
        if not hasattr(self, "params"):
            return "hydra/launcher=slurm needs submitit: pip install -e '.[slurm]'"
        for key, (kind, right, allowed) in _RULES.items():
            value = self.poll_seconds if key == "poll_seconds" else self.params[key]
            if isinstance(value, bool) or not isinstance(value, kind) or not right(value):
                return f"hydra.launcher.{key}={value}: allowed is {allowed}"
        try:
            import submitit

            submitit.SlurmExecutor(folder=self.params["submitit_folder"])
        except RuntimeError:
            return "hydra/launcher=slurm: there is no srun here; give the command on a login node"
        return None

    def __call__(self, *arguments: Any) -> Any:
        """Train a cell, in its job."""
        if cores := os.environ.get("SLURM_CPUS_PER_TASK"):
            os.environ.setdefault("OMP_NUM_THREADS", cores)
        try:
            done = super().__call__(*arguments)
            _ = done.return_value  # raises what the cell raised, lest its job pass for COMPLETED
            return done
        except SystemExit as stop:
            if stop.code == 128 + signal.SIGUSR2:
                signal.raise_signal(signal.SIGUSR2)
            raise

    def train(self, grid: Grid, cells: Sequence[Cell]) -> dict[str, str]:
        """Train cells; return, by run, how a job failed. What is in the queue is not submitted."""
        from src.board import Board

        console = Console(soft_wrap=True)
        # Of the cells of one run, which differ in probes alone, the first: the queue knows runs.
        cells = [*{cell.run: cell for cell in reversed(cells)}.values()][::-1]
        root = grid.store.root
        with FileLock(root / ".locks" / "submit.lock"):
            try:
                queue = jobs(root)
            except QueueError as error:
                raise SettingsError([f"hydra/launcher=slurm: {error}"]) from error
            new = [cell for cell in cells if not (cell.run in queue and queue[cell.run].live)]
            if new:
                number = self._submit(grid, new)
                console.print(f"job {number} submitted, with {len(new)} to train")
        if len(new) < len(cells):
            console.print(f"{len(cells) - len(new)} wait or run in the queue already")
        ends: dict[str, Job] = {}
        logs = Path(self.params["submitit_folder"]).parent
        try:
            with Board(grid.store, len(cells)) as board:
                for cell in cells:
                    board.began(cell)
                while left := [cell.run for cell in cells if cell.run not in ends]:
                    time.sleep(self.poll_seconds)
                    with suppress(QueueError):  # slurmctld starts anew; the jobs go on meanwhile
                        queue |= (now := jobs(root))
                        for run in left:
                            if run not in now or not now[run].live:
                                job = queue.get(run, Job("unknown", "has left the queue"))
                                ends[run] = job
                                board.ended(run)
                        board.show()
        except KeyboardInterrupt:
            console.print(
                "\nthe jobs go on: the same command waits for them again, scancel stops them"
            )
            raise
        return {
            run: f"job {job.number} {job.state}, {logs / job.number}"
            for run, job in ends.items()
            if job.state != "COMPLETED"
        }

    def _submit(self, grid: Grid, cells: Sequence[Cell]) -> str:
        import submitit

        given = {**self.params}
        folder, retries = given.pop("submitit_folder"), given.pop("max_num_timeout")
        given["name"] = given["name"] or grid.name
        given["additional_parameters"] = {"requeue": True} | given["additional_parameters"]
        mark = marked(grid.store.root, [cell.run for cell in cells])
        given["comment"] = " ".join(filter(None, [given["comment"], mark]))
        executor = submitit.AutoExecutor(folder, "slurm", slurm_max_num_timeout=retries)
        state = Singleton.get_state()
        calls = [
            ([*cell.overrides, *grid.membership], "hydra.sweep.dir", number, "", state)
            for number, cell in enumerate(cells)
        ]
        try:
            executor.update_parameters(
                **{k if k in _GENERAL else f"slurm_{k}": v for k, v in given.items()}
            )
            submitted = executor.map_array(self, *zip(*calls, strict=True))
        # submitit's own checks, and sbatch's.
        except (NameError, AssertionError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise SettingsError([f"hydra/launcher=slurm: {reason}"]) from error
        return submitted[0].job_id.partition("_")[0]
