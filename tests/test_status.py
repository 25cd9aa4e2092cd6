import json

import pytest

from src.runs.store import RunStore
from src.status import main

COMMAND = "python -m src.train +sweeps=fig1_training seed=0,1"
STATES = {
    "vgg-00000000": {"state": "completed", "step": 100},
    "vgg-11111111": {"state": "diverged", "step": 3, "message": "not finite at step 3"},
    "vgg-22222222": {"state": "failed", "step": 0, "message": "DataError: no images\nmore"},
    "vgg-33333333": {"state": "running", "step": 40, "message": "stopped by SIGTERM"},
    "vgg-44444444": {"state": "running", "step": 20, "machine": {"host": "far"}},
}


@pytest.fixture
def runs(tmp_path):
    """A sweep with a cell in each state, of which one is under way and one has not begun."""
    store = RunStore(tmp_path / "runs")
    for name, status in STATES.items():
        with store.writing(name, {}) as folder:
            before = {"max_steps": 100, "probes": {}, "message": None, "seconds": 30.0}
            folder.write_metrics([])
            folder.update_status(**before | status)
    cells = [{"overrides": [], "run": run, "probes": {}} for run in (*STATES, "vgg-66666666")]
    store.add_to_sweep("fig1_training", [cell | {"command": COMMAND} for cell in cells])
    return store.root


def told(capsys, *arguments):
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def test_the_table_the_cells_worth_a_line_and_the_command(runs, capsys):
    store = RunStore(runs)
    with store.writing("vgg-55555555", {}) as folder:
        folder.update_status(
            **{"state": "running", "step": 25, "max_steps": 100, "message": None, "probes": {}},
            **{"seconds": 0.0, "attempt_began": 1e9, "updated": 1e9 + 1200},
        )
        store.add_to_sweep(
            "fig1_training",
            [{"overrides": [], "run": "vgg-55555555", "probes": {}, "command": COMMAND}],
        )
        heading, counts, _, *lines = told(capsys, runs).splitlines()
    assert heading.split()[1:] == [
        *("cells", "completed", "diverged", "running", "stopped", "stale", "failed", "missing")
    ]
    assert counts.split() == ["fig1_training", "7", *"1111111"]
    assert [line.partition(" at step ")[0] for line in lines[:4]] == [
        *("vgg-22222222 failed", "vgg-33333333 stopped", "vgg-44444444 stale"),
        "vgg-55555555 running",
    ]
    assert lines[0].endswith("at step 0 of 100: DataError: no images")
    assert "at step 25 of 100, 1 h 00 min left: by process " in lines[3]
    assert lines[4:] == ["", "To finish the rest:", f"  {COMMAND}"]


def test_json_says_the_same(runs, capsys):
    found = json.loads(told(capsys, runs, "--json"))
    sweep = found["sweeps"]["fig1_training"]
    states = {cell["run"]: cell["state"] for cell in sweep["cells"]}
    assert [*states.values()] == [
        *("completed", "diverged", "failed", "stopped", "stale", "missing")
    ]
    assert (sweep["commands"], found["problems"]) == ([COMMAND], [])


def test_where_all_is_done_no_command_is_told(tmp_path, capsys):
    store = RunStore(tmp_path)
    with store.writing("vgg-00000000", {}) as folder:
        folder.write_metrics([])
        folder.update_status(state="completed", probes={}, step=1, max_steps=1)
    out = told(capsys, tmp_path, "--watch")  # and watching ends
    assert "of no sweep" in out and "To finish" not in out


def test_a_damaged_manifest_is_named_and_the_others_are_shown(runs, capsys):
    (runs / "sweeps" / "broken.json").write_text("{")
    out = told(capsys, runs)
    assert "fig1_training" in out and "broken.json" in out


@pytest.mark.parametrize("text", ["[1]", '"x"', "{"])
def test_a_damaged_run_hides_no_other(runs, capsys, caplog, text):
    (runs / "vgg-11111111" / "status.json").write_text(text)
    message = json.dumps({"state": "failed", "message": "a\x1b[2J"})
    (runs / "vgg-22222222" / "status.json").write_text(message)
    out = told(capsys, runs)
    assert "vgg-22222222 failed: a?[2J" in out and "vgg-44444444 stale" in out
    assert "vgg-11111111/status.json is damaged" in caplog.text


def test_ctrl_c_ends_the_watch_with_the_table(runs, capsys, monkeypatch):
    def pressed(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("src.status.time.sleep", pressed)
    watching = runs / "vgg-44444444"
    with RunStore(runs).writing(watching.name, {}, force=True):
        assert main([str(runs), "--watch"]) is None
    assert "fig" in capsys.readouterr().out


def test_no_folder_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "nowhere")])
    out, err = capsys.readouterr()
    assert (ended.value.code, out, len(err.splitlines())) == (2, "", 1)
