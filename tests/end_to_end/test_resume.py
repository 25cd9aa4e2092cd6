"""A run stopped in any way and started again ends bit for bit as one never stopped."""

import random
import signal
import time
from dataclasses import replace
from functools import partial

import polars as pl
import pytest
import torch

from tests.faults.inject import At, Faults

RUN = (
    *("data=digits", "scale=smoke", "model=vgg_noisy", "model.depth=11", "model.dropout=0.3"),
    *("optim.momentum=0.9", "data.augment=true", "max_steps=60", "checkpoint_every=6"),
    *("eval_every=25", "log_every=4", "noise.passes=1", "keep_checkpoints=true", "logger=none"),
)


@pytest.fixture
def uninterrupted(shared):
    return shared("uninterrupted", *RUN)[0].run()


@pytest.fixture
def checkpoint(command, uninterrupted):
    """The newest checkpoint of the interrupted run, as (path, time of its writing)."""
    path = command.runs_dir / uninterrupted.name / "resume.ckpt"
    return lambda: (path, path.stat().st_mtime_ns) if path.exists() else (path, 0)


@pytest.fixture
def equals_the_uninterrupted(command, uninterrupted, differences):
    def check():
        run = command.run()
        for name in ("resume.ckpt", "resume.previous.ckpt"):
            ours, theirs = (torch.load(folder / name) for folder in (run, uninterrupted))
            assert {"state_dict", "optimizer_states", "global_step"} <= ours.keys()
            assert differences(ours, theirs) == []
        assert torch.load(run / "resume.ckpt")["global_step"] == 60
        momenta = torch.load(run / "resume.ckpt")["optimizer_states"][0]["state"]
        assert all(state["momentum_buffer"].any() for state in momenta.values())
        metrics = (folder / "metrics.parquet" for folder in (run, uninterrupted))
        assert next(metrics).read_bytes() == next(metrics).read_bytes()

    return check


@pytest.mark.slow
def test_killed_at_random_steps(
    command, uninterrupted, checkpoint, equals_the_uninterrupted, wait_for
):
    delays = random.Random(3)
    for _ in range(4):
        process, before = command.start(*RUN), checkpoint()[1]
        wait_for(lambda before=before: checkpoint()[1] > before, process)
        time.sleep(delays.uniform(0, 0.5))
        process.kill()
        process.communicate()
        # Under its name a checkpoint is whole, whenever the kill came.
        torch.load(checkpoint()[0])
        if torch.load(checkpoint()[0])["global_step"] == 60:
            break
    command(*RUN)
    equals_the_uninterrupted()


@pytest.mark.slow
def test_asked_to_stop(
    command, uninterrupted, checkpoint, status, equals_the_uninterrupted, wait_for
):
    run = command.runs_dir / uninterrupted.name
    for number, asked in enumerate((signal.SIGTERM, signal.SIGINT), start=1):
        # Were the grid to go on, its second cell would leave a folder.
        process, before = command.start(*RUN, "seed=0,1"), checkpoint()[1]
        wait_for(lambda before=before: checkpoint()[1] > before, process)
        process.send_signal(asked)
        _, err = process.communicate()
        assert process.returncode == 128 + asked, err
        found, step = status(run), torch.load(checkpoint()[0])["global_step"]
        assert (found["state"], found["step"], found["attempts"]) == ("running", step, number)
        assert found["message"] == f"stopped by {asked.name}"
        assert f"stopped by {asked.name} at step {step}; the same command" in err
        assert "Traceback" not in err and len(err.splitlines()) == 1
        assert command.runs() == [run]
        if step < 60:  # all of it is on the disk, not only in the checkpoint
            assert pl.read_parquet(run / "metrics.parquet")["step"].max() >= step - 4
    command(*RUN)
    found = status(run)
    assert (found["state"], found["attempts"], found["message"]) == ("completed", 3, None)
    equals_the_uninterrupted()


@pytest.mark.slow
def test_asked_twice_stops_at_once(command, status, wait_for):
    # The evaluation after step 2 takes minutes; the first signal waits for its end.
    long = ("noise.passes=100000", "checkpoint_every=1", "eval_every=2")
    process = command.start(*RUN, *long)
    wait_for(lambda: list(command.runs_dir.glob("*/resume.ckpt")), process)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode > 0 and "Traceback" not in err, err
    assert torch.load(command.run() / "resume.ckpt")["global_step"] == 1
    assert status(command.run())["state"] == "running"


@pytest.mark.slow
def test_asked_in_the_last_step_completes_and_stops_the_grid(command, status):
    last = ("max_steps=2", "checkpoint_every=1", "seed=0,1")
    asked = At(r"os.rename .*\.metrics\.parquet", 2, partial(signal.raise_signal, signal.SIGTERM))
    replace(command, fault=Faults((asked,)))(*RUN, *last, code=128 + signal.SIGTERM)
    found = status(command.run())
    assert (found["state"], found["step"]) == ("completed", 2), found
