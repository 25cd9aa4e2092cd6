import json
import shlex
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from src.grid import Cell, Grid
from src.runs.folder import RunFolder


@pytest.fixture
def cell(settings, tmp_path):
    def made(*overrides: str, runs_dir: Path = tmp_path) -> Cell:
        return Cell(overrides, settings(*overrides, f"runs_dir={runs_dir}"))

    return made


def end(grid: Grid, cell: Cell, state: str = "completed", **status: object) -> RunFolder:
    folder = grid.store.folder(cell.run)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write_metrics([])
    folder.update_status(state=state, **status)
    return folder


def printed(method, *arguments: object, width: int = 200) -> tuple[str, object]:
    console = Console(file=StringIO(), width=width, soft_wrap=True)
    result = method(console, *arguments)
    return console.file.getvalue(), result


class TestToTrain:
    def test_all_cells_that_have_not_ended(self, cell):
        cells = [cell(f"seed={seed}") for seed in range(5)]
        grid = Grid(cells)
        assert grid.to_train() == cells
        for chosen, state in zip(
            cells, ("completed", "diverged", "failed", "running"), strict=False
        ):
            end(grid, chosen, state)
        assert grid.to_train() == cells[2:]

    def test_two_cells_of_one_run_train_it_once(self, cell):
        cells = [cell("model=vgg", "noise.n_mu=0.1"), cell("model=vgg"), cell("model=vgg_bn")]
        assert cells[0].run == cells[1].run
        grid = Grid(cells)
        assert grid.to_train() == [cells[0], cells[2]]
        end(grid, cells[1])
        assert grid.to_train() == [cells[2]]

    def test_force_trains_what_has_ended(self, cell):
        forced = cell("force=true")
        grid = Grid([forced, forced])
        end(grid, forced)
        assert grid.to_train() == [forced]


class TestName:
    def test_is_the_sweep_s(self, cell):
        assert (
            Grid([cell("sweep=fig2_noise"), cell("sweep=fig2_noise", "seed=1")]).name
            == "fig2_noise"
        )

    def test_is_otherwise_that_of_its_runs_in_any_order(self, cell):
        one, other = cell("seed=0"), cell("seed=1")
        assert Grid([one, other]).name == Grid([other, one, one]).name
        assert Grid([one]).name != Grid([other]).name
        assert Grid([one]).name.startswith("grid-")


class TestAnnounce:
    @pytest.mark.parametrize(
        "overrides, line",
        [
            ([["seed=0"]], "scale small, 1 cell, 0 already complete"),
            ([["seed=0"], ["seed=1"]], "scale small, 2 cells, 0 already complete"),
            (
                [["model=vgg"], ["model=vgg", "noise.n_mu=0.1"], ["model=vgg", "seed=1"]],
                "scale small, 3 cells (2 runs), 0 already complete",
            ),
            ([["scale=smoke"], ["scale=small"]], "scale small, smoke, 2 cells, 0 already complete"),
        ],
    )
    def test_says_how_many(self, cell, overrides, line):
        grid = Grid([cell(*o) for o in overrides])
        assert printed(grid.announce, "the command")[0] == f"{grid.name}: {line}\n"

    def test_counts_what_is_complete(self, cell):
        cells = [cell(f"seed={seed}") for seed in range(3)]
        grid = Grid(cells)
        end(grid, cells[1])
        assert printed(grid.announce, "the command")[0].endswith("3 cells, 1 already complete\n")

    def test_the_command_of_the_manifest_does_not_force(self, cell):
        grid = Grid([cell("force=true")])
        printed(grid.announce, "python -m src.train seed=0,1 force=true 'runs_dir=a b'")
        (path,) = (grid.store.root / "sweeps").glob("*.json")
        (asked,) = json.loads(path.read_text())["cells"]
        assert asked["command"] == "python -m src.train seed=0,1 'runs_dir=a b'"

    def test_writes_the_manifest(self, cell, tmp_path):
        cells = [cell("sweep=mine", "seed=0"), cell("sweep=mine", "seed=1")]
        printed(Grid(cells).announce, "the command")
        manifest = json.loads((tmp_path / "sweeps" / "mine.json").read_text())
        assert manifest["cells"] == [
            {"overrides": list(c.overrides), "run": c.run, "probes": {}, "command": "the command"}
            for c in cells
        ]


class TestReport:
    def test_has_a_row_a_cell(self, cell):
        cells = [cell("model=vgg", "optim.lr=0.5", "seed=3"), cell("model=vgg_noisy")]
        grid = Grid(cells)
        folder = end(grid, cells[0], seconds=125.9)
        folder.write_metrics(
            [(0, "val/accuracy", 0.1), (9, "val/accuracy", 0.825), (9, "train_eval/accuracy", 1.0)]
        )
        text, whole = printed(grid.report, {})
        *rows, left = text.strip().splitlines()
        heading, first, second = (line.split() for line in rows)
        assert whole is False and left.startswith("1 of 2 cells are left")
        assert heading == [
            "model",
            "lr",
            "seed",
            "state",
            *("train", "acc", "test", "acc", "time", "folder"),
        ]
        expected = ["vgg", "0.5", "3", "completed", "100.0", "%", "82.5", "%", "2:05"]
        assert first == [*expected, str(folder.path)]
        assert second == ["vgg_noisy", "0.1", "0", "missing", str(grid.store.root / cells[1].run)]

    def test_lists_what_failed_and_how_to_try_again(self, cell):
        cells = [cell("seed=0"), cell("seed=1", "data.root=a place/[x]")]
        grid = Grid(cells)
        end(grid, cells[0])
        end(grid, cells[1], state="failed")
        text, whole = printed(grid.report, {cells[1].run: "RuntimeError: no [bold] disk"})
        assert whole is False
        assert "1 of 2 cells failed:" in text
        assert f"  {cells[1].run}: RuntimeError: no [bold] disk\n" in text
        command = text.splitlines()[-1].strip()
        assert shlex.split(command) == ["python", "-m", "src.train", *cells[1].overrides]

    def test_a_run_that_failed_without_a_status_is_failed(self, cell):
        only = cell("seed=0")
        text, _ = printed(Grid([only]).report, {only.run: "OSError: disk full"})
        assert text.splitlines()[1].split()[3] == "failed"

    @pytest.mark.parametrize("width", [40, 200])
    def test_folders_are_printed_whole_whatever_they_are_called(self, cell, tmp_path, width):
        only = cell("seed=0", runs_dir=tmp_path / "a[b]c")
        text, _ = printed(Grid([only]).report, {}, width=width)
        assert str(tmp_path / "a[b]c" / only.run) in text


def test_what_failed_in_the_launcher_s_eyes_has_failed_whatever_the_run_says(cell):
    """Killed on another host, it looks alive as long as its lease is young."""
    chosen = cell()
    grid = Grid([chosen])
    end(grid, chosen, "running", message=None, max_steps=9, probes={})
    with grid.store.writing(chosen.run, {}):
        text, well = printed(grid.report, {chosen.run: "job 7 FAILED"})
        assert not well and f"{chosen.run}: job 7 FAILED" in text
        text, well = printed(grid.report, {})
        assert not well and "1 of 1 cells are left" in text


def test_an_old_failure_is_not_this_ones(cell):
    chosen = cell()
    end(Grid([chosen]), chosen, state="failed", message="no space, last week", updated=1.0)
    grid = Grid([chosen])
    text, _ = printed(grid.report, {chosen.run: "DataError: no images"})
    assert "DataError: no images" in text and "last week" not in text
    # By a clock that is behind.
    end(grid, chosen, state="failed", message="no space, today", updated=0.5)
    text, _ = printed(grid.report, {chosen.run: "OSError: no space"})
    assert "no space, today" in text


def test_what_kept_a_cell_from_being_forced_has_failed_though_the_run_has_ended(cell):
    forced = cell("force=true")
    grid = Grid([forced])
    end(grid, forced, message=None, max_steps=9, probes={})
    text, well = printed(grid.report, {})  # another process held it, and let go
    assert not well and "1 of 1 cells are left; the same command trains all again" in text
    assert "python -m src.train force=true" in text
    text, well = printed(grid.report, {forced.run: "ImportError: no torch"})
    assert not well and f"{forced.run}: ImportError: no torch" in text
    end(grid, forced, updated=time.time())  # made anew after all, when the queue did not answer
    assert printed(grid.report, {forced.run: "job 1 unknown"})[1]


def test_what_is_left_is_said(cell):
    grid = Grid([cell("probes=none"), cell("probes=ics")])
    end(grid, grid.cells[0], message=None, max_steps=9, probes={})
    text, well = printed(grid.report, {})
    assert not well and "1 of 2 cells are left: give the command again" in text


def test_a_probe_that_failed_is_told_of_at_the_end(cell):
    chosen = cell("probes=ics")
    grid = Grid([chosen])
    failures = {"ics": "failed at step 0: no [bold] memory"}
    end(grid, chosen, message=None, max_steps=9, probes=chosen.probes, probe_failures=failures)
    text, well = printed(grid.report, {})
    told = f"{chosen.run}: probe ics failed at step 0: no [bold] memory; force=true trains"
    assert well and told in text
