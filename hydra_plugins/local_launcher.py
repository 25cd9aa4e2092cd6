"""Cells in processes of their own, several at once, on one machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from hydra._internal.core_plugins.basic_launcher import BasicLauncher

from src.grid import Cell, Grid

_POLL_SECONDS = 0.5


class LocalLauncher(BasicLauncher):
    """Give each cell the command a person would give for it alone.

    Args:
        jobs: How many at once. They divide the cores, unless ``OMP_NUM_THREADS`` is set.
    """

    def __init__(self, jobs: int = 2) -> None:
        super().__init__()
        self.jobs = jobs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def problem(self) -> str | None:
        """Return what is wrong with the launcher's own settings."""
        if type(self.jobs) is int and self.jobs > 0:
            return None
        return f"hydra.launcher.jobs={self.jobs}: allowed is a whole number from 1"

    def train(self, grid: Grid, cells: Sequence[Cell]) -> dict[str, str]:
        """Train cells; return, by run, what kept one from its end.

        A signal is passed on to the cells, which save and stop; then the grid stops too.
        """
        from src.board import Board

        logs = grid.store.root / "sweeps" / ".logs"
        logs.mkdir(parents=True, exist_ok=True)
        waiting, failures = [*cells], dict[str, str]()
        handlers = {
            number: signal.signal(number, self._pass_on)
            for number in (signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is not signal.SIG_IGN  # nohup's wish is respected
        }
        try:
            with Board(grid.store, len(cells)) as board:
                while waiting or self._running:
                    for cell in [*waiting]:
                        # Cells of one run, which differ in probes alone, go one after the other.
                        if len(self._running) < self.jobs and cell.run not in self._running:
                            waiting.remove(cell)
                            log = logs / f"{cell.run}.log"
                            self._running[cell.run] = self._start(cell, grid, log)
                            board.began(cell)
                    time.sleep(_POLL_SECONDS)
                    board.show()
                    for run, process in [*self._running.items()]:
                        if process.poll() is not None:
                            del self._running[run]
                            board.ended(run)
                            if process.returncode:
                                failures[run] = f"{_end_of(process)}; see {logs / run}.log"
        except KeyboardInterrupt:
            self._pass_on(signal.SIGINT, None)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return failures

    def _start(self, cell: Cell, grid: Grid, log: Path) -> subprocess.Popen[bytes]:
        cores = len(os.sched_getaffinity(0))
        threads = {"OMP_NUM_THREADS": str(max(cores // self.jobs, 1))}
        command = [sys.executable, "-m", "src.train", *cell.alone, *grid.membership]
        with log.open("ab") as output:
            # A session of its own: the terminal's Ctrl-C comes through us, once.
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=threads | os.environ,
                start_new_session=True,
            )

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """Have every cell stop in good order; a second Ctrl-C reaches them as one."""
        while True:
            for process in self._running.values():
                process.send_signal(number)
            try:
                for process in self._running.values():
                    process.wait()
                raise SystemExit(128 + number)
            except KeyboardInterrupt:
                number = signal.SIGINT


def _end_of(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    if code == -signal.SIGKILL:
        return "killed by SIGKILL, the kernel's where memory runs out"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"
