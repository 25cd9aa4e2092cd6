import json
import math
import os
from pathlib import Path

import polars as pl
import pytest

from src.runs import folder as module
from src.runs.folder import RunFolder, whole


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


class Crash(Exception):
    pass


class TestWhole:
    def test_target_appears_with_its_content(self, tmp_path):
        target = tmp_path / "file.json"
        with whole(target) as temporary:
            temporary.write_text("new")
            assert temporary.parent == tmp_path and not target.exists()
        assert target.read_text() == "new"
        assert list(tmp_path.iterdir()) == [target]

    def test_a_failure_while_writing_leaves_the_old_file(self, tmp_path):
        target = tmp_path / "file.json"
        target.write_text("old")
        with pytest.raises(Crash), whole(target) as temporary:
            temporary.write_text("half")
            raise Crash
        assert target.read_text() == "old"

    def test_a_file_never_written_leaves_the_old_file(self, tmp_path):
        target = tmp_path / "file.json"
        target.write_text("old")
        with pytest.raises(FileNotFoundError), whole(target):
            pass
        assert target.read_text() == "old"

    def test_what_a_crash_left_behind_does_not_matter(self, tmp_path):
        target = tmp_path / "file.json"
        with pytest.raises(Crash), whole(target) as temporary:
            temporary.write_text("a long half-written content")
            raise Crash
        with whole(target) as temporary:
            temporary.write_text("new")
        assert target.read_text() == "new"


class TestStatus:
    def test_there_is_none_before_the_first_attempt(self, folder):
        assert folder.status() is None
        assert folder.state() is None
        assert not folder.ended()

    def test_changes_keep_the_other_entries(self, folder):
        folder.update_status(state="running", step=0, message=None)
        folder.update_status(step=5)
        folder.update_status(state="completed")
        assert folder.status() == {"state": "completed", "step": 5, "message": None}

    @pytest.mark.parametrize(
        "state, ended",
        [("running", False), ("completed", True), ("diverged", True), ("failed", False)],
    )
    def test_a_run_ends_by_completion_or_divergence(self, folder, state, ended):
        folder.update_status(state=state)
        assert folder.state() == state
        assert folder.ended() == ended

    def test_what_cannot_be_written_leaves_the_old(self, folder):
        folder.update_status(state="running")
        with pytest.raises(TypeError):
            folder.update_status(step=object())
        assert folder.status() == {"state": "running"}

    def test_is_json_with_null_for_what_does_not_exist(self, folder):
        folder.update_status(message=None)
        assert json.loads((folder.path / "status.json").read_text()) == {"message": None}


class TestMetrics:
    ROWS = (
        (0, "train/loss", 2.5),
        (0, "train/accuracy", 0.125),
        (10, "train/loss", math.nan),
        (10, "val/accuracy", 1),
    )

    def test_columns_and_types(self, folder):
        folder.write_metrics(self.ROWS)
        table = pl.read_parquet(folder.path / "metrics.parquet")
        assert table.schema == {"step": pl.Int64, "name": pl.String, "value": pl.Float64}
        assert table.drop_nulls().height == 4
        assert table["step"].to_list() == [0, 0, 10, 10]
        assert math.isnan(table["value"][2])

    def test_columns_and_types_of_no_rows(self, folder):
        folder.write_metrics([])
        table = pl.read_parquet(folder.path / "metrics.parquet")
        assert table.schema == {"step": pl.Int64, "name": pl.String, "value": pl.Float64}
        assert folder.final_metrics() == {}

    def test_values_are_kept_to_the_last_bit(self, folder):
        values = [1 / 3, 5e-324, 1.7e308, math.inf, -0.0]
        folder.write_metrics([(step, "x", value) for step, value in enumerate(values)])
        table = pl.read_parquet(folder.path / "metrics.parquet")
        assert list(map(repr, table["value"])) == list(map(repr, values))

    def test_a_type_that_does_not_fit_only_later_is_told(self, folder):
        rows = [(step, "x", 1) for step in range(500)]
        folder.write_metrics([*rows, (500, "x", 0.5)])
        assert folder.final_metrics() == {"x": 0.5}

    def test_final_metrics_are_the_last_of_each_name(self, folder):
        assert folder.final_metrics() == {}
        folder.write_metrics(self.ROWS)
        final = folder.final_metrics()
        assert final.keys() == {"train/loss", "train/accuracy", "val/accuracy"}
        assert math.isnan(final["train/loss"])
        assert (final["train/accuracy"], final["val/accuracy"]) == (0.125, 1.0)


class TestCheckpoints:
    @staticmethod
    def save(folder: RunFolder, content: str) -> None:
        with folder.new_checkpoint() as path:
            path.write_text(content)

    def contents(self, folder: RunFolder) -> list[str]:
        return [path.read_text() for path in folder.checkpoints()]

    def test_newest_and_the_one_before_are_kept(self, folder):
        seen = [self.contents(folder)]
        for content in ("1", "2", "3"):
            self.save(folder, content)
            seen.append(self.contents(folder))
        assert seen == [[], ["1"], ["2", "1"], ["3", "2"]]
        assert {path.name for path in folder.path.iterdir()} == set(module.CHECKPOINTS)

    def test_a_crash_while_writing_keeps_both(self, folder):
        self.save(folder, "1")
        self.save(folder, "2")
        with pytest.raises(Crash), folder.new_checkpoint() as path:
            path.write_text("half")
            raise Crash
        assert self.contents(folder) == ["2", "1"]

    @pytest.mark.parametrize("point", ["rotating", "syncing", "renaming"])
    def test_a_crash_at_any_later_point_keeps_the_newest_whole_one(
        self, folder, monkeypatch, point
    ):
        self.save(folder, "1")
        self.save(folder, "2")
        replace = Path.replace

        def crash(*arguments: object) -> None:
            raise Crash

        def crashing_replace(path: Path, target: Path) -> None:
            if (
                target.name
                == {"rotating": module.CHECKPOINTS[1], "renaming": module.CHECKPOINTS[0]}[point]
            ):
                raise Crash
            replace(path, target)

        with monkeypatch.context() as patch:
            if point == "syncing":
                patch.setattr(module.os, "fsync", crash)
            else:
                patch.setattr(Path, "replace", crashing_replace)
            with pytest.raises(Crash):
                self.save(folder, "3")
        assert self.contents(folder)[0] == "2"
        self.save(folder, "3")
        assert self.contents(folder)[:2] == ["3", "2"][: len(self.contents(folder))]
        self.save(folder, "4")
        assert self.contents(folder) == ["4", "3"]

    def test_one_to_keep_is_there_before_it_is_the_newest(self, folder, monkeypatch):
        def crash(path: Path, target: Path) -> None:
            if target.name == module.CHECKPOINTS[0]:
                raise Crash
            os.replace(path, target)

        monkeypatch.setattr(Path, "replace", crash)
        with pytest.raises(Crash), folder.new_checkpoint(kept=2) as path:
            path.write_text("2")
        assert folder.checkpoints() == []
        assert folder.kept_checkpoint(2).read_text() == "2"


def test_configuration_is_kept_as_given(folder):
    folder.write_config("seed: 0\n")
    folder.write_config("seed: 1\n")
    assert (folder.path / "config.yaml").read_text() == "seed: 1\n"
