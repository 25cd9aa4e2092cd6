"""What ``make`` would run."""

import shlex
import subprocess

import pytest

from src.compose import screened


@pytest.mark.parametrize(
    ("given", "overrides"),
    [
        ("", []),
        ("SEEDS=0,1 SCALE=smoke", ["seed=0,1", "scale=smoke"]),
        ("LAUNCHER=local JOBS=3", ["hydra/launcher=local", "hydra.launcher.jobs=3"]),
        (
            "LAUNCHER=slurm PARTITION=gpu JOBS=16 ARGS=hydra.launcher.account=mine",
            [
                *("hydra/launcher=slurm", "hydra.launcher.partition=gpu"),
                *("hydra.launcher.array_parallelism=16", "hydra.launcher.account=mine"),
            ],
        ),
    ],
)
def test_sweep(root, composed, monkeypatch, given, overrides):
    for name in ("MAKEFLAGS", "ARGS"):  # what the make that runs the tests was given
        monkeypatch.delenv(name, raising=False)
    make = ["make", "-n", "--no-print-directory", "-o", "setup", "sweep", "SWEEP=fig2_noise"]
    done = subprocess.run([*make, *given.split()], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout.replace("\\\n", ""))
    command = words[words.index("-m") :]
    assert command == ["-m", "src.train", "-m", "+sweeps=fig2_noise", *overrides]
    assert screened(overrides) == []
    composed(*(o for o in overrides if "," not in o))


def test_sweep_without_a_name_lists_them(root):
    done = subprocess.run(["make", "-n", "sweep"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 2 and "fig2_noise" in done.stderr
