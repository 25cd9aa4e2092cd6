import json
import multiprocessing
import os
import threading
from pathlib import Path

import pytest
from filelock import Timeout

from src.runs.folder import RunFolder
from src.runs.lease import Held
from src.runs.needs import Needs
from src.runs.store import RunStore

RUN = "vgg-01234567"


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


class Crash(Exception):
    pass


ICS = {"ics": {"every": 10, "precision": "float32"}}
LANDSCAPE = {"landscape": {"every": 10, "precision": "float32"}}


def train(
    store: RunStore,
    content: str,
    state: str = "completed",
    wanted: Needs | None = None,
    force: bool = False,
) -> None:
    wanted = wanted or {}
    with store.writing(RUN, wanted, force) as folder:
        folder.write_config(content)
        write_tables(folder, wanted)
        folder.update_status(state=state, probes=wanted)


def write_tables(folder: RunFolder, wanted: Needs) -> None:
    for table in ("metrics", *wanted):
        (folder.path / f"{table}.parquet").touch()


def content(store: RunStore) -> str:
    return (store.folder(RUN).path / "config.yaml").read_text()


class TestWriting:
    def test_gives_the_run_s_own_folder(self, store):
        with store.writing(RUN, {}) as folder:
            assert folder.path == store.root / RUN
            assert folder.path.is_dir()

    def test_an_unfinished_run_is_continued_where_it_stands(self, store):
        train(store, "first", state="running")
        for force in (False, True):
            with store.writing(RUN, {}, force) as folder:
                assert folder.path == store.root / RUN
                assert (folder.path / "config.yaml").read_text() == "first"

    @pytest.mark.parametrize("restarted", [False, True])
    def test_force_begins_anew_but_not_in_the_midst_of_what_it_began(self, store, restarted):
        train(store, "first", state="running", wanted=ICS)
        path = store.folder(RUN).path
        store.folder(RUN).update_status(step=7)
        (path / "resume.ckpt").touch()
        for kept in ("checkpoints", "probed"):
            (path / kept).mkdir()
        with store.writing(RUN, {}, force=True, restarted=restarted) as folder:
            assert bool(folder.checkpoints()) == restarted
            status = {"state": "running", "probes": ICS}  # what to probe is remembered
            assert (folder.status() == status) != restarted
            there = {(path / "checkpoints").exists(), (path / "probed").exists()}
            assert there == {restarted}

    @pytest.mark.parametrize("state", ["completed", "diverged"])
    def test_of_an_ended_run_nothing_is_left_to_do_unless_forced(self, store, state):
        train(store, "first", state)
        with store.writing(RUN, {}) as folder:
            assert folder is None
        assert store.folder(RUN).ended() and content(store) == "first"
        with store.writing(RUN, {}, force=True) as folder:
            assert folder is not None and not folder.ended()

    @pytest.mark.parametrize("state", ["completed", "diverged"])
    def test_an_ended_run_that_lacks_a_probe_is_replaced_whole(self, store, state):
        train(store, "first", state, wanted=ICS)
        (store.folder(RUN).path / "only-in-first").touch()
        with store.writing(RUN, ICS) as folder:
            assert folder is None
        with store.writing(RUN, ICS | LANDSCAPE) as folder:
            assert folder.path != store.root / RUN and not folder.ended()
            folder.write_config("second")
            write_tables(folder, ICS | LANDSCAPE)
            folder.update_status(state=state, probes=ICS | LANDSCAPE)
            assert content(store) == "first" and store.folder(RUN).serves(ICS)
        assert content(store) == "second"
        assert not (store.folder(RUN).path / "only-in-first").exists()
        for wanted in ({}, ICS, LANDSCAPE, ICS | LANDSCAPE):
            with store.writing(RUN, wanted) as folder:
                assert folder is None

    def test_a_run_whose_table_is_gone_lacks_the_probe(self, store):
        train(store, "first", wanted=ICS)
        (store.folder(RUN).path / "ics.parquet").unlink()
        assert not store.folder(RUN).serves(ICS) and store.folder(RUN).serves({})
        store.folder(RUN).update_status(probe_failures={"ics": "failed at step 0: a reason"})
        assert store.folder(RUN).serves(ICS)

    def test_a_run_whose_metrics_are_gone_is_trained_again(self, store):
        train(store, "first")
        (store.folder(RUN).path / "metrics.parquet").unlink()
        train(store, "second")
        assert content(store) == "second" and store.folder(RUN).serves({})

    def test_what_was_kept_and_probed_again_outlives_the_old_folder(self, store):
        train(store, "first")
        for name in ("checkpoints", "probed"):
            (store.folder(RUN).path / name).mkdir()
            (store.folder(RUN).path / name / "file").touch()
        train(store, "second", wanted=ICS)
        assert content(store) == "second"
        assert {p.parent.name for p in store.folder(RUN).path.glob("*/file")} == {
            "checkpoints",
            "probed",
        }

    def test_of_another_training_nothing_is_kept(self, store):
        train(store, "first")
        store.folder(RUN).update_status(started=1.0)
        (store.folder(RUN).path / "checkpoints").mkdir()
        with store.writing(RUN, {}, force=True) as folder:
            folder.update_status(state="completed", probes={}, started=2.0)
        assert {p.name for p in store.folder(RUN).path.iterdir()} == {"status.json"}

    def test_a_run_made_anew_and_stopped_in_its_last_step_takes_its_place(self, store):
        train(store, "old")
        with pytest.raises(SystemExit), store.writing(RUN, {}, force=True) as folder:
            folder.write_config("new")
            folder.update_status(state="completed", probes={})
            raise SystemExit(143)
        assert content(store) == "new"

    def test_lets_go_after_an_error(self, store):
        with pytest.raises(Crash), store.writing(RUN, {}):
            raise Crash
        train(store, "second")
        assert content(store) == "second"

    def test_a_timeout_of_the_training_s_own_is_not_another_writer(self, store):
        with pytest.raises(Timeout), store.writing(RUN, {}):
            raise Timeout("the data's lock")


def hold(root: Path, entered: object, leave: object) -> None:
    with RunStore(root).writing(RUN, {}):
        entered.set()
        leave.wait(60)


class TestOneWriter:
    def refused(self, store: RunStore) -> None:
        with pytest.raises(Held, match=RUN), RunStore(store.root).writing(RUN, {}):
            raise AssertionError("two writers")
        with RunStore(store.root).writing("vgg-89abcdef", {}):
            pass  # another run is free

    def test_across_threads(self, store):
        entered, leave = threading.Event(), threading.Event()
        other = threading.Thread(target=hold, args=(store.root, entered, leave))
        other.start()
        try:
            assert entered.wait(60)
            self.refused(store)
        finally:
            leave.set()
            other.join()
        train(store, "mine")

    def test_across_processes_even_one_that_is_killed(self, store):
        context = multiprocessing.get_context("spawn")
        entered, leave = context.Event(), context.Event()
        other = context.Process(target=hold, args=(store.root, entered, leave))
        other.start()
        try:
            assert entered.wait(60)
            self.refused(store)
        finally:
            other.kill()
            other.join()
        train(store, "mine")

    def test_within_a_thread(self, store):
        with store.writing(RUN, {}):
            self.refused(store)


class TestAgain:
    def test_old_folder_stays_whole_until_the_new_run_has_ended(self, store):
        train(store, "old")
        (store.folder(RUN).path / "only-in-old").touch()
        with store.writing(RUN, {}, force=True) as folder:
            assert folder.path != store.root / RUN
            assert not folder.ended()
            folder.write_config("new")
            folder.update_status(state="running")
            assert content(store) == "old" and store.folder(RUN).ended()
            folder.update_status(state="diverged")
        assert content(store) == "new"
        assert {p.name for p in store.folder(RUN).path.iterdir()} == {"config.yaml", "status.json"}
        assert not any((store.root / ".again").iterdir())

    def test_a_run_that_lies_elsewhere_is_replaced_by_one_here(self, store, tmp_path):
        train(store, "first")
        (store.root / RUN).rename(tmp_path / "elsewhere")
        (store.root / RUN).symlink_to(tmp_path / "elsewhere")
        (store.root / RUN / "checkpoints").mkdir()
        for again in ("second", "third"):
            train(store, again, force=True)
            assert content(store) == again and not any((store.root / ".again").iterdir())
        assert not (store.root / RUN).is_symlink()
        assert (tmp_path / "elsewhere/checkpoints").exists()

    @pytest.mark.parametrize("state", ["running", "failed"])
    @pytest.mark.parametrize("force", [False, True])
    def test_a_new_run_that_does_not_end_leaves_the_old_and_is_continued(self, store, state, force):
        train(store, "old")
        with pytest.raises(Crash), store.writing(RUN, ICS, force) as folder:
            folder.write_config("new")
            folder.update_status(state=state, probes=ICS)
            (folder.path / "resume.ckpt").touch()
            raise Crash
        assert content(store) == "old"
        with store.writing(RUN, ICS, force) as folder:
            assert (folder.path / "config.yaml").read_text() == "new"
            assert bool(folder.checkpoints()) == (not force)
            folder.update_status(state="completed")
        assert content(store) == "new"

    @pytest.mark.parametrize("force", [False, True])
    @pytest.mark.parametrize("renames", [0, 1, 2, 3])
    def test_an_interrupted_swap_is_finished_by_the_next_start(
        self, store, monkeypatch, renames, force
    ):
        train(store, "old")
        (store.folder(RUN).path / "checkpoints").mkdir()
        real, done = os.rename, []

        def rename(path: Path, target: Path) -> None:
            if len(done) == renames:
                raise Crash
            done.append(path)
            real(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", rename)
            if renames == 3:  # between the last rename and the removal of the old folder
                patch.setattr("src.runs.store.shutil.rmtree", self.crash_on_existing)
            with pytest.raises(Crash):
                train(store, "new", force=True)
        with store.writing(RUN, {}, force) as folder:
            assert content(store) == "new" and store.folder(RUN).ended()
            assert (folder is None) == (not force)
            assert folder is None or folder.path != store.root / RUN
        assert content(store) == "new" and (store.folder(RUN).path / "checkpoints").exists()
        leftover = {path.name for path in (store.root / ".again").iterdir()}
        assert leftover == ({RUN} if force else set())

    @staticmethod
    def crash_on_existing(path: Path, ignore_errors: bool) -> None:
        if path.exists():
            raise Crash


class TestSweep:
    @staticmethod
    def cell(run: str, *overrides: str) -> dict[str, object]:
        return {"overrides": overrides, "run": run, "probes": {}}

    def manifest(self, store: RunStore, sweep: str) -> dict[str, object]:
        return json.loads((store.root / "sweeps" / f"{sweep}.json").read_text())

    def test_cells_are_merged_by_run(self, store):
        store.add_to_sweep("fig", [self.cell("a", "seed=0"), self.cell("b", "seed=1")])
        store.add_to_sweep("fig", [self.cell("b", "seed=1", "logger=none"), self.cell("c")])
        manifest = self.manifest(store, "fig")
        assert manifest["sweep"] == "fig"
        assert [cell["run"] for cell in manifest["cells"]] == ["a", "b", "c"]
        assert manifest["cells"][1]["overrides"] == ["seed=1", "logger=none"]

    def test_a_run_s_probes_are_gathered(self, store):
        wanted = [
            ICS,
            {"ics": ICS["ics"] | {"every": 5}} | LANDSCAPE,
            {"ics": ICS["ics"] | {"every": 20}},
            {},
        ]
        store.add_to_sweep("fig", [self.cell("a") | {"probes": probes} for probes in wanted])
        (cell,) = self.manifest(store, "fig")["cells"]
        assert cell["probes"] == {"ics": ICS["ics"] | {"every": 5}} | LANDSCAPE
        store.add_to_sweep("fig", [self.cell("a") | {"probes": ICS}])
        assert self.manifest(store, "fig")["cells"] == [cell]

    def test_the_command_told_is_one_that_asks_for_all(self, store):
        store.add_to_sweep("fig", [self.cell("a") | {"probes": ICS, "command": "whole"}])
        store.add_to_sweep("fig", [self.cell("a") | {"command": "less"}])
        assert self.manifest(store, "fig")["cells"][0]["command"] == "whole"
        other = self.cell("a") | {"probes": LANDSCAPE, "command": "other"}
        store.add_to_sweep("fig", [other])  # neither asks for all: the newest is to be gone on with
        assert self.manifest(store, "fig")["cells"][0]["command"] == "other"
        more = self.cell("a") | {"probes": ICS | LANDSCAPE, "command": "more"}
        store.add_to_sweep("fig", [more])
        store.add_to_sweep("fig", [other])
        assert self.manifest(store, "fig")["cells"][0]["command"] == "more"

    def test_sweeps_are_apart(self, store):
        store.add_to_sweep("one", [self.cell("a")])
        store.add_to_sweep("other", [self.cell("a")])
        assert self.manifest(store, "one")["cells"] == self.manifest(store, "other")["cells"]

    def test_many_writers_lose_nothing(self, store):
        def add(number: int) -> None:
            RunStore(store.root).add_to_sweep("fig", [self.cell(f"run-{number}")])

        writers = [threading.Thread(target=add, args=(number,)) for number in range(12)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        runs = {cell["run"] for cell in self.manifest(store, "fig")["cells"]}
        assert runs == {f"run-{number}" for number in range(12)}
