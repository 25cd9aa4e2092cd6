"""What every fault is measured by: a run that no fault befell, and a table of the outcomes."""

import json
import math
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars
import pytest
import torch
import yaml

from tests.end_to_end.conftest import Command, command, differences, status
from tests.faults.inject import Rehearsal, can_protect

__all__ = ["command", "differences", "status"]

TABLE = os.environ.get("FAULTS_TABLE")  # where `make faults` wants it; without: a sample
KILLS = int(os.environ.get("FAULTS_KILLS", 50))  # a kind of file
RUN = (
    *("data=digits", "scale=smoke", "model.depth=11", "model.width=0.02", "max_steps=6"),
    *("checkpoint_every=2", "probes=ics", "probes.every=2", "keep_checkpoints=true", "logger=none"),
)
in_full = pytest.mark.skipif(not TABLE, reason="injected by make faults only")
TABLES = ("metrics", "norms", "ics")
Tally = Callable[..., None]


def times(in_full: int) -> int:
    """Return how often a fault is injected: so often where there are 50 kills, once in a sample."""
    return math.ceil(in_full * KILLS / 50) if TABLE else 1


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """The same draws whenever a test runs."""
    return random.Random(request.node.name)


@pytest.fixture
def tally(record_property: Callable[[str, Any], None]) -> Tally:
    """Counts outcomes of a fault for the table."""
    return lambda fault, outcome, count=1: record_property("fault", [fault, outcome, count])


@pytest.fixture
def protectable(tmp_path: Path) -> None:
    """Skips a test that needs folders which its own user cannot write to."""
    if not can_protect(tmp_path):
        pytest.skip("root may write everywhere, and chattr +i is forbidden here")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A run that no fault befell; beside it the events of its process."""
    base = tmp_path_factory.mktemp("undisturbed")
    command = Command(base / "runs", base, fault=Rehearsal(base / "events.json"))
    command(*RUN)
    return command


@pytest.fixture(scope="session")
def events(undisturbed: Command) -> list[str]:
    """What the process of an undisturbed run did to files."""
    return json.loads((undisturbed.home / "events.json").read_text())


@pytest.fixture
def half_way(undisturbed: Command, command: Command) -> Callable[..., Path]:
    """Makes the folder of a run that was killed in its fifth step."""

    def make() -> Path:
        source = undisturbed.run()
        run = command.runs_dir / source.name
        (run / "checkpoints").mkdir(parents=True)
        for name in ("config.yaml", "status.json", *(f"{table}.parquet" for table in TABLES)):
            (run / name).write_bytes((source / name).read_bytes())
        for step, name in ((4, "resume.ckpt"), (2, "resume.previous.ckpt")):
            content = (source / "checkpoints" / f"{step}.ckpt").read_bytes()
            for target in (run / name, run / "checkpoints" / f"{step}.ckpt"):
                target.write_bytes(content)
        found = json.loads((run / "status.json").read_text()) | {"state": "running", "step": 4}
        (run / "status.json").write_text(json.dumps(found))
        return run

    return make


@pytest.fixture
def exact(
    differences: Callable[..., list[str]], status: Callable[[Path], dict[str, Any]]
) -> Callable[[Path, Path], None]:
    """Checks that a run ended bit for bit as another, and left nothing behind."""

    def check(run: Path, other: Path) -> None:
        assert status(run)["state"] == "completed"
        for table in TABLES:
            ours, theirs = (polars.read_parquet(f / f"{table}.parquet") for f in (run, other))
            assert ours.schema == theirs.schema and ours.equals(theirs), table
        kept = [sorted(p.relative_to(f) for p in f.rglob("*.ckpt")) for f in (run, other)]
        assert kept[0] == kept[1]
        for path in kept[0]:
            assert differences(torch.load(run / path), torch.load(other / path)) == []
        assert not list(run.rglob(".*.tmp"))

    return check


def check_whole(runs_dir: Path) -> None:
    """Check that whatever stands under its final name can be read to its end."""
    read: dict[str, Callable[[Path], Any]] = {
        ".json": lambda path: json.loads(path.read_text()),
        ".yaml": lambda path: yaml.safe_load(path.read_text())["model"]["width"],
        ".parquet": polars.read_parquet,
        ".ckpt": lambda path: torch.load(path)["global_step"],
    }
    for path in runs_dir.rglob("*"):
        if path.suffix in read and not path.name.startswith("."):
            read[path.suffix](path)


# Ended by tests elsewhere, which `make faults` runs too.
_ELSEWHERE = {
    "test_asked_to_stop": [
        ("SIGTERM", "step finished, saved; the same command: exact", 1),
        ("Ctrl-C", "step finished, saved; the same command: exact", 1),
    ],
    "test_asked_twice_stops_at_once": [("Ctrl-C twice", "ended at once, resumable", 1)],
    "test_asked_in_the_last_step_completes_and_stops_the_grid": [
        ("SIGTERM in the last step", "run completed, grid stopped", 1)
    ],
    "test_killed_at_random_steps": [("SIGKILL at any moment", "the same command: exact", 4)],
}
_HEAD = """# Faults

Written by `make faults`, which injects each of these into the real command and fails if one has
another outcome than those its test allows.

- **exact**: the command ended with exit code 0, and all tables and checkpoints are bit for bit
  those of a run that no fault befell. After each fault, whatever stood under its final name could
  be read to its end.
- **one line**: the command ended with exit code 1 and one line that names what was wrong; all that
  was there before is whole.
- **refused**: nothing was trained; one line says why.
- **named, retried alone**: exit code 1 and the failed cell named, the others done; the same command
  trains it and nothing else.
- **begun anew**: trained again from step 0. **The one before it used**: continued from the older of
  the two checkpoints.

| fault | injected | outcomes |
| --- | ---: | --- |
"""


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int) -> None:
    """Print the table; write it where it is wanted and all is well."""
    outcomes: dict[str, Counter[str]] = {}
    for fault, outcome, count in _tallies(terminalreporter.stats.get("passed", [])):
        outcomes.setdefault(fault, Counter())[outcome] += count
    lines = [
        f"| {fault} | {found.total()} | " + "; ".join(f"{n} {o}" for o, n in found.items()) + " |"
        for fault, found in sorted(outcomes.items())
    ]
    if TABLE:
        terminalreporter.write_line("\n".join(lines))
        if exitstatus == 0:
            Path(TABLE).parent.mkdir(exist_ok=True)
            Path(TABLE).write_text(_HEAD + "\n".join(lines) + "\n")


def _tallies(reports: list[Any]) -> Iterator[tuple[str, str, int]]:
    for report in reports:
        yield from _ELSEWHERE.get(report.head_line or "", [])
        yield from (value for name, value in report.user_properties if name == "fault")
