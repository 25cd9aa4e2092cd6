import json
import subprocess
import sys
from pathlib import Path

import pytest

from src import report

FILES = {"index.html", "report.md", "claims.json", "claims.csv", "figures"}


@pytest.fixture
def runs(run, tmp_path: Path) -> Path:
    for model in ("vgg", "vgg_bn"):
        run(tmp_path / "runs", model, steps=300, tables=("metrics",))
    return tmp_path / "runs"


def test_it_writes_the_page_and_all_beside_it(runs, tmp_path, capsys) -> None:
    out = tmp_path / "deep" / "report"
    report.main([str(runs), "--out", str(out), "--logger", "none"])
    assert {path.name for path in out.iterdir()} == FILES
    assert sorted(path.name for path in (out / "figures").iterdir()) == [
        "fig1_training.csv",
        "fig1_training.png",
        "fig1_training.svg",
    ]
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == str(out / "index.html")
    for claim in json.loads((out / "claims.json").read_text())["claims"]:
        assert claim["id"] in told
    assert "2 runs, 1 figure drawn" in told
    assert "left open: a verdict takes 5 paired seeds" in told


def test_a_figure_that_is_no_longer_drawn_is_removed_and_other_files_stay(runs, tmp_path) -> None:
    figures = tmp_path / "report" / "figures"
    figures.mkdir(parents=True)
    for name in ("fig4_landscape.svg", "notes.txt", "mine.png"):
        (figures / name).write_text("old")
    report.main([str(runs), "--out", str(tmp_path / "report"), "--logger", "none"])
    assert not (figures / "fig4_landscape.svg").exists()
    assert (figures / "notes.txt").exists() and (figures / "mine.png").exists()


def test_a_page_that_cannot_be_made_leaves_the_old_one(runs, tmp_path, monkeypatch) -> None:
    page = tmp_path / "report" / "index.html"
    page.parent.mkdir()
    page.write_text("old")

    def fails(*_: object) -> str:
        raise OSError("the disk is full")

    monkeypatch.setattr(report, "html", fails)
    with pytest.raises(SystemExit):
        report.main([str(runs), "--out", str(page.parent), "--logger", "none"])
    assert page.read_text() == "old"


@pytest.mark.parametrize("wrong", ["absent", "a file"])
def test_a_folder_that_is_none_is_one_line(tmp_path: Path, wrong: str, capsys) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(SystemExit) as ended:
        report.main([str(tmp_path / wrong), "--logger", "none", "--out", str(tmp_path / "out")])
    told = capsys.readouterr()
    assert ended.value.code == 2 and told.out == ""
    assert told.err == f"{tmp_path / wrong} is not a folder of runs\n"
    assert not (tmp_path / "out").exists()


def test_a_report_cannot_be_written_over_a_file(runs, tmp_path, capsys) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(SystemExit) as ended:
        report.main([str(runs), "--logger", "none", "--out", str(tmp_path / "taken")])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_at_wandb_it_is_an_offline_run_of_its_own(runs, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    out = tmp_path / "report"
    report.main([str(runs), "--out", str(out)])
    (folder,) = (out / "wandb").glob("offline-run-*")
    assert list(folder.rglob("fig1_training*.png")) and list(folder.rglob("claims*.json"))


def test_wandb_failing_costs_the_report_nothing(runs, tmp_path, monkeypatch, caplog) -> None:
    def fails(**_: object) -> None:
        raise RuntimeError("no service")

    monkeypatch.setattr("wandb.init", fails)
    report.main([str(runs), "--out", str(tmp_path / "report")])
    assert (tmp_path / "report" / "index.html").exists()
    assert "the report is not at W&B (no service)" in caplog.text


def test_help_and_judging_need_neither_torch_nor_lightning() -> None:
    code = "import sys, src.report; sys.exit('torch' in sys.modules or 'wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
