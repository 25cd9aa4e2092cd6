"""A wrong setting: one clear line a bad cell, exit code 2, and nothing else happens."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.wandb_server import KEY

WRONG = [
    ("optim.lr=-1", "optim.lr=-1.0: allowed is a number above 0"),
    ("optim.lr=nan", "optim.lr=nan"),
    ("model.width=0", "model.width=0.0"),
    ("model.depth=12", "allowed is one of 11, 13, 16, 19"),
    ("scale=huge", "scale=huge: allowed is one of paper, small, smoke"),
    ("seed=x", "seed=x: allowed is a whole number"),
    ("seed=1.5", "seed=1.5"),
    ("data.batch_size=2000", "digits has only 1437 training images"),
    ("modle=vgg", "there is no setting modle"),
    ("model=vgg_noise", "allowed is one of dln, dln_bn, "),
    ("model=dln", "data=digits: allowed with model=dln is linear"),
    ("model=3", "model=3"),
    ("+optim.rate=1", "there is no setting optim.rate"),
    ("~seed", "seed"),
    ("+sweeps=fig9", "sweeps=fig9: allowed is one of batch_size, "),
    ("sweep=../../up", "sweep=../../up"),
    ("optim.lr=[0.1", "0.1"),
    ("optim.lr", "optim.lr"),
    ("hydra/launcher=none", "launcher"),
    ("hydra/launcher=submitit_local", "hydra/launcher= and one of basic, local, slurm"),
    ("hydra.launcher=local", "hydra/launcher= and one of basic, local, slurm"),
    ("sweeps=fig2_noise", "a sweep is added to the settings: +sweeps=fig2_noise"),
    ("probes.layers=[1.5]", "allowed is a list of whole numbers above 0"),
    ("seed=9223372036854775808", "allowed is a whole number of at least 0 and below 2**63"),
    ("+hydra.launcher.foo=1", "got an unexpected keyword argument 'foo'"),
    ("hydra.launcher.jobs=2", "hydra.launcher.jobs: the launcher chosen has no such setting"),
    ("seed=0,1,", "seed=0,1, cannot be read"),
    ("runs_dir=/a/[b]", "runs_dir=/a/[b] cannot be read"),
    ("~model", "~model: a group is chosen, not removed"),
]
HYDRAS_OWN = [
    "+hydra.callbacks.c._target_=shutil.copy",
    "+hydra.callbacks.c={_target_:shutil.copy}",
    "++hydra={callbacks:{c:1}}",
    "hydra.sweeper._target_=os.system",
    "hydra.launcher._target_=os.system",
    "+hydra.launcher.x={y:{_target_:os.system}}",
    "hydra.launcher.x=${oc.decode:${oc.env:EVIL}}",
    "hydra.launcher.setup=[${oc.env:HOME}]",
    "+sweeps@hydra.callbacks.c=fig2_noise",
    "hydra/job_logging=default",
    "+hydra.job_logging.handlers.evil.class=os.system",
    "hydra.mode=RUN",
    "model._target_=os.system",
]
FILES_ELSEWHERE = [
    *(f"{group}=../../elsewhere/evil" for group in ("+sweeps", "noise", "hydra/launcher")),
    *("+sweeps=[fig2_noise,/elsewhere/evil]", "probes=[ics,landscape]"),
    *("noise=${oc.env:EVIL_ROOT}", "model@data=./evil"),
]
OPTIONS = ["--config-dir", "--config-path", "--config-name", "--experimental-rerun"]


@pytest.fixture
def refused(command, tmp_path):
    """Gives the lines of a refused command, run where importing torch is an error."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    command = replace(command, fresh=True, env={"PYTHONPATH": str(tmp_path)})

    def lines(*overrides):
        done = command(*overrides, code=2)
        assert done.stdout == "" and not command.runs_dir.exists()
        return done.stderr.splitlines()

    return lines


@pytest.mark.parametrize(("override", "says"), WRONG, ids=[override for override, _ in WRONG])
def test_one_line(refused, override, says):
    (line,) = refused("data=digits", override)
    assert says in line and "Traceback" not in line and len(line) < 400


def test_two_bad_cells_are_two_lines(refused):
    first, second = refused("model=vgg,vgg_bn", "optim.lr=0.1,-1")
    assert "vgg " in first and "vgg_bn" in second


@pytest.mark.parametrize("option", [["--help"], ["--cfg", "job"]])
@pytest.mark.parametrize("several", ["model=vgg,vgg_bn", "seed=range(0,3)"])
def test_one_cell_is_shown(refused, option, several):
    (line,) = refused(*option, several)
    assert line == f"{several}: --help, --cfg and --info show one cell; give one value"


def test_a_grid_has_one_folder(command, tmp_path):
    two = replace(command, runs_dir=Path(f"{tmp_path}/a,{tmp_path}/b"))
    (line,) = two("data=digits", code=2).stderr.splitlines()
    assert line.startswith("runs_dir: a grid has one, give one value")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("override", HYDRAS_OWN)
def test_hydras_own_settings_are_screened(refused, override):
    (line,) = refused(override)
    assert line.startswith(f"{override}: of Hydra's own settings")


@pytest.mark.parametrize("override", FILES_ELSEWHERE)
def test_settings_come_from_our_own_files(refused, override):
    (line,) = refused(override)
    assert line.startswith(f"{override}: allowed is the name of a file in ")


@pytest.mark.parametrize("option", OPTIONS)
def test_no_option_names_other_files(refused, option, tmp_path):
    for given in (option, option[:-2]):  # argparse completes what is begun
        (line,) = refused(given, str(tmp_path))
        assert line == f"{option}: settings are read from conf/ and sweeps/ alone"


@pytest.mark.parametrize("key", ["logger.tags=[{}]", "sweep={}", "seed={}"])
@pytest.mark.parametrize("value", [KEY, "${{oc.env:WANDB_API_KEY}}"])
def test_what_is_secret_is_not_written_down(command, key, value):
    there = replace(command, env={"WANDB_API_KEY": KEY})
    done = there("data=digits", key.format(value.format()), code=2)
    (line,) = done.stderr.splitlines()
    assert KEY not in done.stdout + line and not command.runs_dir.exists()
    assert ("it holds W&B's key" in line) == (value == KEY)


def test_a_folder_that_cannot_be_written(command, tmp_path):
    (tmp_path / "file").touch()
    done = replace(command, runs_dir=tmp_path / "file" / "runs")("data=digits", code=2)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"runs_dir={tmp_path}/file") and "Not a directory" in line


def test_an_unknown_option_is_argparses_own_error(command):
    done = command("--foo", code=2)
    assert "unrecognized arguments: --foo" in done.stderr and "Traceback" not in done.stderr
