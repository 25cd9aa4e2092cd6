"""A run goes on from damaged or foreign files: exactly, or not at all."""

import os
import shutil
from dataclasses import replace

import pytest
import torch

from tests.faults.conftest import RUN, in_full, times
from tests.faults.inject import At, Faults, TurnBack, moments


def flip(path, chance):
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def truncate(path, chance):
    os.truncate(path, chance.randrange(path.stat().st_size))


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def plant(path, chance):
    content = torch.load(path)
    content["bomb"] = Bomb(path.with_name("executed"))
    torch.save(content, path)


DAMAGES = {"truncated": truncate, "bit flipped": flip, "untrusted: it would run code": plant}


@pytest.mark.slow
def test_a_checkpoint_is_damaged(command, undisturbed, half_way, exact, chance, tally):
    for kind, damage in DAMAGES.items():
        for _ in range(times(15)):
            run = half_way()
            damage(run / "resume.ckpt", chance)
            done = command(*RUN)
            assert not (run / "executed").exists()
            exact(run, undisturbed.run())
            told = f"{run / 'resume.ckpt'} is damaged or not ours"
            # A bit between the parts of the archive means nothing to anybody.
            used = "the one before it used" if told in done.stderr else "of no account"
            assert len(done.stderr.splitlines()) == (told in done.stderr), done.stderr
            assert told in done.stderr or damage is flip
            tally(f"checkpoint {kind}", f"{used}, exact")
            shutil.rmtree(command.runs_dir)


@in_full
@pytest.mark.slow
def test_both_checkpoints_are_damaged(command, undisturbed, half_way, exact, chance, tally):
    for _ in range(times(5)):
        run = half_way()
        for name in ("resume.ckpt", "resume.previous.ckpt"):
            truncate(run / name, chance)
        done = command(*RUN)
        assert len(done.stderr.splitlines()) == 2
        exact(run, undisturbed.run())
        tally("both checkpoints truncated", "begun anew, exact")
        shutil.rmtree(command.runs_dir)


@in_full
@pytest.mark.slow
def test_a_checkpoint_of_another_configuration(command, undisturbed, half_way, exact, tally):
    others = replace(command, runs_dir=command.runs_dir.with_name("others"))
    others(*RUN, "optim.lr=0.2")
    other = others.run()
    run = half_way()
    mine = (run / "resume.ckpt").read_bytes()
    shutil.copyfile(other / "resume.ckpt", run / "resume.ckpt")
    done = command(*RUN, code=1)
    (line,) = done.stderr.splitlines()
    assert f"{run / 'resume.ckpt'} is a checkpoint of {other.name}: put this run's back" in line
    (run / "resume.ckpt").write_bytes(mine)
    command(*RUN)
    exact(run, undisturbed.run())
    tally("checkpoint of another configuration", "refused; put right, exact")


GROWING = ("norms.parquet", "ics.parquet")
OTHERS = ("ics.parquet", "metrics.parquet", "status.json", "config.yaml", "the manifest")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["norms.parquet", *(pytest.param(name, marks=in_full) for name in OTHERS)]
)
def test_another_file_is_truncated(name, command, undisturbed, half_way, exact, chance, tally):
    for _ in range(times(5)):
        run, path = half_way(), None
        if name == "the manifest":
            (command.runs_dir / "sweeps").mkdir()
            (source,) = (undisturbed.runs_dir / "sweeps").glob("*.json")
            path = command.runs_dir / "sweeps" / source.name
            shutil.copyfile(source, path)
        truncate(path or run / name, chance)
        done = command(*RUN)
        assert all(str(path or run / name) in line for line in done.stderr.splitlines())
        exact(run, undisturbed.run())
        anew = "begins anew" in done.stderr
        assert anew == (name in GROWING), done.stderr
        tally(f"{name} truncated", "begun anew, exact" if anew else "exact")
        shutil.rmtree(command.runs_dir)


@in_full
@pytest.mark.slow
def test_the_clock_is_set_back(
    command, undisturbed, half_way, events, exact, status, chance, tally
):
    for _ in range(times(5)):
        nth = chance.randint(1, moments(events, "runs/"))
        run = half_way()
        seconds = status(run)["seconds"]
        fault = Faults((At("runs/", nth, TurnBack(86_400)),))
        replace(command, fault=fault)(*RUN)
        exact(run, undisturbed.run())
        assert 0 < seconds < status(run)["seconds"] < seconds + 600
        tally("clock set back by a day", "exact, its duration right")
        shutil.rmtree(command.runs_dir)
