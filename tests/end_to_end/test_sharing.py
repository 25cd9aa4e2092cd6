"""Sweeps and processes that want the same runs."""

import json
import os
import socket
from pathlib import Path

import polars as pl
import pytest

SHORT = ("data=digits", "scale=smoke", "max_steps=2", "model.depth=11", "logger=none")


@pytest.mark.slow
def test_two_sweeps_that_share_a_cell_train_it_once(command, status):
    command(*SHORT, "sweep=first", "seed=0")
    (first,) = command.runs()
    before = status(first)
    done = command(*SHORT, "sweep=second", "seed=0,1")
    assert "second: scale smoke, 2 cells, 1 already complete" in done.stdout
    assert len(command.runs()) == 2
    assert status(first) == before and before["attempts"] == 1
    for sweep, cells in (("first", 1), ("second", 2)):
        manifest = json.loads((command.runs_dir / "sweeps" / f"{sweep}.json").read_text())
        runs = [cell["run"] for cell in manifest["cells"]]
        assert len(runs) == cells and first.name in runs


@pytest.mark.slow
def test_two_processes_asked_for_one_cell(command, status):
    cell = ("data=digits", "scale=smoke", "max_steps=60", "logger=none")
    processes = [command.start(*cell), command.start(*cell)]
    answers = [(p.communicate(), p.returncode) for p in processes]
    assert sorted(code for _, code in answers) == [0, 1], answers  # one has it left
    run = command.run()
    (first, writer), (second, _) = sorted(
        (err, process.pid) for ((_, err), _), process in zip(answers, processes, strict=True)
    )
    assert first == ""
    who = f"process {writer} on {socket.gethostname()}"
    assert second == f"{run.name} is being trained by {who}\n"
    assert (status(run)["state"], status(run)["attempts"]) == ("completed", 1)


@pytest.mark.slow
@pytest.mark.skipif("CIFAR10_ROOT" not in os.environ, reason="CIFAR10_ROOT names no images")
def test_two_cells_on_a_cold_cache_of_the_real_images(command, status, tmp_path):
    cell = ("scale=smoke", "max_steps=2", "model.depth=11", "model.width=0.02", "logger=none")
    cache = f"data.cache={tmp_path / 'cache'}"
    processes = [command.start(*cell, cache, f"seed={seed}") for seed in (0, 1)]
    for process in processes:
        assert process.wait(200) == 0, process.communicate()
        process.communicate()
    assert [status(run)["state"] for run in command.runs()] == ["completed"] * 2
    assert all(status(run)["data"].startswith("cifar10") for run in command.runs())
    files = [p for p in Path(tmp_path / "cache").iterdir() if p.suffix != ".lock"]
    assert len(files) == 1 and files[0].stat().st_size > 180e6


@pytest.mark.slow
def test_a_run_that_lacks_a_probe_is_trained_again_and_one_that_has_it_is_not(command, status):
    command(*SHORT)
    run = command.run()
    began = status(run)["started"]
    metrics = (run / "metrics.parquet").read_bytes()
    asked = (*SHORT, "probes=ics", "probes.every=1")
    done = command(*asked)
    assert "1 cell, 0 already complete" in done.stdout and done.stderr == ""
    assert status(run)["started"] == began, "it is the same training"
    assert command.run() == run and (run / "metrics.parquet").read_bytes() == metrics
    assert pl.read_parquet(run / "ics.parquet")["step"].unique().to_list() == [0, 1]
    before = status(run)
    for served in (asked, SHORT, (*asked, "probes.every=2"), (*asked, "probes.step_sizes=[7]")):
        assert "1 cell, 1 already complete" in command(*served).stdout
    assert status(run) == before
    (line,) = command(*asked, "probes.precision=float64").stderr.splitlines()
    told = "other settings are asked for than it was probed with, and replace those"
    assert line == f"{run.name} is trained again: {told}"
    assert status(run)["probes"]["ics"]["precision"] == "float64"


@pytest.mark.slow
@pytest.mark.parametrize("state", ["running", "failed"])
def test_what_an_unfinished_run_was_asked_to_probe(state, command, status):
    """Forced, it is probed anew; after a failure it need not be, and keeps no half of a table."""
    command(*SHORT, "probes=ics", "probes.every=1")
    run = command.run()
    half = pl.read_parquet(run / "ics.parquet").filter(pl.col("step") == 0)
    half.write_parquet(run / "ics.parquet")
    left = status(run) | {"state": state}
    (run / "status.json").write_text(json.dumps(left))
    command(*SHORT, "force=true")
    assert status(run)["state"] == "completed"
    if state == "running":
        assert status(run)["probes"].keys() == {"ics"}
        assert pl.read_parquet(run / "ics.parquet")["step"].unique().to_list() == [0, 1]
    else:
        assert not status(run)["probes"] and not (run / "ics.parquet").exists()


@pytest.mark.slow
def test_an_unfinished_run_that_begins_anew_says_so(command, status):
    command(*SHORT, "keep_checkpoints=true", "checkpoint_every=1")
    run = command.run()
    (run / "status.json").write_text(json.dumps(status(run) | {"state": "running", "step": 1}))
    (line,) = command(*SHORT, "eval_every=1").stderr.splitlines()
    assert line == f"{run.name} begins anew: the attempt that got to step 1 had other eval_every"
    assert line in (run / "train.log").read_text() and status(run)["state"] == "completed"
