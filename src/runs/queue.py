"""Which runs stand in SLURM's queue, as SLURM itself tells, with or without accounting.

Before an array of jobs is submitted, a file named by a mark lists its runs; the jobs carry the
mark in their comment. So whoever asks the queue later finds each job's run, also where the
submitting process died at once.
"""

import json
import re
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.runs.folder import read_json, whole

_ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
}
# A job's comment ends in the mark. Other people's jobs have what comments they like.
_LINE = re.compile(
    r"(?P<number>[^|]+)\|(?P<index>[^|]*)\|(?P<state>\w+)\|(.* )?(?P<mark>[0-9a-f]{16})$"
)


class QueueError(Exception):
    """SLURM does not answer."""


@dataclass(frozen=True)
class Job:
    """A job of SLURM's: its number (``12_3`` in an array) and its state, in SLURM's words."""

    number: str
    state: str

    @property
    def live(self) -> bool:
        """Whether it runs or will run."""
        return self.state not in _ENDED


def marked(root: Path, runs: Sequence[str]) -> str:
    """Note down the runs of an array about to be submitted; return the mark for its comment."""
    folder = root / "sweeps" / ".submitted"
    folder.mkdir(parents=True, exist_ok=True)
    mark = secrets.token_hex(8)
    with whole(folder / f"{mark}.json") as temporary:
        temporary.write_text(json.dumps({"runs": [*runs]}))
    return mark


def jobs(root: Path) -> dict[str, Job]:
    """Return the latest job of each run under ``root`` that SLURM knows of: live, or just ended.

    Raises:
        QueueError: If SLURM does not answer.
    """
    folder = root / "sweeps" / ".submitted"
    if not folder.exists():
        return {}
    command = ["squeue", "--me", "--all", "-h", "-r", "-t", "all", "-o", "%i|%K|%T|%k"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QueueError(f"squeue: {error}") from error
    if done.returncode:
        raise QueueError(" ".join(done.stderr.split()))
    found: dict[str, Job] = {}
    for line in done.stdout.splitlines():
        ours = _LINE.match(line)
        if ours and (noted := read_json(folder / f"{ours['mark']}.json")) is not None:
            number, index, state = ours["number"], ours["index"], ours["state"]
            run = noted["runs"][int(index) if index.isdigit() else 0]  # one job alone is no array
            known = found.get(run)
            job = Job(number, state)
            if known is None or (job.live, _order(job)) > (known.live, _order(known)):
                found[run] = job
    return found


def _order(job: Job) -> int:
    return int(job.number.partition("_")[0])
