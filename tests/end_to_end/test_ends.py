"""How runs end other than well, and what the command says of it."""

import os
import shlex
import signal
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

NETS = ("-m", "scale=smoke", "model=vgg", "model.depth=11", "model.dropout=0")
RATES = "optim.lr=0.1,1e30"


@pytest.fixture(scope="module")
def mixed(shared):
    """Digits at two rates, one of which diverges, and CIFAR-10 where there is none."""
    nowhere = ("data=cifar10,digits", "data.root=nowhere", "data.download=false")
    return shared("mixed", *NETS, RATES, *nowhere, "log_every=7", "logger=none", code=1)


def _by_state(command, status):
    runs = command.runs()
    return {s: [r for r in runs if status(r)["state"] == s] for s in map(_state(status), runs)}


def _state(status):
    return lambda run: status(run)["state"]


def test_divergence_is_an_end(mixed, status):
    runs = _by_state(mixed[0], status)
    (diverged,) = runs["diverged"]
    found = status(diverged)
    assert 0 < found["step"] < 7, "exact, although rows are written every 7 steps"
    assert found["message"] == f"the training loss is not finite at step {found['step']}"
    losses = pl.read_parquet(diverged / "metrics.parquet").filter(name="train/loss")
    assert losses["step"].to_list() == [0, 7] and losses["value"].is_finite().to_list() == [1, 0]
    assert not list(diverged.glob("*.ckpt"))
    assert len(runs["completed"]) == 1


def test_a_failure_has_its_message_and_the_others_run(mixed, status):
    command, done = mixed
    (run,) = _by_state(command, status)["failed"]
    assert "DataError: nowhere holds no CIFAR-10" in status(run)["message"]
    log = (run / "train.log").read_text()
    assert "nowhere holds no CIFAR-10" in log and "Traceback" in log
    assert f"  {run.name}: DataError: nowhere holds no CIFAR-10" in done.stdout
    (line,) = [x for x in done.stderr.splitlines() if x.startswith(run.name)]
    assert line.startswith(f"{run.name} failed: nowhere holds no CIFAR-10")
    assert len(command.runs()) == 3 and done.stdout.count(": likewise\n") == 1  # sought once
    assert "Traceback" not in done.stderr
    assert "2 of 4 cells failed:" in done.stdout
    states = [line.split()[3] for line in done.stdout.splitlines() if line.startswith("vgg ")]
    assert sorted(states) == ["completed", "diverged", "failed", "failed"]


@pytest.mark.slow
def test_the_printed_command_retries_the_cell(mixed, command, status):
    first, done = mixed
    printed = [shlex.split(x) for x in done.stdout.splitlines() if "python -m src.train" in x]
    assert len(printed) == 2
    overrides = printed[0][3:]
    assert f"runs_dir={first.runs_dir}" in overrides
    before = {run: status(run) for run in first.runs()}
    again = command(*overrides, code=None)  # Command names a folder of its own after it
    assert again.returncode == 1 and "1 of 1 cells failed" in again.stdout
    assert command.run().name in {run.name for run in first.runs()}
    assert {run: status(run) for run in first.runs()} == before


def test_divergence_alone_is_no_failure(mixed):
    command, _ = mixed
    done = command(*NETS, RATES, "data=digits", "logger=none")
    assert "2 cells, 2 already complete" in done.stdout and "diverged" in done.stdout


@pytest.mark.slow
def test_every_precision_completes_on_the_threads_asked_for(command, status):
    command = replace(command, fresh=True, env={"OMP_NUM_THREADS": "2"})
    precisions = "precision=bf16-mixed,64-true"
    command("-m", "data=digits", "scale=smoke", "max_steps=3", precisions, "threads=1")
    runs = command.runs()
    assert len(runs) == 2
    for run in runs:
        assert (status(run)["state"], status(run)["threads"]) == ("completed", 1)
        assert pl.read_parquet(run / "metrics.parquet")["value"].is_finite().all()


@pytest.mark.slow
def test_a_wrong_key_costs_nothing(command, status):
    command.env.update(WANDB_API_KEY="short", WANDB_MODE="online")
    done = command("data=digits", "scale=smoke", "max_steps=2", "model.depth=11")
    (line,) = done.stderr.splitlines()
    assert line.startswith("W&B does not work (WANDB_API_KEY invalid")
    assert line.endswith(f"logged offline; to upload later: python -m src.sync {command.runs_dir}")
    assert status(command.run())["state"] == "completed"
    assert list(command.run().glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds W&B's process in /proc")
def test_the_death_of_wandbs_process_costs_nothing(command, status, wait_for):
    many = ("model.depth=11", "model.width=0.02", "max_steps=60", "checkpoint_every=5")
    process = command.start("data=digits", "scale=smoke", *many, "seed=0,1")
    wait_for(lambda: list(command.runs_dir.glob("*/resume.ckpt")), process)
    threads = Path(f"/proc/{process.pid}/task")
    children = {int(c) for t in threads.iterdir() for c in (t / "children").read_text().split()}
    (wandb_core,) = [c for c in children if b"wandb" in Path(f"/proc/{c}/cmdline").read_bytes()]
    os.kill(wandb_core, signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert err.count("W&B was lost") == len(err.splitlines()) == 1, err
    assert [status(run)["state"] for run in command.runs()] == ["completed"] * 2
    assert len(list(command.runs_dir.glob("*/wandb/offline-run-*"))) == 2


@pytest.mark.slow
def test_a_damaged_data_file_is_one_line_and_what_failed_leaves_no_trace(command, status, tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    for split in ("train", "test"):
        (root / f"{split}-00000-of-00001.parquet").write_bytes(b"PAR1 and then nothing")
    tiny = ("scale=smoke", "model.depth=11", "max_steps=2", "logger=none")
    cell = ("data=cifar10", f"data.root={root}", *tiny)
    done = command(*cell, "probes=ics", code=1)
    (line,) = done.stderr.splitlines()
    assert "train-00000-of-00001.parquet is damaged or half-written" in line
    assert "name another copy as data.root" in line
    run = command.run()
    assert "Traceback" in (run / "train.log").read_text()
    # The failed attempt's probes are nobody's wish any more.
    command(*cell, code=1)
    assert status(run)["probes"] == {} and status(run)["attempts"] == 2


@pytest.mark.slow
def test_a_hang_up_stops_in_good_order(command, status, wait_for):
    process = command.start("data=digits", "scale=smoke", "max_steps=4000", "logger=none")
    wait_for(lambda: list(command.runs_dir.glob("*/resume.ckpt")), process)
    process.send_signal(signal.SIGHUP)
    process.communicate()
    assert process.returncode == 128 + signal.SIGHUP
    assert status(command.run())["message"] == "stopped by SIGHUP"
