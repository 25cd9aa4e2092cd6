from pathlib import Path

import polars
import pytest
from polars import col

from src.runs.folder import RunFolder
from src.runs.reading import RUN_COLUMNS, read_rows, read_runs
from src.runs.store import RunStore
from src.runs.tables import COLUMNS, Table

CONFIG = """
model: {name: vgg_bn, head: 512, width: 0.25}
optim: {lr: 1.0e-06, momentum: 0}
data: {name: cifar10, augment: false}
probes: {step_sizes: [0.5, 1.0], which: []}
seed: 3
scale: small
threads: null
"""
STATUS = {
    **{"state": "completed", "step": 20, "max_steps": 20, "seconds": 1.5, "started": 1.0},
    **{"device": "cpu", "threads": 2, "data": "cifar10 (official)"},
    "probes": {"ics": {"every": 10, "update": "gradient", "layers": []}},
    "versions": {"torch": "2.14.1", "pytorch-lightning": "2.6.6"},
    "machine": {"host": "here", "platform": "Linux"},
    "git": {"commit": "abc", "dirty": None},
}


def write(root: Path, name: str, config: str = CONFIG, **status: object) -> RunFolder:
    folder = RunFolder(root / name)
    folder.path.mkdir(parents=True)
    folder.write_config(config)
    folder.update_status(**STATUS | status)
    return folder


class TestReadRuns:
    def test_status_and_configuration_are_columns(self, tmp_path):
        write(tmp_path, "vgg_bn-00000000")
        runs = read_runs(tmp_path)
        assert runs.problems == []
        (row,) = runs.table.to_dicts()
        expected = {
            **{"run": "vgg_bn-00000000", "state": "completed", "step": 20, "seconds": 1.5},
            **{"optim.lr": 1e-6, "model.name": "vgg_bn", "model.head": 512, "seed": 3},
            **{"data.name": "cifar10", "data.variant": "cifar10 (official)", "scale": "small"},
            **{"data.augment": False, "threads": 2, "device": "cpu", "git.dirty": None},
            **{"versions.torch": "2.14.1", "machine.platform": "Linux", "git.commit": "abc"},
            **{"probes.step_sizes": "[0.5, 1.0]", "probes.ics.update": "gradient"},
        }
        assert {key: row[key] for key in expected} == expected

    def test_an_empty_folder_has_the_columns_all_the_same(self, tmp_path):
        runs = read_runs(tmp_path)
        assert runs.table.schema == RUN_COLUMNS
        assert (len(runs.table), runs.problems, runs.sweeps) == (0, [], {})

    def test_no_folder(self, tmp_path):
        with pytest.raises(NotADirectoryError, match="nowhere"):
            read_runs(tmp_path / "nowhere")

    def test_keys_of_some_runs_are_null_in_others_and_kinds_may_differ(self, tmp_path):
        write(tmp_path, "a", CONFIG.replace("head: 512", "head: linear"))
        write(tmp_path, "b")
        write(tmp_path, "c", CONFIG.replace("momentum: 0}", "momentum: 0.9, extra: 1}"))
        table = read_runs(tmp_path).table
        assert table["model.head"].to_list() == ["linear", "512", "512"]
        assert table["optim.momentum"].to_list() == [0.0, 0.0, 0.9]
        assert table["optim.extra"].to_list() == [None, None, 1]

    def test_what_is_no_run_is_named_and_the_rest_is_read(self, tmp_path):
        write(tmp_path, "good")
        (tmp_path / "foreign").mkdir()
        (tmp_path / "notes.txt").touch()
        write(tmp_path, "cut").path.joinpath("status.json").write_text('{"state": "comp')
        write(tmp_path, "begun").path.joinpath("status.json").unlink()
        write(tmp_path, "torn").path.joinpath("config.yaml").write_text("a: [1, \x00")
        write(tmp_path, "list", config="[1, 2]")
        write(tmp_path, "bytes").path.joinpath("config.yaml").write_bytes(b"\xff\xfe\x00")
        write(tmp_path, "stateless").path.joinpath("status.json").write_text("{}")
        runs = read_runs(tmp_path)
        assert runs.table["run"].to_list() == ["good"]
        named = [line.split(":")[0] for line in runs.problems]
        assert named == ["begun", "bytes", "cut", "foreign", "list", "stateless", "torn"]
        assert all("\n" not in line for line in runs.problems)

    def test_the_store_s_own_folders_are_no_runs(self, tmp_path):
        store = RunStore(tmp_path)
        with store.writing("good", {}) as folder:
            folder.write_config(CONFIG)
            folder.update_status(**STATUS)
        with store.writing("good", {}, force=True) as folder:  # into .again
            folder.write_config(CONFIG)
            folder.update_status(state="running")
        store.add_to_sweep("fig", [{"overrides": [], "run": "good", "probes": {}}])
        runs = read_runs(tmp_path)
        assert runs.table["run"].to_list() == ["good"] and runs.problems == []
        assert runs.table["state"].to_list() == ["completed"]

    def test_many(self, tmp_path):
        for number in range(300):
            write(tmp_path, f"run-{number:03}", CONFIG.replace("seed: 3", f"seed: {number}"))
        table = read_runs(tmp_path).table
        assert table["seed"].to_list() == list(range(300))


BAD_CELLS = [
    f'{{"cells": [{cell}]}}' for cell in ("{}", "1", '{"run": "a"}', '{"run": 1, "probes": {}}')
]


class TestSweeps:
    def test_runs_of_a_sweep_and_those_that_are_missing(self, tmp_path):
        for name in ("a", "b", "c"):
            write(tmp_path, name)
        cells = [{"overrides": [f"x={n}"], "run": n, "probes": {}} for n in ("c", "gone", "a")]
        RunStore(tmp_path).add_to_sweep("fig", cells)
        runs = read_runs(tmp_path)
        assert runs.of("fig")["run"].to_list() == ["a", "c"]
        assert runs.missing("fig") == ["gone"]
        assert runs.sweeps["fig"][0]["overrides"] == ["x=c"]
        assert runs.of("never").is_empty() and runs.missing("never") == []
        assert runs.pool("fig").equals(runs.of("fig")) and runs.pool("never").equals(runs.table)

    @pytest.mark.parametrize("text", ["{", "[]", '{"cells": 3}', *BAD_CELLS])
    def test_a_damaged_manifest_is_named(self, tmp_path, text):
        (tmp_path / "sweeps").mkdir()
        (tmp_path / "sweeps" / "fig.json").write_text(text)
        runs = read_runs(tmp_path)
        assert runs.sweeps == {}
        (line,) = runs.problems
        assert line.startswith("sweeps/fig.json: ")


class TestReadRows:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        for name, l2 in (("a", 1.0), ("b", 2.0)):
            table = Table(write(tmp_path, name).path, "ics")
            table.start(0)
            rows = [(step, layer, "w", l2 * step) for step in (1, 2) for layer in (1, 2)]
            table.add([(*row, *[0.0] * 5) for row in rows])
            table.write()
        write(tmp_path, "without")
        return tmp_path

    def test_rows_of_many_runs(self, root):
        rows = read_rows(root, ["a", "without", "b"], "ics")
        assert rows.columns == ["run", *COLUMNS["ics"]]
        assert rows["run"].to_list() == ["a"] * 4 + ["b"] * 4
        assert rows.filter(run="b")["l2"].to_list() == [2, 2, 4, 4]

    def test_some_columns_of_some_rows(self, root):
        rows = read_rows(root, ["a", "b"], "ics", ["l2"], (col("layer") == 2) & (col("step") == 2))
        assert rows.to_dicts() == [{"run": "a", "l2": 2.0}, {"run": "b", "l2": 4.0}]

    @pytest.mark.parametrize("columns", [None, ["step"]])
    @pytest.mark.parametrize("table", COLUMNS)
    def test_none_has_it(self, root, table, columns):
        rows = read_rows(root, ["without", "gone"], table, columns)
        assert rows.is_empty()
        assert rows.columns == ["run", *(columns or COLUMNS[table])]

    def test_a_damaged_table_is_named_and_the_rest_is_read(self, root, caplog):
        (root / "a" / "ics.parquet").write_bytes(b"PAR1 cut")
        problems: list[str] = []
        rows = read_rows(root, ["a", "b"], "ics", problems=problems)
        assert set(rows["run"]) == {"b"}
        (line,) = problems
        assert line.startswith("a/ics.parquet: ") and "\n" not in line
        assert line in caplog.text

    def test_a_run_of_an_older_layout_has_nulls(self, root):
        path = root / "a" / "ics.parquet"
        polars.read_parquet(path).drop("cosine").write_parquet(path)
        rows = read_rows(root, ["a", "b"], "ics")
        assert rows.filter(run="a")["cosine"].to_list() == [None] * 4


def test_metrics_are_read_as_they_are_written_whatever_the_folder_is_called(tmp_path):
    for place, loss in (("r[12]*", 2.5), ("r1", 1.0)):
        (tmp_path / place).mkdir()
        written = write(tmp_path / place, "a")
        written.write_metrics([(0, "train/loss", loss)])
        table = Table(written.path, "ics")
        table.start(0)
        table.add([(0, 2, "w", loss, *[0.0] * 5)])
        table.write()
        table.start(1)  # as a run that is resumed
        assert written.final_metrics() == {"train/loss": loss}
    assert read_rows(tmp_path / "r[12]*", ["a"], "metrics").to_dicts() == [
        {"run": "a", "step": 0, "name": "train/loss", "value": 2.5}
    ]
    assert read_rows(tmp_path / "r[12]*", ["a"], "ics")["l2"].to_list() == [2.5]
