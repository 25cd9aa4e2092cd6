"""The first paragraph's grid: four complete folders, then nothing left to do."""

import json
import shutil
from dataclasses import replace

import polars as pl
import pytest
import torch
import yaml

from tests.end_to_end.conftest import measured

GRID = ("-m", "data=digits", "scale=smoke", "model=vgg_bn,vgg_noisy", "optim.lr=0.1,0.5")
METRICS = {f"{s}/{k}" for s in ("train", "train_eval", "val") for k in ("loss", "accuracy")}
STATUS = {
    *("state", "step", "max_steps", "message", "attempts", "seconds", "started", "updated"),
    *("versions", "git", "machine", "device", "instructions", "threads", "data"),
    *("attempt_began", "probes", "probe_failures", "moved", "log_every", "eval_every"),
}


@pytest.fixture(scope="module")
def grid(shared):
    return shared("grid", *GRID, fresh=True)  # as a person starts it


def test_four_complete_folders(grid, status):
    command, _ = grid
    runs = command.runs()
    assert len(runs) == 4
    for run in runs:
        found = status(run)
        assert found.keys() == STATUS
        assert (found["state"], found["step"], found["max_steps"]) == ("completed", 20, 20)
        assert (found["message"], found["attempts"], found["device"]) == (None, 1, "cpu")
        assert found["seconds"] > 0 and found["started"] < found["updated"]
        assert found["versions"].keys() >= {"python", "torch", "pytorch-lightning", "wandb"}
        assert found["git"].keys() == {"commit", "dirty"}
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert run.name.startswith(config["model"]["name"] + "-")
        assert config["max_steps"] == 20 and "hydra" not in config
        assert {p.name for p in run.iterdir()} == {
            *("config.yaml", "status.json", "metrics.parquet", "norms.parquet"),
            *("train.log", "wandb"),
        }


def test_metrics_have_the_columns_and_rows_of_the_contract(grid):
    for run in grid[0].runs():
        table = pl.read_parquet(run / "metrics.parquet")
        assert table.schema == {"step": pl.Int64, "name": pl.String, "value": pl.Float64}
        noisy = {"val/accuracy_mean_noise"}
        expected = METRICS | noisy if "noisy" in run.name else METRICS
        assert set(table["name"]) == expected
        losses = table.filter(name="train/loss")
        assert losses["step"].to_list() == list(range(20))
        assert table.filter(name="val/loss")["step"].to_list() == [20]
        accuracies = table.filter(pl.col("name").str.contains("accuracy"))["value"]
        assert accuracies.is_between(0, 1).all()
        assert table["value"].is_finite().all()


def test_the_manifest_lists_the_cells(grid):
    command, done = grid
    (path,) = (command.runs_dir / "sweeps").glob("*.json")
    manifest = json.loads(path.read_text())
    assert manifest["sweep"] == path.stem and done.stdout.startswith(f"{path.stem}: scale smoke")
    assert {cell["run"] for cell in manifest["cells"]} == {run.name for run in command.runs()}
    assert all(
        cell.keys() == {"overrides", "run", "probes", "command"} for cell in manifest["cells"]
    )


def test_wandb_holds_every_metric(grid, read_wandb):
    command, _ = grid
    (manifest,) = (command.runs_dir / "sweeps").glob("*.json")
    for run in command.runs():
        found = read_wandb(run)
        assert (found["run"].run_id, found["run"].display_name) == (run.name, run.name)
        assert (found["run"].project, found["run"].run_group) == ("batchnorm", manifest.stem)
        assert found["exit"] == 0
        resolved = yaml.safe_load((run / "config.yaml").read_text())
        config = {key: value for key, value in found["config"].items() if key != "_wandb"}
        assert config == resolved
        logged = {
            (row["trainer/global_step"], name, value)
            for row in found["history"]
            for name, value in row.items()
            if "/" in name and name != "trainer/global_step"
        }
        assert logged == measured(run, "norms")
        # Every metric has the training step as its axis: by the wildcard's index, or by name.
        assert any(m.glob_name == "*" for m in found["metrics"])
        assert all(m.step_metric == "trainer/global_step" for m in found["metrics"] if m.glob_name)


def test_says_what_lies_ahead_and_shows_the_table(grid, control_characters):
    command, done = grid
    first, estimate, heading, *rows = done.stdout.splitlines()
    assert first.endswith("scale smoke, 4 cells, 0 already complete")
    assert estimate.startswith("about ") and "4 cells" in estimate
    assert " ".join(heading.split()) == "model lr seed state train acc test acc time folder"
    assert len(rows) == 4 and all("completed" in row for row in rows)
    assert {row.split()[-1] for row in rows} == {str(run) for run in command.runs()}
    assert not control_characters(done.stdout + done.stderr)
    assert done.stderr == ""


def test_the_same_command_again_trains_nothing(grid):
    command, _ = grid
    files = [p for run in command.runs() for p in run.rglob("*") if p.is_file()]
    before = {p: p.stat().st_mtime_ns for p in files}
    done = command(*GRID)
    assert "4 cells, 4 already complete" in done.stdout
    assert done.stdout.count("completed") == 4
    assert {p: p.stat().st_mtime_ns for p in files} == before


def test_force_trains_again_and_replaces(grid, command, status):
    first, _ = grid
    (run,) = (r for r in first.runs("vgg_bn-*") if "lr: 0.5" in (r / "config.yaml").read_text())
    copy = command.runs_dir / run.name
    shutil.copytree(run, copy, symlinks=True)
    (copy / "left over").touch()
    cell = ("data=digits", "scale=smoke", "model=vgg_bn", "optim.lr=0.5")
    command(*cell, "force=true", "logger=none")
    assert command.run() == copy and not (copy / "left over").exists()
    after = status(copy)
    assert after["started"] > status(run)["updated"] and after["state"] == "completed"
    # So a run without W&B equals one with it, and one alone equals one in a grid.
    assert (copy / "metrics.parquet").read_bytes() == (run / "metrics.parquet").read_bytes()
    assert not (copy / "wandb").exists()
    assert not list(command.runs_dir.glob(".again/*"))


@pytest.mark.slow
def test_a_forced_training_that_fails_has_failed_and_leaves_the_old(grid, command, status):
    first, _ = grid
    run = first.runs()[0]
    copy = command.runs_dir / run.name
    shutil.copytree(run, copy, symlinks=True)
    lr = "0.5" if "lr: 0.5" in (run / "config.yaml").read_text() else "0.1"
    cell = ("data=digits", "scale=smoke", f"model={run.name.rpartition('-')[0]}", f"optim.lr={lr}")
    done = command(*cell, "force=true", "logger=none", "accelerator=gpu", code=1)
    assert "1 of 1 cells failed" in done.stdout and "no CUDA device" in done.stdout
    assert status(copy) == status(run)


@pytest.mark.slow
def test_wandb_changes_nothing_of_the_training(command, differences):
    cell = ("data=digits", "scale=smoke", "model=vgg_noisy", "max_steps=5", "keep_checkpoints=true")
    command(*cell)
    without = replace(command, runs_dir=command.runs_dir.with_name("without"))
    without(*cell, "logger=none")
    one, other = command.run(), without.run()
    assert (one / "wandb").exists() and not (other / "wandb").exists()
    saved = (torch.load(folder / "resume.ckpt") for folder in (one, other))
    assert differences(*saved) == []
    for name in ("metrics", "norms"):
        tables = (pl.read_parquet(folder / f"{name}.parquet") for folder in (one, other))
        assert next(tables).equals(next(tables))
