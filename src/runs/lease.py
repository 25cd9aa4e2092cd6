"""A run's one writer: who it is, and whether it still lives."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from filelock import LeaseCompromise, SoftFileLease, Timeout

# Every process of every host must agree on these.
LEASE_SECONDS = 30.0
HEARTBEAT_SECONDS = 5.0


class Held(Exception):
    """Another process is writing this run."""


@dataclass(frozen=True)
class Holder:
    """A process that writes a run.

    Attributes:
        host: Its machine.
        pid: Its number there.
        silent: Seconds since its last sign of life, by the clock of the file system.
        here: Whether its number means something to this process: not so in another container.
    """

    host: str
    pid: int
    silent: float
    here: bool

    @property
    def dead(self) -> bool:
        """Whether it is gone from this host, or silent for longer than a living one ever is."""
        return self.silent > LEASE_SECONDS or (self.here and _gone(self.pid))


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the lease at ``path``, refreshed by a thread until the context ends.

    A dead process of this host makes way at once. One of another host, or one that was killed
    before it had said who it is, does when its lease has not been refreshed for ``LEASE_SECONDS``
    of our own watching: the hosts' clocks may differ.

    Raises:
        Held: If a process that lives holds it.
    """
    lease = SoftFileLease(
        path,
        lease_duration=LEASE_SECONDS,
        heartbeat_interval=HEARTBEAT_SECONDS,
        on_compromise=_end,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lease.acquire(blocking=False)
    except Timeout:
        _outlast(lease, path)
    try:
        yield
    finally:
        lease.release()


def holder(path: Path) -> Holder | None:
    """Return who holds the lease at ``path``, dead or alive; None where nobody does."""
    owner = SoftFileLease(path, lease_duration=LEASE_SECONDS).owner
    beat = _beat(path)
    if owner is None or beat is None:
        return None
    silent = max(_now(path.parent) - beat, 0.0)
    # After the question mark filelock names the container, of which hosts have many.
    host, here = owner.hostname.partition("?")[0], owner.hostname == _here()
    return Holder(host, owner.pid, silent, here)


def _outlast(lease: SoftFileLease, path: Path) -> None:
    """Take over from a holder that is not known to live and shows no sign of it."""
    found, before = holder(path), _beat(path)
    known = found is not None and found.here and not found.dead
    patience = 0 if known else LEASE_SECONDS + HEARTBEAT_SECONDS
    try:
        lease.acquire(timeout=patience, cancel_check=lambda: _beat(path) not in (before, None))
    except Timeout:
        if found is None and _beat(path) == before:
            # Killed between making the file and writing who it is; filelock would wait for ever.
            path.unlink(missing_ok=True)
            with suppress(Timeout):
                lease.acquire(blocking=False)
                return
        found = found or holder(path)  # by now one that was only starting has said who it is
        who = f"process {found.pid} on {found.host}" if found else "another process"
        raise Held(f"{path.stem} is being trained by {who}") from None


def _end(loss: LeaseCompromise) -> None:
    """End this process, which was suspended for so long that another may have taken its place.

    At once: an orderly stop would write into a folder that is no longer its own.
    """
    name = Path(loss.lock_file).stem
    sys.stderr.write(
        f"{name}: this process has lost its run ({loss.reason}) and ends; start again\n"
    )
    sys.stderr.flush()
    os._exit(1)


@cache
def _here() -> str:
    """Return how filelock names this host, or this container."""
    with TemporaryDirectory() as place, SoftFileLease(Path(place) / "lease") as lease:
        assert lease.owner
        return lease.owner.hostname


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's process
        pass
    return False


def _beat(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _now(folder: Path) -> float:
    """Return the time by the clock that dates a folder's files, which another host may keep."""
    try:
        with TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:  # a folder one may only read
        return time.time()
