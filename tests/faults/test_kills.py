"""Killed while any of its files is written, a run goes on as if nothing had been."""

import shutil
from dataclasses import replace

import pytest

from tests.faults.conftest import RUN, TABLE, check_whole, in_full, times
from tests.faults.inject import KILLED, kill_at

FILES = {
    "config.yaml": r"config\.yaml",
    "status.json": r"status\.json",
    "metrics.parquet": r"metrics\.parquet",
    "norms.parquet": r"norms\.parquet",
    "a probe's table": r"ics\.parquet",
    "the newest checkpoint": r"/\.?resume\.ckpt",
    "the checkpoint before it": r"resume\.previous",
    "a checkpoint that is kept": r"checkpoints/",
    "a sweep's manifest": r"sweeps/",
    "the lease": r"\.lease",
}
# In a sample one run is killed once for each kind of file.
GROUPS = [[kind] for kind in FILES] if TABLE else [[*FILES]]


@pytest.mark.slow
@pytest.mark.parametrize("kinds", GROUPS, ids=lambda kinds: kinds[0])
def test_killed_while_it_writes(kinds, command, undisturbed, events, exact, chance, tally):
    pending = []

    def completed():
        exact(command.run(), undisturbed.run())
        for kind in pending:
            tally(f"killed while it writes {kind}", "exact")
        pending.clear()
        shutil.rmtree(command.runs_dir)

    for kind in kinds * times(50):
        killed = False
        while not killed:
            done = replace(command, fault=kill_at(FILES[kind], events, chance))(*RUN, code=None)
            killed = done.returncode in KILLED
            check_whole(command.runs_dir)
            if not killed:  # it had less left to do
                assert done.returncode == 0, done.stdout + done.stderr
                completed()
        pending.append(kind)
    command(*RUN)
    completed()


@in_full
@pytest.mark.slow
def test_killed_while_a_folder_is_replaced(command, undisturbed, events, exact, chance, tally):
    swapping = r"\.again/|\.old"
    (name,) = (run.name for run in undisturbed.runs())
    for _ in range(times(20)):
        shutil.rmtree(command.runs_dir, ignore_errors=True)
        shutil.copytree(undisturbed.runs_dir, command.runs_dir)
        (command.runs_dir / name / "ics.parquet").unlink()  # so it lacks a probe that is asked for
        last = [
            f"os.rename /.again/{name} ",
            *(f"os.remove {path}.old" for path in (command.runs_dir / name).iterdir()),
        ]
        done = replace(command, fault=kill_at(swapping, last, chance))(*RUN, code=None)
        assert done.returncode in KILLED, done.stdout + done.stderr
        check_whole(command.runs_dir)
        command(*RUN)
        exact(command.run(), undisturbed.run())
        assert not list(command.runs_dir.glob(".again/*"))
        tally("killed while a folder is replaced by one made anew", "exact")
