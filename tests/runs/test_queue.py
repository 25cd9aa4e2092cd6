"""What is read out of SLURM's answer; that SLURM answers so, ``test_slurm.py`` shows."""

import os
import stat

import pytest

from src.runs.queue import Job, QueueError, jobs, marked

RUNS = ["vgg-00000000", "vgg-11111111", "vgg-22222222"]


@pytest.fixture
def answer(tmp_path, monkeypatch):
    """Puts a ``squeue`` in front that prints some lines and exits with some code."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def write(*lines: str, code: int = 0) -> None:
        squeue = folder / "squeue"
        squeue.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + f"\nEND\nexit {code}\n")
        squeue.chmod(squeue.stat().st_mode | stat.S_IXUSR)

    return write


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def test_where_nothing_was_ever_submitted_slurm_is_not_asked(root, answer):
    answer(code=1)
    assert jobs(root) == {}


def test_each_cell_of_an_array_has_its_job(root, answer):
    mark = marked(root, RUNS)
    answer(
        f"7_0|0|RUNNING|{mark}",
        f"7_1|1|PENDING|a comment of the user's {mark}",
        f"7_2|2|COMPLETED|{mark}",
        "8_0|0|RUNNING|of another's",
        "9|N/A|RUNNING|",
        *("10|N/A|RUNNING| ", f"11|N/A|RUNNING|{'x' * 300}", "12|N/A|RUNNING|two", "lines", ""),
    )
    assert jobs(root) == {
        RUNS[0]: Job("7_0", "RUNNING"),
        RUNS[1]: Job("7_1", "PENDING"),
        RUNS[2]: Job("7_2", "COMPLETED"),
    }
    assert [job.live for job in jobs(root).values()] == [True, True, False]


def test_of_several_jobs_of_a_run_the_live_one_counts_then_the_latest(root, answer):
    first, second, third = (marked(root, RUNS[:1]) for _ in range(3))
    answer(f"12|N/A|FAILED|{second}", f"7|N/A|TIMEOUT|{first}")
    assert jobs(root) == {RUNS[0]: Job("12", "FAILED")}
    answer(f"7|N/A|REQUEUED|{first}", f"12|N/A|FAILED|{second}", f"9|N/A|CANCELLED|{third}")
    assert jobs(root) == {RUNS[0]: Job("7", "REQUEUED")}


def test_no_answer_is_an_error_and_not_an_empty_queue(root, answer, monkeypatch):
    marked(root, RUNS)
    answer(code=1)
    with pytest.raises(QueueError):
        jobs(root)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(QueueError, match="squeue"):
        jobs(root)
