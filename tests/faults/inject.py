"""Faults that strike a process from within, at a chosen event on a chosen file.

They are handed to a process before it begins and need no help from ``src``: Python itself tells an
audit hook of every file that is opened for writing, renamed or removed.
"""

import atexit
import functools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_EVENTS = ("open", "os.rename", "os.remove", "os.rmdir")


def _watch(see: Callable[[str], None]) -> None:
    """Have ``see`` told of each event to come, as its name and its paths."""
    import polars

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS:
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        see(" ".join([event, *(str(a) for a in arguments if isinstance(a, str | Path))]))

    def announced(write: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(write)
        def announcing(data: Any, path: Path, *args: Any, **kwargs: Any) -> Any:
            sys.audit("open", str(path), "wb", os.O_WRONLY)  # Rust's own opening tells nobody
            return write(data, path, *args, **kwargs)

        return announcing

    for frame, name in ((polars.DataFrame, "write_parquet"), (polars.LazyFrame, "sink_parquet")):
        setattr(frame, name, announced(getattr(frame, name)))
    sys.addaudithook(hook)


@dataclass(frozen=True)
class Rehearsal:
    """No fault: the events of an undisturbed process, left in a file at its end."""

    path: Path

    def __call__(self) -> None:
        seen: list[str] = []
        _watch(seen.append)
        atexit.register(lambda: self.path.write_text(json.dumps(seen)))


@dataclass(frozen=True)
class At:
    """A fault at the n-th event that a pattern is found in.

    Attributes:
        pattern: A regular expression.
        nth: From 1.
        strike: What happens then, in the process itself.
    """

    pattern: str
    nth: int
    strike: Callable[[], None]


@dataclass(frozen=True)
class Faults:
    """Several faults of one process, each once."""

    faults: tuple[At, ...]

    def __call__(self) -> None:
        left = {fault: fault.nth for fault in self.faults}

        def see(event: str) -> None:
            for fault in [fault for fault in left if re.search(fault.pattern, event)]:
                left[fault] -= 1
                if not left[fault]:
                    del left[fault]
                    fault.strike()

        _watch(see)


@dataclass(frozen=True)
class Kill:
    """The end of the process, so many seconds after the event, wherever it is by then.

    SIGKILL where it is to come at once. Later it is the kernel's own timer whose signal, to which
    nobody listens, ends the process as abruptly: also in the midst of native code.
    """

    delay: float

    def __call__(self) -> None:
        if self.delay:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, self.delay)
        else:
            os.kill(os.getpid(), signal.SIGKILL)


KILLED = (-signal.SIGKILL, -signal.SIGALRM)


def moments(events: list[str], pattern: str) -> int:
    """Return how many events a pattern is found in."""
    return sum(bool(re.search(pattern, event)) for event in events)


def kill_at(pattern: str, events: list[str], chance: random.Random) -> Faults:
    """Return a kill at one of the events a pattern is found in, or up to 20 ms after it."""
    nth = chance.randint(1, moments(events, pattern))
    delay = chance.choice((0.0, 10 ** chance.uniform(-5, -1.7)))
    return Faults((At(pattern, nth, Kill(delay)),))


@dataclass(frozen=True)
class Fill:
    """A disk on which no byte is left but those of ``spare``."""

    folder: Path
    spare: int = 0

    def __call__(self) -> None:
        free = shutil.disk_usage(self.folder).free
        with (self.folder / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(free - self.spare, 1))


@dataclass(frozen=True)
class Protect:
    """A folder in which nothing can be made, changed or removed, by root neither."""

    folder: Path

    def __call__(self) -> None:
        protect(self.folder)


def protect(folder: Path, on: bool = True) -> None:
    if os.geteuid():
        folder.chmod(0o555 if on else 0o755)
    else:  # whom permissions do not stop
        subprocess.run(["chattr", "+i" if on else "-i", folder], check=True, capture_output=True)


def can_protect(folder: Path) -> bool:
    """Tell whether :func:`protect` works here: many containers forbid it to root."""
    try:
        protect(folder)
        protect(folder, on=False)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@dataclass(frozen=True)
class Remove:
    """A folder removed with all it holds."""

    folder: Path

    def __call__(self) -> None:
        shutil.rmtree(self.folder)


@dataclass(frozen=True)
class TurnBack:
    """The clock set back."""

    seconds: float

    def __call__(self) -> None:
        real = time.time
        time.time = lambda: real() - self.seconds


class Exhaust:
    """More memory asked for than there is."""

    def __call__(self) -> None:
        bytearray(1 << 46)
