import os
import platform
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from src.runs.progress import Progress, progress
from src.runs.store import RunStore

RUN = "vgg-01234567"
LACKS = "has ended, but lacks what is asked for"
ICS = {"ics": {"every": 10, "precision": "float32"}}
HALF = {"step": 50, "max_steps": 100, "seconds": 20.0, "probes": {}, "message": None}
UNDER_WAY = HALF | {
    "state": "running",
    "machine": {"host": "far"},
    "attempt_began": 1e9,
    "updated": 1e9,
}


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def left(store, **status):
    """Leave a run as its process would that has ended."""
    with store.writing(RUN, {}) as folder:
        folder.write_metrics([])
        folder.update_status(**UNDER_WAY | status)


def test_before_the_first_attempt_it_is_missing(store):
    assert progress(store, RUN, {}) == Progress(RUN, "missing")


@pytest.mark.parametrize("state", ["completed", "diverged"])
def test_an_ended_run(store, state):
    left(store, state=state, step=7, message="why")
    assert progress(store, RUN, {}) == Progress(RUN, state, 7, 100, message="why")


def test_an_ended_run_without_a_probe_asked_for_is_missing(store):
    left(store, state="completed")
    found = progress(store, RUN, ICS)
    assert (found.state, found.message) == ("missing", f"{LACKS}: ics")


def test_an_ended_run_whose_metrics_are_gone_is_missing(store):
    left(store, state="completed")
    (store.folder(RUN).path / "metrics.parquet").unlink()
    for wanted, lacks in (({}, "metrics"), (ICS, "metrics, ics")):
        found = progress(store, RUN, wanted)
        assert (found.state, found.message) == ("missing", f"{LACKS}: {lacks}")


def test_of_an_ended_run_the_probes_that_failed_are_told(store):
    failures = {"ics": "failed at step 0: no memory\nmore"}
    left(store, state="completed", probes=ICS, probe_failures=failures)
    found = progress(store, RUN, ICS)
    assert (found.state, found.message) == ("completed", "probe ics failed at step 0: no memory")


def test_of_a_failed_run_the_first_line_is_told(store):
    left(store, state="failed", message="DataError: no images\nsecond line")
    found = progress(store, RUN, {})
    assert (found.state, found.message) == ("failed", "DataError: no images")
    left(store, state="failed", message="")
    assert progress(store, RUN, {}).message == ""


def test_stopped_in_good_order(store):
    left(store, message="stopped by SIGTERM", attempt_began=None)
    found = progress(store, RUN, {})
    assert (found.state, found.step, found.message) == ("stopped", 50, "stopped by SIGTERM")


def test_under_way_with_the_time_left_at_the_pace_so_far(store):
    now = time.time()
    with store.writing(RUN, {}) as folder:
        assert progress(store, RUN, {}).seconds_left is None, "no step yet"
        folder.update_status(**UNDER_WAY | {"attempt_began": now, "updated": now + 30})
        found = progress(store, RUN, {})
    who = f"by process {os.getpid()} on {platform.node()}"
    assert replace(found, seconds_left=0) == Progress(RUN, "running", 50, 100, 0, who)
    assert found.seconds_left == pytest.approx(50.0)  # 20 s before this attempt and 30 in it


def test_killed_on_this_host_it_is_stale_at_once(store):
    held = "import sys\nfrom pathlib import Path\nfrom src.runs.store import RunStore\n" + (
        f"with RunStore(Path(sys.argv[1])).writing({RUN!r}, {{}}) as folder:\n"
        f"    folder.update_status(**{UNDER_WAY})\n"
        "    print(flush=True)\n    sys.stdin.read()\n"
    )
    command, pipe = [sys.executable, "-c", held, str(store.root)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        process.stdout.readline()
        assert progress(store, RUN, {}).state == "running"
        process.kill()
        process.wait()
    found = progress(store, RUN, {})
    assert (found.state, found.message) == ("stale", "was being trained on far, but nobody writes")


def test_a_run_made_anew_is_told_of_until_it_replaces_the_old(store):
    left(store, state="completed", step=100)
    with store.writing(RUN, ICS) as beside:
        beside.update_status(**UNDER_WAY | {"step": 3})
        assert (progress(store, RUN, ICS).state, progress(store, RUN, ICS).step) == ("running", 3)


@pytest.mark.parametrize("status", [None, UNDER_WAY | {"step": 3, "message": "stopped by SIGINT"}])
def test_an_attempt_left_off_beside_an_ended_run_changes_nothing(store, status):
    left(store, state="completed", step=100)
    with store.writing(RUN, {}, force=True) as beside:
        beside.write_config("new")
        if status:
            beside.update_status(**status)
    assert progress(store, RUN, {}) == Progress(RUN, "completed", 100, 100)
    for again in (progress(store, RUN, ICS), progress(store, RUN, {}, forced=True)):
        assert again.state == ("stopped" if status else "missing")
