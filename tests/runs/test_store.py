import json
import multiprocessing
import threading
from pathlib import Path

import pytest
from filelock import Timeout

from src.runs.store import Held, RunStore

RUN = "vgg-01234567"


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


class Crash(Exception):
    pass


def train(store: RunStore, content: str, state: str = "completed", again: bool = False) -> None:
    with store.writing(RUN, again) as folder:
        folder.write_config(content)
        folder.update_status(state=state)


def content(store: RunStore) -> str:
    return (store.folder(RUN).path / "config.yaml").read_text()


class TestWriting:
    def test_gives_the_run_s_own_folder(self, store):
        with store.writing(RUN, again=False) as folder:
            assert folder.path == store.root / RUN
            assert folder.path.is_dir()

    def test_an_unfinished_run_is_continued_where_it_stands(self, store):
        train(store, "first", state="running")
        for again in (False, True):
            with store.writing(RUN, again) as folder:
                assert (folder.path / "config.yaml").read_text() == "first"

    def test_an_ended_run_is_given_as_it_is_unless_asked_for_again(self, store):
        train(store, "first")
        with store.writing(RUN, again=False) as folder:
            assert folder.ended() and folder.path == store.root / RUN

    def test_lets_go_after_an_error(self, store):
        with pytest.raises(Crash), store.writing(RUN, again=False):
            raise Crash
        train(store, "second")
        assert content(store) == "second"

    def test_a_timeout_of_the_training_s_own_is_not_another_writer(self, store):
        with pytest.raises(Timeout), store.writing(RUN, again=False):
            raise Timeout("the data's lock")


def hold(root: Path, entered: object, leave: object) -> None:
    with RunStore(root).writing(RUN, again=False):
        entered.set()
        leave.wait(60)


class TestOneWriter:
    def refused(self, store: RunStore) -> None:
        with pytest.raises(Held, match=RUN), RunStore(store.root).writing(RUN, again=False):
            raise AssertionError("two writers")
        with RunStore(store.root).writing("vgg-89abcdef", again=False):
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
        with store.writing(RUN, again=False):
            self.refused(store)


class TestAgain:
    def test_old_folder_stays_whole_until_the_new_run_has_ended(self, store):
        train(store, "old")
        (store.folder(RUN).path / "only-in-old").touch()
        with store.writing(RUN, again=True) as folder:
            assert folder.path != store.root / RUN
            assert not folder.ended()
            folder.write_config("new")
            folder.update_status(state="running")
            assert content(store) == "old" and store.folder(RUN).ended()
            folder.update_status(state="diverged")
        assert content(store) == "new"
        assert {p.name for p in store.folder(RUN).path.iterdir()} == {"config.yaml", "status.json"}
        assert not any((store.root / ".again").iterdir())

    @pytest.mark.parametrize("state", ["running", "failed"])
    def test_a_new_run_that_does_not_end_leaves_the_old_and_is_continued(self, store, state):
        train(store, "old")
        with pytest.raises(Crash), store.writing(RUN, again=True) as folder:
            folder.write_config("new")
            folder.update_status(state=state)
            raise Crash
        assert content(store) == "old"
        with store.writing(RUN, again=True) as folder:
            assert (folder.path / "config.yaml").read_text() == "new"
            folder.update_status(state="completed")
        assert content(store) == "new"

    @pytest.mark.parametrize("again", [False, True])
    @pytest.mark.parametrize("renames", [0, 1, 2])
    def test_an_interrupted_swap_is_finished_by_the_next_start(
        self, store, monkeypatch, renames, again
    ):
        train(store, "old")
        real, done = Path.rename, []

        def rename(path: Path, target: Path) -> Path:
            if len(done) == renames:
                raise Crash
            done.append(path)
            return real(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", rename)
            if renames == 2:  # between the last rename and the removal of the old folder
                patch.setattr("src.runs.store.shutil.rmtree", self.crash_on_existing)
            with pytest.raises(Crash):
                train(store, "new", again=True)
        with store.writing(RUN, again) as folder:
            assert content(store) == "new" and store.folder(RUN).ended()
            assert (folder.path == store.root / RUN) == (not again)
        assert content(store) == "new"
        leftover = {path.name for path in (store.root / ".again").iterdir()}
        assert leftover == ({RUN} if again else set())

    @staticmethod
    def crash_on_existing(path: Path, ignore_errors: bool) -> None:
        if path.exists():
            raise Crash


class TestSweep:
    @staticmethod
    def cell(run: str, *overrides: str) -> dict[str, object]:
        return {"overrides": overrides, "run": run, "probes": []}

    def manifest(self, store: RunStore, sweep: str) -> dict[str, object]:
        return json.loads((store.root / "sweeps" / f"{sweep}.json").read_text())

    def test_cells_are_merged_by_run(self, store):
        store.add_to_sweep("fig", [self.cell("a", "seed=0"), self.cell("b", "seed=1")])
        store.add_to_sweep("fig", [self.cell("b", "seed=1", "logger=none"), self.cell("c")])
        manifest = self.manifest(store, "fig")
        assert manifest["sweep"] == "fig"
        assert [cell["run"] for cell in manifest["cells"]] == ["a", "b", "c"]
        assert manifest["cells"][1]["overrides"] == ["seed=1", "logger=none"]

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
