"""Sweeps on a real SLURM of one node (``tests/slurm/cluster.sh``), disturbed in every way."""

import os
import re
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from src.runs.store import RunStore

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        os.environ.get("SLURM_TESTS") != "required"
        and (not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))) or os.geteuid() != 0),
        reason="needs root, and Debian's slurm-wlm and munge",
    ),
]
SLURM = (
    *("hydra/launcher=slurm", "hydra.launcher.poll_seconds=1", "hydra.launcher.cpus_per_task=1"),
    *("hydra.launcher.mem_gb=2", "hydra.launcher.timeout_min=60"),
)
RUN = (
    *("data=digits", "scale=smoke", "model=vgg_noisy", "model.depth=11", "noise.passes=1"),
    *("max_steps=300", "checkpoint_every=10", "eval_every=40", "logger=none"),
)


@dataclass(frozen=True)
class Cluster:
    """SLURM, and what a person would do to it."""

    folder: Path
    conf: str

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"SLURM_CONF": self.conf},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def script(self, action: str, *arguments: str) -> None:
        script = ROOT / "tests" / "slurm" / "cluster.sh"
        # Daemons keep what they are given as output: no pipe, or its reader waits for ever.
        with (self.folder / "script.log").open("ab") as log:
            subprocess.run(
                [script, action, self.folder, *arguments], check=True, stdout=log, stderr=log
            )

    def states(self) -> dict[str, str]:
        """Return the state of each job that is not over, by its number."""
        lines = self("squeue", "-h", "-r", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def again_at_once(self) -> bool:
        """Have requeued jobs start now instead of two minutes later; tell whether one waited.

        Not in the second they ended in: slurmd takes a job's credential of then for revoked, and
        the job fails.
        """
        jobs = map(str.split, self("squeue", "-h", "-t", "PENDING", "-o", "%A %r").splitlines())
        held = [number for number, *reason in jobs if reason == ["BeginTime"]]
        for number in held:
            self("scontrol", "update", f"jobid={number}", "StartTime=now+2")
        return bool(held)


def _free_ports() -> int:
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    cluster = Cluster(folder, f"{folder}/slurm.conf")
    cluster.script("start", str(_free_ports()))
    yield cluster
    cluster.script("stop")


@pytest.fixture
def slurm(cluster, command):
    command.env["SLURM_CONF"] = cluster.conf
    yield command
    cluster("scancel", "--user=root")


@pytest.fixture
def undisturbed(shared):
    return shared("undisturbed", *RUN)[0].run()


def checkpoint_of(run):
    path = run / "resume.ckpt"
    return path.stat().st_mtime_ns if path.exists() else 0


def assert_equal(run, undisturbed):
    assert run.name == undisturbed.name
    for table in ("metrics.parquet", "norms.parquet"):
        assert pl.read_parquet(run / table).equals(pl.read_parquet(undisturbed / table)), table


def test_an_array_in_which_one_cell_fails_and_one_is_killed_for_memory(slurm, status):
    # At eight times the width the weights alone are 3 GB, and the job has 2.
    cells = ("data=digits,cifar10", "model.width=0.02,8", "model.depth=11", "max_steps=2")
    nowhere = ("data.root=nowhere", "data.download=false")
    done = slurm("scale=smoke", *cells, *nowhere, "logger=none", *SLURM, code=1)
    states = {run: status(run)["state"] for run in slurm.runs()}
    assert sorted(states.values()) == ["completed", "failed", "failed", "running"]
    (killed,) = (run for run, state in states.items() if state == "running")
    assert "submitted, with 4 to train" in done.stdout and "3 of 4 cells failed" in done.stdout
    assert done.stdout.count(": DataError: nowhere holds no CIFAR-10") == 3
    assert done.stdout.count(": likewise\n") == 1
    (line,) = re.findall(rf"  {killed.name}: job (\d+_\d) FAILED, (.*)", done.stdout)
    (err,) = Path(line[1]).glob(f"{line[0]}_*.err")
    assert "memory" in err.read_text()


def test_a_cell_that_fails_before_it_begins(slurm, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    setup = f'hydra.launcher.setup=["export PYTHONPATH={tmp_path}"]'
    done = slurm(*RUN, *SLURM, setup, code=1)
    assert "1 of 1 cells failed" in done.stdout
    assert re.search(r": job \d+ FAILED, ", done.stdout)


def test_requeued_and_at_its_time_limit(slurm, cluster, status, undisturbed, wait_for):
    process, run = slurm.start(*RUN, *SLURM), slurm.runs_dir / undisturbed.name
    wait_for(lambda: checkpoint_of(run), process)
    (job,) = cluster.states()
    cluster("scontrol", "requeue", job)
    wait_for(cluster.again_at_once, process)
    assert status(run)["message"] == "stopped by SIGTERM"

    before = checkpoint_of(run)
    wait_for(lambda: checkpoint_of(run) > before, process)
    # Held until SLURM has found it near its limit, which it looks for every 30 seconds.
    writer = RunStore(slurm.runs_dir).writer(run.name)
    os.kill(writer.pid, signal.SIGSTOP)
    cluster("scontrol", "update", f"jobid={job}", "EndTime=now+100")
    wait_for(lambda: signal.SIGUSR2 in pending(writer.pid), process)
    # A requeued job keeps its limit: with this one a slow third attempt would be signalled too.
    cluster("scontrol", "update", f"jobid={job}", "TimeLimit=60")
    with suppress(ProcessLookupError):  # SLURM itself may have woken it, and it is through
        os.kill(writer.pid, signal.SIGCONT)
    wait_for(cluster.again_at_once, process)
    assert status(run)["message"] == "stopped by SIGUSR2"

    out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert (status(run)["state"], status(run)["attempts"]) == ("completed", 3)
    assert_equal(run, undisturbed)


def pending(pid: int) -> set[int]:
    """Return the signals that wait for a process; of one that has ended, all."""
    try:
        (mask,) = re.findall(r"ShdPnd:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    except FileNotFoundError:
        mask = "f" * 16
    return {number for number in range(1, 65) if int(mask, 16) >> (number - 1) & 1}


def test_the_launcher_killed_slurmctld_restarted_a_job_told_to_stop(
    slurm, cluster, status, undisturbed, wait_for
):
    grid = (*RUN, "seed=0,1", *SLURM, "hydra.launcher.array_parallelism=1")
    run, first = slurm.runs_dir / undisturbed.name, slurm.start(*grid)
    wait_for(lambda: checkpoint_of(run), first)
    first.kill()
    out, _ = first.communicate()
    assert "submitted, with 2 to train" in out
    submitted = cluster.states()
    assert len(submitted) == 2

    second = slurm.start(*grid)
    cluster.script("restart")
    assert cluster.states() == submitted
    (running,) = [job for job, state in submitted.items() if state == "RUNNING"]
    cluster("scancel", "--signal=TERM", running)
    out, err = second.communicate()
    assert "2 wait or run in the queue already" in out and "submitted, with" not in out
    assert second.returncode == 1 and "1 of 2 cells failed" in out, out + err
    assert f"  {run.name}: stopped by SIGTERM" in out
    (other,) = [found for found in slurm.runs() if found != run]
    before = status(other)
    assert (status(run)["state"], before["state"]) == ("running", "completed")

    third = slurm(*grid)
    assert "2 cells, 1 already complete" in third.stdout
    assert "submitted, with 1 to train" in third.stdout
    assert (status(run)["state"], status(run)["attempts"]) == ("completed", 2)
    assert status(other) == before and before["attempts"] == 1
    assert_equal(run, undisturbed)
