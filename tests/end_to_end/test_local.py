"""``hydra/launcher=local``: cells side by side, each a process of its own."""

import json
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from src.runs.store import RunStore

CELLS = (
    *("data=digits", "scale=smoke", "model.depth=11", "model.width=0.02", "checkpoint_every=5"),
    *("logger=none", "hydra/launcher=local"),
)


def begun(command):
    """Return the runs that have a checkpoint."""
    return [run for run in command.runs() if (run / "resume.ckpt").exists()]


def writer(run):
    return RunStore(run.parent).writer(run.name).pid


@pytest.fixture(params=["by hand", "by the kernel"])
def kill(request):
    """Kills a process; the kernel does so by itself where hardly any memory is allowed."""
    if request.param == "by hand":
        yield lambda pid: os.kill(pid, signal.SIGKILL)
        return
    root = Path("/sys/fs/cgroup")
    parent, limit = root, "memory.max"
    if (root / "memory").is_dir():  # the first version of control groups
        parent, limit = root / "memory", "memory.limit_in_bytes"
    group = parent / f"starved-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        if not (group / limit).exists():
            pytest.skip("control groups do not limit memory here")
        (group / limit).write_text("1000000")
        yield lambda pid: (group / "cgroup.procs").write_text(str(pid))
    finally:
        group.rmdir()


@pytest.mark.slow
def test_a_killed_cell_takes_no_other_with_it(kill, command, status, wait_for):
    process = command.start(*CELLS, "max_steps=150", "seed=0,1,2")
    wait_for(lambda: begun(command), process)
    killed = begun(command)[0]
    kill(writer(killed))
    out, err = process.communicate()
    assert (process.returncode, err) == (1, ""), out + err
    log = command.runs_dir / "sweeps" / ".logs" / f"{killed.name}.log"
    assert "1 of 3 cells failed" in out and log.exists()
    why = "killed by SIGKILL, the kernel's where memory runs out"
    assert f"  {killed.name}: {why}; see {log}" in out
    others = [status(run) for run in command.runs() if run != killed]
    assert [run["state"] for run in others] == ["completed"] * 2
    assert sorted(line.split()[0] for line in out.splitlines() if "/3 " in line) == [
        *("1/3", "2/3", "3/3")
    ]


@pytest.mark.slow
def test_ctrl_c_stops_every_cell_in_good_order(command, status, wait_for):
    process = command.start(*CELLS, "max_steps=100000", "seed=0,1,2", "hydra.launcher.jobs=2")
    wait_for(lambda: len(begun(command)) == 2, process)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 128 + signal.SIGINT
    assert [status(run)["message"] for run in command.runs()] == ["stopped by SIGINT"] * 2


@dataclass(frozen=True)
class Nohup:
    """What ``nohup`` does to a command."""

    def __call__(self) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.mark.slow
def test_under_nohup_a_hang_up_stops_nothing(command, status, wait_for):
    process = replace(command, fault=Nohup()).start(*CELLS, "max_steps=60", "seed=0,1")
    wait_for(lambda: begun(command), process)
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, ""), out + err
    assert [status(run)["state"] for run in command.runs()] == ["completed"] * 2


@pytest.mark.slow
def test_cells_of_one_run_train_one_after_the_other(command, status):
    out = command(*CELLS, "max_steps=2", "probes=none,ics").stdout
    run = command.run()
    assert [*status(run)["probes"]] == ["ics"]
    told = [line for line in out.splitlines() if "/2 " in line]
    assert told == [f"{number}/2 {run.name} completed" for number in (1, 2)]


@pytest.mark.slow
def test_a_cell_trains_itself_and_not_the_other_grids_of_its_sweep(command):
    command(*CELLS, "+sweeps=own_initialisation", "optim.lr=0.1", "max_steps=2", "probes=none")
    cells = json.loads((command.runs_dir / "sweeps" / "own_initialisation.json").read_text())
    names = {cell["run"] for cell in cells["cells"]}
    assert {run.name for run in command.runs()} == names and len(names) == 2


@pytest.mark.parametrize(
    ("launcher", "setting", "allowed"),
    [
        ("local", "jobs=0", "a whole number from 1"),
        ("local", "jobs=true", "a whole number from 1"),
        ("slurm", "poll_seconds=x", "a number above 0"),
        ("slurm", "array_parallelism=0", "a whole number from 1"),
        ("slurm", "max_num_timeout=x", "a whole number from 0"),
        ("slurm", "setup=foo", "a list of lines"),
    ],
)
def test_a_launchers_wrong_value_is_one_line(command, launcher, setting, allowed):
    chosen = (f"hydra/launcher={launcher}", f"hydra.launcher.{setting}")
    (line,) = command("data=digits", *chosen, code=2).stderr.splitlines()
    given = setting.replace("true", "True")
    assert line == f"hydra.launcher.{given}: allowed is {allowed}"
    assert not command.runs_dir.exists()
