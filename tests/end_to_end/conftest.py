"""The real command, in processes of its own: each start costs seconds, so results are shared."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from filelock import FileLock

from src.runs.tables import Table
from src.sync import records
from tests.end_to_end.warm import Fault, WarmProcess

ROOT = Path(__file__).resolve().parents[2]
Process = WarmProcess | subprocess.Popen[str]
SMOKE = ("data=digits", "scale=smoke")


def measured(run: Path, *tables: str) -> set[tuple[int, str, float]]:
    """Return (step, name, value) of a run's metrics, and of other tables under W&B's names."""
    found = set(pl.read_parquet(run / "metrics.parquet").iter_rows())
    for table in (Table(run, name) for name in tables):
        for (step,), part in pl.read_parquet(table.path).partition_by("step", as_dict=True).items():
            found |= {(step, *named) for named in table.scalars(part.rows()).items()}
    return found


@dataclass(frozen=True)
class Command:
    """``python -m src.train`` writing to one folder, for a user who has no login at W&B.

    Its processes are forked from one that has imported torch already, unless they are to be fresh.
    A forked one calls ``fault`` first.
    """

    runs_dir: Path
    home: Path
    fresh: bool = False
    env: dict[str, str] = field(default_factory=dict)
    fault: Fault | None = None
    patience: float = 200  # seconds

    def arguments(self, *overrides: str) -> dict[str, Any]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "HYDRA"))}
        mine = {"HOME": str(self.home), "OMP_NUM_THREADS": "1", "COLUMNS": "200", **self.env}
        args = [sys.executable, "-m", "src.train", *overrides, f"runs_dir={self.runs_dir}"]
        return {"args": args, "cwd": ROOT, "env": kept | mine, "text": True}

    def __call__(self, *overrides: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        process = self.start(*overrides)
        out, err = process.communicate(timeout=self.patience)
        assert code in (None, process.returncode), f"{process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(overrides, process.returncode or 0, out, err)

    def start(self, *overrides: str) -> Process:
        given = self.arguments(*overrides)
        if not self.fresh:
            return WarmProcess(given["args"][3:], given["env"], ROOT, fault=self.fault)
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        return subprocess.Popen(**given, stdin=null, stdout=pipe, stderr=pipe)

    def runs(self, pattern: str = "*") -> list[Path]:
        return sorted(p for p in self.runs_dir.glob(pattern) if (p / "status.json").exists())

    def run(self, pattern: str = "*") -> Path:
        (only,) = self.runs(pattern)
        return only


def _status(run: Path) -> dict[str, Any]:
    return json.loads((run / "status.json").read_text())


def _differences(a: Any, b: Any, path: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [d for key in a for d in _differences(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [d for n, (x, y) in pairs for d in _differences(x, y, f"{path}/{n}")]
    same = torch.equal(a, b) if torch.is_tensor(a) and torch.is_tensor(b) else a == b
    return [] if same else [path]


@pytest.fixture(scope="session")
def status() -> Callable[[Path], dict[str, Any]]:
    """Reads a run's ``status.json``."""
    return _status


@pytest.fixture(scope="session")
def differences() -> Callable[..., list[str]]:
    """The paths at which two nested structures of tensors and values differ, to the last bit."""
    return _differences


@pytest.fixture(scope="session")
def smoke() -> tuple[str, ...]:
    """The overrides of a run of seconds that needs no file."""
    return SMOKE


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command, with an empty home and a folder of its own to write to."""
    home = tmp_path / "home"
    home.mkdir()
    return Command(tmp_path / "runs", home)


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    """Waits until something has happened; fails if a process that must live meanwhile ends."""

    def wait(happened: Callable[[], Any], process: Process) -> None:
        while not happened():
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)

    return wait


Shared = Callable[..., tuple[Command, subprocess.CompletedProcess[str]]]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Runs the command at most once in the session, whichever worker asks first."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def run(
        name: str, *overrides: str, code: int = 0, fresh: bool = False
    ) -> tuple[Command, subprocess.CompletedProcess[str]]:
        folder = base / name
        folder.mkdir(exist_ok=True)
        command = Command(folder / "runs", folder / "home", fresh)
        with FileLock(f"{folder}.lock"):
            record = folder / "done.json"
            if not record.exists():
                command.home.mkdir()
                done = command(*overrides, code=None)
                record.write_text(json.dumps([done.returncode, done.stdout, done.stderr]))
        returned, out, err = json.loads(record.read_text())
        assert returned == code, f"{returned}\n{out}\n{err}"
        return command, subprocess.CompletedProcess(overrides, returned, out, err)

    return run


@pytest.fixture(scope="session")
def read_wandb() -> Callable[[Path], dict[str, Any]]:
    """Reads the one offline run of a run folder: its header, config, history and metrics."""
    from wandb.proto import wandb_internal_pb2

    def read(folder: Path) -> dict[str, Any]:
        (path,) = folder.glob("wandb/offline-run-*/*.wandb")
        found: dict[str, Any] = {"history": [], "metrics": [], "exit": None}
        for content, _ in records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            kind = record.WhichOneof("record_type")
            if kind == "run" and "run" not in found:
                found["run"] = record.run
                updates = record.run.config.update
                found["config"] = {u.key: json.loads(u.value_json) for u in updates}
            elif kind == "history":
                items = record.history.item
                row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
                found["history"].append(row)
            elif kind == "metric":
                found["metrics"].append(record.metric)
            elif kind == "exit":
                found["exit"] = record.exit.exit_code
        return found

    return read


@pytest.fixture(scope="session")
def control_characters() -> Callable[[str], list[str]]:
    """What a text holds that only a terminal understands."""
    return lambda text: re.findall(r"[^\n\x20-\x7e\u00a0-\uffff]", text)
