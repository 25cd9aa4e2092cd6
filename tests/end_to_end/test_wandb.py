"""Weights & Biases online: the true client and the real command, against a double of the server."""

import base64
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from src import dashboard
from src.analysis.claims import rules
from src.analysis.figures import FIGURES
from src.catalogue import PROBES
from src.dashboard import GROUPED_BY, SECTIONS
from src.runs.lease import only_writer
from src.settings import keys
from tests.end_to_end.conftest import ROOT, Command, measured
from tests.end_to_end.warm import WarmProcess
from tests.wandb_server import KEY, Run, WandbServer

pytestmark = pytest.mark.slow
TINY = ("data=digits", "scale=smoke", "model.depth=11", "model.width=0.02", "max_steps=2")
TABLES = ("norms", *PROBES)
SECRETS = (KEY.encode(), base64.b64encode(f"api:{KEY}".encode()))


def _logged_in(command: Command, server: WandbServer) -> Command:
    return replace(command, env={"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY})


def _other(module: str, command: Command, *arguments: str) -> CompletedProcess[str]:
    """Another command of the project in the environment of one."""
    process = WarmProcess([*arguments], command.arguments()["env"], ROOT, module)
    out, err = process.communicate()
    return CompletedProcess(arguments, process.returncode or 0, out, err)


def _told_the_key(command: Command, *done: CompletedProcess[str]) -> list[str]:
    """Where the key can be read: in which files, or in what a command has printed."""
    files = [p for p in command.runs_dir.parent.rglob("*") if p.is_file() and not p.is_symlink()]
    assert files
    texts = {str(path): path.read_bytes() for path in files}
    texts |= {f"{d.args}": f"{d.stdout}{d.stderr}".encode() for d in done}
    return [name for name, text in texts.items() if any(secret in text for secret in SECRETS)]


def _logged(run: Run) -> set[tuple[int, str, float]]:
    return {
        (row["trainer/global_step"], name, value)
        for row in run.history
        for name, value in row.items()
        if "/" in name and name != "trainer/global_step" and not isinstance(value, dict)
    }


@pytest.fixture(scope="module")
def online(tmp_path_factory) -> Iterator[tuple[Command, CompletedProcess[str], WandbServer]]:
    folder = tmp_path_factory.mktemp("online")
    (folder / "home").mkdir()
    with WandbServer() as server:
        command = _logged_in(Command(folder / "runs", folder / "home"), server)
        tags = "logger.tags=[one,two words]"
        probes = ("probes=all", "probes.metrics=[euclidean,relative]", "probes.fixed_batches=1")
        probes += ("probes.directions=[gradient,random]",)
        done = command(*TINY, "model=vgg,vgg_bn", *probes, "sweep=pair", tags)
        yield command, done, server


def test_everything_arrives(online):
    command, done, server = online
    assert done.stderr == "" and server.unknown == []
    assert server.runs.keys() == {run.name for run in command.runs()} and len(server.runs) == 2
    for folder in command.runs():
        run = server.runs[folder.name]
        assert _logged(run) == measured(folder, *TABLES)
        histograms = [v for row in run.history for v in row.values() if isinstance(v, dict)]
        assert histograms and {h["_type"] for h in histograms} == {"histogram"}
        config = {key: entry["value"] for key, entry in run.config.items() if key != "_wandb"}
        assert config == yaml.safe_load((folder / "config.yaml").read_text())
        about = run.about
        assert (about["displayName"], about["project"]) == (folder.name, "batchnorm")
        assert (about["groupName"], about["tags"]) == ("pair", ["one", "two words"])
        assert run.exit_code == 0
        assert list(folder.glob("wandb/run-*/*.wandb.synced")), "marked as whole"
    assert _told_the_key(command, done) == []


def test_the_report_arrives(online):
    command, _, server = online
    before = set(server.runs)
    out = command.runs_dir.parent / "report"
    done = _other("src.report", command, str(command.runs_dir), "--out", str(out))
    assert (done.returncode, done.stderr) == (0, "") and server.unknown == []
    (name,) = set(server.runs) - before
    run = server.runs[name]
    assert (run.about["displayName"], run.about["jobType"]) == ("report", "report")
    figures = sorted((out / "figures").glob("*.png"))
    assert figures
    shown = {k: v for row in run.history for k, v in row.items() if k.startswith("figures/")}
    assert {key.removeprefix("figures/") for key in shown} == {path.stem for path in figures}
    for path in figures:
        assert run.files[shown[f"figures/{path.stem}"]["path"]] == path.read_bytes()
    (table,) = [v for row in run.history for k, v in row.items() if k == "claims"]
    heads, *rows = (out / "claims.csv").read_text().splitlines()
    claims = json.loads(run.files[table["path"]])
    assert claims["columns"] == heads.split(",") and len(claims["data"]) == len(rows)
    assert _told_the_key(command, done) == []


def test_the_dashboard_shows_what_runs_log(online):
    command, _, server = online
    done = _other("src.dashboard", command, "--entity", "me", "--dry-run")
    assert done.returncode == 0, done.stderr
    view = json.loads(done.stdout)
    names = [section["name"].partition(":")[0] for section in view["sections"]]
    assert names == [figure.name for figure in FIGURES] and SECTIONS.keys() == {*names}
    claims = " ".join(section["name"] for section in view["sections"])
    assert all(f"{c.id}" in claims for c in rules().claims.values() if c.figure in names)
    panels = [panel for section in view["sections"] for panel in section["panels"]]
    logged = {name for run in server.runs.values() for row in run.history for name in row}
    assert {panel["x"] for panel in panels} == {"trainer/global_step"} <= logged
    for panel in panels:
        assert any(re.search(panel["metric_regex"], name) for name in logged), panel
    grouped = [key["name"] for key in view["runset_settings"]["groupby"]]
    assert grouped == [*GROUPED_BY] and {*grouped} <= {*keys()}


def test_the_dashboard_without_its_extra_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(SystemExit) as ended:
        dashboard.main(["--entity", "me"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "wandb-workspaces is missing: pip install -e '.[dashboard]'\n"
    )


@pytest.fixture
def leftover(command) -> Path:
    """A file of W&B's that cannot be uploaded."""
    folder = command.runs_dir / "vgg-1" / "wandb" / "offline-run-20260101_000000-vgg-1"
    folder.mkdir(parents=True)
    (folder / "run-vgg-1.wandb").write_bytes(b"not W&B's")
    return folder


def test_what_cannot_be_uploaded_is_told_and_tried_again(command, leftover):
    with WandbServer() as server:
        there = _logged_in(command, server)
        done = _other("src.sync", there, str(command.runs_dir))
        assert done.returncode == 1
        assert "1 of 1 failed: the same command tries again" in done.stderr
        assert done.stdout.splitlines()[-1].split() == ["vgg-1", "failed"]
        with only_writer(command.runs_dir / ".locks" / "vgg-1.lease"):
            done = _other("src.sync", there, str(command.runs_dir))
        assert (done.returncode, done.stderr) == (0, "")
        assert "vgg-1  left alone: it is being trained" in done.stdout
        server.status = 401
        done = _other("src.sync", there, str(command.runs_dir))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("nothing can be uploaded: ") and "401" in line
    assert _told_the_key(there, done) == []


def test_no_upload_at_once_is_one_line(command, leftover):
    done = _other("src.sync", command, str(command.runs_dir), "--jobs", "0")
    assert (done.returncode, done.stderr) == (2, "--jobs 0: allowed is a whole number from 1\n")


def test_what_a_killed_process_left_is_uploaded_to_its_last_whole_record(command):
    command(*TINY)  # nobody is logged in
    run = command.run()
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    os.truncate(file, file.stat().st_size - 5)
    with WandbServer() as server:
        there = _logged_in(command, server)
        there = replace(there, env=there.env | {"WANDB_MODE": "offline"})  # of the training
        done = _other("src.sync", there, str(command.runs_dir))
        assert done.returncode == 0, done
        assert _logged(server.runs[run.name]) == measured(run, "norms")


def test_an_agents_cell_joins_the_sweep_and_resumes(command, status, wait_for, tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text("model: {value: vgg}\nseed: {value: 0}\n")
    agents = {"WANDB_SWEEP_ID": "s1", "WANDB_SWEEP_PARAM_PATH": str(params)}
    agents |= {"WANDB_PROJECT": "batchnorm", "WANDB_DIR": str(tmp_path)}
    cell = (*TINY[:-1], "model=vgg", "seed=0", "max_steps=40", "checkpoint_every=1")
    with WandbServer() as server:
        there = _logged_in(command, server)
        first, second = (
            replace(there, env=there.env | agents | {"WANDB_RUN_ID": name})
            for name in ("cell1", "cell2")
        )
        process = first.start(*cell)
        wait_for(lambda: list(command.runs_dir.glob("*/resume.ckpt")), process)
        process.send_signal(signal.SIGTERM)
        process.communicate()
        second(*cell)
    run = command.run()
    assert status(run)["state"] == "completed" and status(run)["attempts"] == 2
    assert server.runs.keys() == {"cell1", "cell2"} and len(list(run.glob("wandb/run-*"))) == 2
    for name in server.runs:
        arrived = server.runs[name]
        assert (arrived.about["sweep"], arrived.about["displayName"]) == ("s1", run.name)
        config = {key: entry["value"] for key, entry in arrived.config.items() if key != "_wandb"}
        assert config == yaml.safe_load((run / "config.yaml").read_text())
    both = _logged(server.runs["cell1"]) | _logged(server.runs["cell2"])
    assert both == measured(run, "norms")


@dataclass
class Fault:
    """A server that does not work, and what its user is told."""

    told: str
    server: dict[str, Any] = field(default_factory=dict)
    absent: bool = False
    online: bool = False  # whether a run begins online
    uploaded: bool = False  # whether to upload later, too: that costs seconds


FAULTS = {
    "absent": Fault("no good answer from", absent=True, uploaded=True),
    "answers nothing": Fault("no good answer from", {"delay": 10_000}),
    "answers late": Fault("", {"delay": 2}, online=True, uploaded=True),
    "answers 500": Fault("no good answer from", {"status": 500}),
    "refuses the key": Fault("401", {"status": 401}),
    "dies": Fault("Timed out finishing", {"dies_at": "file_stream"}, online=True, uploaded=True),
    "refuses a part": Fault(
        "refused a part", {"refuses": "file_stream"}, online=True, uploaded=True
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_server_costs_little_and_nothing_is_lost(command, status, fault):
    given = FAULTS[fault]
    with WandbServer(**given.server) as server:
        there = _logged_in(command, server)
        if given.absent:
            server.die()
            url = server.url.replace("//", f"//me:{KEY}@")  # a proxy's way to take a password
            there = replace(there, env=there.env | {"WANDB_BASE_URL": url})
        done = there(*TINY, "seed=0,1")  # would never end if something waited for the server
    runs = command.runs()
    assert [status(run)["state"] for run in runs] == ["completed"] * 2
    files = {"config.yaml", "status.json", "metrics.parquet", "norms.parquet", "train.log", "wandb"}
    assert [{path.name for path in run.iterdir()} for run in runs] == [files] * 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("W&B does not work (") and given.told in line
    assert line.endswith(f"to upload later: python -m src.sync {command.runs_dir}")
    assert bool(list(command.runs_dir.glob("*/wandb/run-*"))) == given.online
    assert _told_the_key(there, done) == []
    if given.uploaded:
        _all_can_be_uploaded(command, runs)


def test_an_unknown_mode_is_named(command, status):
    there = replace(command, env={"WANDB_MODE": "onlien"})
    (line,) = there(*TINY).stderr.splitlines()
    assert "WANDB_MODE=onlien: allowed is online, offline or disabled" in line
    assert status(command.run())["state"] == "completed"


def _all_can_be_uploaded(command: Command, runs: list[Path]) -> None:
    with WandbServer() as server:
        there = _logged_in(command, server)
        done = _other("src.sync", there, str(command.runs_dir))
        assert done.returncode == 0, done
        for run in runs:
            assert _logged(server.runs[run.name]) == measured(run, "norms")
            assert server.runs[run.name].exit_code == 0 and server.runs[run.name].config
        assert done.stdout.splitlines()[-2:] == [f"{run.name}  done  " for run in runs]
        assert _told_the_key(there, done) == []
        asked = len(server.asked)
        done = _other("src.sync", there, str(command.runs_dir))
        assert (done.returncode, done.stdout) == (0, "nothing to upload\n")
        assert len(server.asked) == asked
