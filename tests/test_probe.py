"""``python -m src.probe``: a step of a finished run, looked at again."""

import hashlib
import sys
from dataclasses import replace

import polars as pl
import pytest
import torch
from omegaconf import OmegaConf

from src import fit, probe
from src.data import feed
from src.runs.folder import RunFolder
from src.runs.needs import needs
from src.training import train

TINY = (
    *("data=digits", "scale=smoke", "logger=none", "model.depth=11", "model.width=0.04"),
    *("model.head=linear", "model=vgg_noisy", "data.batch_size=16", "optim.momentum=0.5"),
    *("max_steps=6", "checkpoint_every=2", "noise.passes=1", "accelerator=cpu", "threads=1"),
    *("keep_checkpoints=true", "probes=paper", "probes.every=1", "probes.units=2"),
)


@pytest.fixture(scope="module")
def finished(settings, composed, tmp_path_factory):
    """A run of six steps that probed each and kept a checkpoint of every second."""
    chosen = settings(*TINY)
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    folder.path.mkdir()
    groups = ("data=digits", "scale=smoke", "logger=none", "model=vgg_noisy", "probes=paper")
    values = OmegaConf.from_dotlist([o for o in TINY if o not in groups])
    config = OmegaConf.merge(composed(*groups), values)
    folder.write_config(OmegaConf.to_yaml(config, resolve=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "TRAIN_EVAL_IMAGES", 32)
        assert train(chosen, needs(chosen), folder, "run", {}) == "completed"
    return folder.path


@pytest.fixture
def command(finished, monkeypatch, capsys):
    def run(*words, code=0):
        monkeypatch.setattr(sys, "argv", ["probe", *map(str, words)])
        try:
            probe.main()
        except SystemExit as end:
            assert end.code == code
        else:
            assert code == 0
        return capsys.readouterr()

    return run


def contents(run):
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in run.rglob("*")
        if path.is_file() and "probed" not in path.parts
    }


def test_checkpoints_are_kept_by_step(finished):
    kept = {path.name for path in (finished / "checkpoints").iterdir()}
    assert kept == {"2.ckpt", "4.ckpt", "6.ckpt"}
    newest = torch.load(finished / "resume.ckpt")
    assert newest["global_step"] == torch.load(finished / "checkpoints/6.ckpt")["global_step"] == 6


@pytest.mark.parametrize("step", [0, 2, 4])
def test_a_step_probed_again_gives_the_runs_own_rows(step, finished, command):
    before = contents(finished)
    told = command(finished, "--step", step, "ics", "landscape", "activations").out
    assert contents(finished) == before
    (found,) = finished.glob(f"probed/{step}-*")
    for name in ("ics", "landscape", "activations"):
        own = pl.read_parquet(finished / f"{name}.parquet").filter(step=step)
        assert pl.read_parquet(found / f"{name}.parquet").equals(own, null_equal=True)
        assert len(own)
    assert "ics/2/conv2.weight/l2" in told and str(found) in told
    differences = [line.split()[-1] for line in told.splitlines() if line.startswith("ics/")]
    assert set(differences) == {"0.0e+00"}


def test_the_step_after_the_last_can_be_probed(finished, command):
    command(finished, "--step", 6, "ics")
    (found,) = finished.glob("probed/6-*")
    assert (pl.read_parquet(found / "ics.parquet")["step"] == 6).all()


def test_other_settings_go_to_a_folder_of_their_own(finished, command):
    for precision in ("float32", "float64"):
        command(finished, "--step", 2, "ics", f"probes.precision={precision}", "probes.layers=[3]")
    found = [
        pl.read_parquet(path)
        for path in finished.glob("probed/2-*/ics.parquet")
        if pl.read_parquet(path)["layer"].unique().to_list() == [3]
    ]
    assert len(found) == 2
    one, other = (table["l2"].item() for table in found)
    assert one == pytest.approx(other, rel=0.02) and one != other


def test_along_other_step_sizes_there_is_nothing_to_compare_with(finished, command):
    told = command(finished, "--step", 2, "landscape", "ics", "probes.step_sizes=[0.01]").out
    columns = {line.split("/")[0]: len(line.split()) for line in told.splitlines() if "/" in line}
    assert (columns["landscape"], columns["ics"]) == (2, 4)


def test_a_probe_that_failed_in_the_run_is_tried_again(finished, command):
    checkpoint = finished / "checkpoints/4.ckpt"
    before, content = checkpoint.read_bytes(), torch.load(checkpoint)
    (state,) = [s for name, s in content["callbacks"].items() if name.startswith("Probing")]
    state["failures"] = {"ics": "failed at step 1: out of memory"}
    try:
        torch.save(content, checkpoint)
        assert "ics/2/conv2.weight/l2" in command(finished, "--step", 4, "ics").out
    finally:
        checkpoint.write_bytes(before)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--step", 3, "ics"), "can be probed at step 0, 2, 4, 6"),
        (("--step", -1, "ics"), "--step -1: allowed is a whole number of at least 0"),
        (("--step", 2, "ics", "optim.lr=1"), "optim.lr=1: allowed is a probe (ics, landscape"),
        (("--step", 2, "shift"), "shift: allowed is a probe (ics, landscape"),
        (("--step", 2, "ics", "probes.batch=x"), "probes.batch=x: allowed is one of training"),
        (("--step", 2, "ics", "probes.bacth=x"), "there is no setting probes.bacth"),
        (("--step", 2, "probes.units=1"), "name at least one probe"),
        (
            ("--step", 2, "theory", "probes.layers=[40]"),
            "probes.layers=[40]: allowed are the layers 1 to 9",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(words, line, finished, command):
    before = set(finished.rglob("*"))
    told = command(finished, *words, code=2)
    assert line in told.err and told.out == "" and len(told.err.splitlines()) == 1
    assert set(finished.rglob("*")) == before


@pytest.mark.parametrize("damage", ["of another run", "damaged"])
def test_a_checkpoint_that_is_not_the_runs_is_refused(damage, finished, command):
    checkpoint = finished / "checkpoints/4.ckpt"
    before = checkpoint.read_bytes()
    try:
        if damage == "damaged":
            (flipped := bytearray(before))[len(before) // 2] ^= 1
            checkpoint.write_bytes(flipped)
        else:
            torch.save(torch.load(checkpoint) | {"run": "vgg-00000000"}, checkpoint)
        (line,) = command(finished, "--step", 4, "theory", code=2).err.splitlines()
    finally:
        checkpoint.write_bytes(before)
    said = {"damaged": "is damaged", "of another run": "is a checkpoint of vgg-00000000"}
    assert line.startswith(f"{checkpoint} {said[damage]}")


def test_a_step_taken_elsewhere_is_said_to_be(finished, command, caplog):
    command(finished, "--step", 2, "ics")
    assert "last bit" not in caplog.text
    command(finished, "--step", 0, "ics", "threads=2")
    assert "perhaps not to the last bit the step it was: threads: 1, then 2" in caplog.text


@pytest.mark.parametrize("step", [0, 2])
def test_a_step_of_other_data_is_refused(step, finished, command, monkeypatch):
    real = fit.feed
    monkeypatch.setattr(fit, "feed", lambda *a, **k: replace(real(*a, **k), variant="others"))
    (line,) = command(finished, "--step", step, "ics", code=2).err.splitlines()
    assert "run was trained on other data (data: digits" in line and "then others)" in line


def test_a_folder_that_is_no_run(tmp_path, command):
    assert "is no run" in command(tmp_path, "--step", 0, "ics", code=2).err
