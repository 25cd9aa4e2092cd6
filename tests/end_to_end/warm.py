"""The command in a process that need not import torch and Lightning: four fifths of a start."""

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import TimeoutExpired
from tempfile import mkdtemp

from wandb.sdk.data_types._private import MEDIA_TMP

os.environ["OMP_NUM_THREADS"] = "1"  # the server's OpenMP reads it, once for all
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["src.cell", "src.training", "torch._dynamo", "sklearn.datasets", "hydra_plugins.grid_sweeper"]
)
Fault = Callable[[], None]


def _run(
    module: str,
    arguments: list[str],
    env: dict[str, str],
    cwd: Path,
    output: Path,
    fault: Fault | None,
) -> None:
    # W&B makes a folder for pictures when imported, which each process here removes at its end.
    MEDIA_TMP.__init__("wandb-media")  # type: ignore[misc]
    # Also where the tests run under nohup or in a shell's background.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.stdin = Path(os.devnull).open()  # noqa: SIM115
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = (output / name).open("w", buffering=1)
        os.dup2(file.fileno(), number)
        setattr(sys, name, file)
    sys.argv[1:] = arguments
    if fault:
        fault()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing does not


class WarmProcess:
    """A process as ``subprocess.Popen`` shows one, forked from a server that has all modules.

    It first calls the fault that it is to suffer, if there is one.
    """

    def __init__(
        self,
        arguments: list[str],
        env: dict[str, str],
        cwd: Path,
        module: str = "src.train",
        fault: Fault | None = None,
    ) -> None:
        self._output = Path(mkdtemp())
        given = (module, arguments, env, cwd, self._output, fault)
        self._process = _context.Process(target=_run, args=given, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutExpired("src.train", timeout or 0.0)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        return (self._output / "stdout").read_text(), (self._output / "stderr").read_text()
