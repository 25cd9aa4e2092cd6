"""The disk fails under a run: one line says so, nothing is lost, and once healed it goes on."""

import re
import resource
import shutil
import subprocess
from dataclasses import dataclass, replace

import pytest

from tests.faults.conftest import RUN, check_whole, in_full, times
from tests.faults.inject import At, Faults, Fill, Protect, Remove, moments, protect

WRITTEN = r"runs/vgg_bn-.*\.tmp"


@pytest.fixture
def small_disk(command):
    """The command, writing to a disk of a few megabytes."""
    command.runs_dir.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", command.runs_dir]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk may be mounted here")
    yield command
    subprocess.run(["umount", command.runs_dir], check=True)


@pytest.fixture
def only_line(command, undisturbed):
    """Checks that a command failed, with one line for its one run, and returns that."""

    def check(done):
        assert done.returncode == 1, done.stdout + done.stderr
        # A run that had begun says so at once, too.
        assert len(done.stderr.splitlines()) <= 1 and "Traceback" not in done.stdout, done.stderr
        check_whole(command.runs_dir)
        start = f"  {undisturbed.run().name}: "
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(start)]
        return line

    return check


@dataclass(frozen=True)
class LimitSize:
    """No file may grow beyond so many bytes, as under a quota."""

    size: int

    def __call__(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))


@pytest.mark.slow
def test_disk_full(small_disk, undisturbed, events, exact, only_line, chance, tally):
    for _ in range(times(10)):
        fill = Fill(small_disk.runs_dir, spare=chance.choice((0, 0, 4096, 50_000)))
        nth = chance.randint(1, moments(events, WRITTEN) // 2)
        done = replace(small_disk, fault=Faults((At(WRITTEN, nth, fill),)))(*RUN, code=None)
        assert "No space left on device" in only_line(done)
        (small_disk.runs_dir / "filler").unlink()
        small_disk(*RUN)
        exact(small_disk.run(), undisturbed.run())
        tally("disk full", "one line; once there was room, exact")
        for path in [*small_disk.runs_dir.iterdir()]:
            shutil.rmtree(path)


@in_full
@pytest.mark.slow
def test_a_file_too_large_for_the_quota(command, undisturbed, exact, only_line, chance, tally):
    largest = (undisturbed.run() / "resume.ckpt").stat().st_size
    for _ in range(times(10)):
        shutil.rmtree(command.runs_dir, ignore_errors=True)
        limit = LimitSize(chance.randint(largest // 2, largest - 1))
        done = replace(command, fault=limit)(*RUN, code=None)
        assert "File too large" in only_line(done)
        command(*RUN)
        exact(command.run(), undisturbed.run())
        tally("a file too large for the quota", "one line; without the quota, exact")


@pytest.mark.slow
@pytest.mark.usefixtures("protectable")
def test_folder_read_only(command, undisturbed, events, exact, only_line, chance, tally):
    run = command.runs_dir / undisturbed.run().name
    pattern = rf"{run.name}/\.resume\.ckpt\.tmp"
    for _ in range(times(10)):
        fault = Faults((At(pattern, chance.randint(1, moments(events, pattern)), Protect(run)),))
        try:
            done = replace(command, fault=fault)(*RUN, code=None)
        finally:
            protect(run, on=False)
        line = only_line(done)
        assert re.search("Permission denied|Operation not permitted", line), line
        command(*RUN)
        exact(command.run(), undisturbed.run())
        tally("folder made read-only under a run", "one line; writable again, exact")
        shutil.rmtree(command.runs_dir)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["run", pytest.param("runs", marks=in_full)])
def test_folder_removed(what, command, undisturbed, events, exact, only_line, chance, tally):
    run = command.runs_dir / undisturbed.run().name
    for _ in range(times(10)):
        remove = Remove(run if what == "run" else command.runs_dir)
        nth = chance.randint(1, moments(events, WRITTEN) - 3)
        done = replace(command, fault=Faults((At(WRITTEN, nth, remove),)))(*RUN, code=None)
        assert "No such file or directory" in only_line(done)
        command(*RUN)
        exact(command.run(), undisturbed.run())
        tally(f"folder of the {what} removed under a run", "one line; the same command: exact")
        shutil.rmtree(command.runs_dir)


@in_full
@pytest.mark.slow
@pytest.mark.usefixtures("protectable")
def test_nowhere_to_write(command, tally):
    """From the start: said before anything is trained."""
    command.runs_dir.mkdir()
    protect(command.runs_dir)
    try:
        done = command(*RUN, code=2)
    finally:
        protect(command.runs_dir, on=False)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"runs_dir={command.runs_dir} cannot be written: ")
    tally("runs folder read-only from the start", "refused")
