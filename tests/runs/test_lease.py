import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.runs import lease
from src.runs.lease import Held, holder, only_writer

HOLD = """
import socket, sys
from pathlib import Path
from src.runs import lease
if sys.argv[3:]:
    lease.LEASE_SECONDS, lease.HEARTBEAT_SECONDS = map(float, sys.argv[3:])
if sys.argv[2]:
    socket.gethostname = lambda: sys.argv[2]
with lease.only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".locks" / "vgg-01234567.lease"


@pytest.fixture
def short(monkeypatch):
    """A lease to wait for the end of; who must count as alive has the usual one."""
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.2)


@pytest.fixture
def other(path):
    """Starts a process that holds the lease, on this host or one of another name."""
    started = []

    def start(host: str = "") -> subprocess.Popen[str]:
        pipe, seconds = subprocess.PIPE, (lease.LEASE_SECONDS, lease.HEARTBEAT_SECONDS)
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path), host, *map(str, seconds)],
            **{"stdin": pipe, "stdout": pipe, "stderr": pipe, "text": True},
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_nobody_holds_what_was_left_in_good_order(path):
    with only_writer(path):
        found = holder(path)
        assert (found.pid, found.host, found.dead) == (os.getpid(), platform.node(), False)
    assert holder(path) is None and not list(path.parent.iterdir())


@pytest.mark.parametrize("host", ["", "elsewhere"])
def test_the_second_says_who_holds_it(path, other, host):
    process = other(host)
    who = f"vgg-01234567 is being trained by process {process.pid} on {host or platform.node()}"
    with pytest.raises(Held, match=f"^{who}$"), only_writer(path):
        raise AssertionError("two writers")
    assert process.poll() is None and not holder(path).dead
    process.communicate()  # ends its input, and so the process
    with only_writer(path):
        assert holder(path).pid == os.getpid()


def test_one_that_was_only_starting_is_named(path, other, monkeypatch):
    process = other()
    looks = iter([lambda _: None])  # it has the lease, and has not said who it is
    monkeypatch.setattr(lease, "holder", lambda path: next(looks, holder)(path))
    with pytest.raises(Held, match=f"process {process.pid} on "), only_writer(path):
        raise AssertionError("two writers")


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("host", ["", "elsewhere"])
def test_a_dead_holder_makes_way(path, other, host):
    process = other(host)
    process.kill()
    process.wait()
    assert holder(path).pid == process.pid, "its lease is still there"
    with only_writer(path):
        assert holder(path).pid == os.getpid()


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("left", ["", "nonsense", "1\n"])
def test_who_was_killed_while_writing_who_it_is_makes_way(path, left):
    path.parent.mkdir()
    path.write_text(left)
    with only_writer(path):
        assert holder(path).pid == os.getpid()


def test_in_a_container_a_killed_holder_is_known_to_be_dead(path):
    alone = ["unshare", "--pid", "--fork", "--mount-proc"]
    if (
        not shutil.which(alone[0])
        or subprocess.run([*alone, "true"], capture_output=True).returncode
    ):
        pytest.skip("no process numbers of its own can be had here")
    killed = f"""
import platform, subprocess, sys
from pathlib import Path
from src.runs.lease import holder
path, pipe = Path({str(path)!r}), subprocess.PIPE
process = subprocess.Popen([sys.executable, "-c", {HOLD!r}, path, ""], stdin=pipe, stdout=pipe)
process.stdout.readline()
dead = holder(path).dead
process.kill()
process.wait()
print(dead, holder(path).dead, holder(path).host == platform.node())
"""
    done = subprocess.run([*alone, sys.executable, "-c", killed], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True", "True"], done.stderr
    assert not holder(path).dead, "and from outside one cannot know"


@pytest.mark.usefixtures("short")
def test_who_is_suspended_on_this_host_makes_way_once_it_counts_as_dead(path, other):
    process = other()
    process.send_signal(signal.SIGSTOP)
    while not holder(path).dead:
        time.sleep(0.05)
    with only_writer(path):
        assert holder(path).pid == os.getpid()


@pytest.mark.usefixtures("short")
def test_a_holder_that_has_been_silent_is_dead(path, other):
    other("elsewhere").kill()
    while not (found := holder(path)).dead:
        time.sleep(0.05)
    assert found.host == "elsewhere" and found.silent > 1


def test_no_clock_but_the_file_system_s_counts(path, other, monkeypatch):
    other("elsewhere")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert not holder(path).dead
    with pytest.raises(Held), only_writer(path):
        raise AssertionError("two writers")


@pytest.mark.usefixtures("short")
def test_who_was_suspended_and_replaced_ends_and_writes_no_more(path, other):
    process = other("elsewhere")
    process.send_signal(signal.SIGSTOP)
    with only_writer(path):
        process.send_signal(signal.SIGCONT)
        assert process.wait(60) == 1
        assert holder(path).pid == os.getpid()
    (line,) = process.stderr.read().splitlines()
    assert line.startswith("vgg-01234567: this process has lost its run (owner-changed)")
