"""A run's folder: what the run left, each file whole or absent."""

import json
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from src.catalogue import PROBES
from src.runs.needs import Needs, met

Row = tuple[int, str, float]

_log = logging.getLogger(__name__)
ENDED = ("completed", "diverged")
CHECKPOINTS = ("resume.ckpt", "resume.previous.ckpt")
KEPT = ("checkpoints", "probed")  # folders in a run's, true of one training alone


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Give a temporary path beside ``target`` and rename it into place once it is written."""
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a file's content; None where it is absent or, with a warning, damaged."""
    try:
        if not isinstance(content := json.loads(path.read_text()), dict):
            raise ValueError("it holds no object")
        return content
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, IsADirectoryError) as error:
        _log.warning("%s is damaged (%s) and taken as absent", path, error)
        return None


class RunFolder:
    """The folder of one run; the contract's names and columns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def status(self) -> dict[str, Any] | None:
        """Return ``status.json``, or None where there is none that can be read."""
        return read_json(self.path / "status.json")

    def state(self) -> str | None:
        """Return running, completed, diverged or failed; None before the first attempt."""
        return (self.status() or {}).get("state")

    def ended(self) -> bool:
        """Tell whether training came to its end, be it by divergence."""
        return self.state() in ENDED

    def serves(self, wanted: Needs) -> bool:
        """Tell whether the run has ended and lacks nothing that a command asks for."""
        return self.ended() and not self.lacks(wanted)

    def lacks(self, wanted: Needs) -> list[str]:
        """Return what is not there of the metrics and the probes that a command asks for.

        A probe that failed is told of in ``status.json`` and not tried again.
        """
        status = self.status() or {}
        held, failed = status.get("probes", {}), status.get("probe_failures", {})
        unmet = [probe for probe, asked in wanted.items() if not met(held, {probe: asked})]
        files = {table: self.path / f"{table}.parquet" for table in ("metrics", *wanted)}
        lost = [table for table, path in files.items() if not path.exists() and table not in failed]
        return [table for table in files if table in {*unmet, *lost}]

    def update_status(self, **changes: Any) -> None:
        """Change some entries of ``status.json``, keep the others."""
        self._write_json("status.json", {**(self.status() or {}), **changes})

    def write_config(self, text: str) -> None:
        """Write ``config.yaml``."""
        with whole(self.path / "config.yaml") as temporary:
            temporary.write_text(text)

    def write_metrics(self, rows: Sequence[Row]) -> None:
        """Write ``metrics.parquet``: step, name, value."""
        import polars

        from src.runs.tables import COLUMNS

        with whole(self.path / "metrics.parquet") as temporary:
            polars.DataFrame(rows, COLUMNS["metrics"], orient="row").write_parquet(temporary)

    def final_metrics(self) -> dict[str, float]:
        """Return the last value of each metric; empty where none was written."""
        import polars

        path = self.path / "metrics.parquet"
        if not path.exists():
            return {}
        try:
            rows = polars.read_parquet(path, glob=False)
            last = rows.group_by("name").agg(polars.col("value").last())
        except polars.exceptions.PolarsError as error:
            _log.warning("%s is damaged (%s) and taken as absent", path, error)
            return {}
        return dict(last.iter_rows())

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints there are, the newest first."""
        return [p for name in CHECKPOINTS if (p := self.path / name).exists()]

    def remove_checkpoints(self) -> None:
        """Delete the checkpoints there are."""
        for path in self.checkpoints():
            path.unlink()

    def forget(self) -> None:
        """Delete what an attempt would go on from, and what was kept of those before it.

        How they ended and what they were asked to probe is remembered.
        """
        self.remove_checkpoints()
        for kept in KEPT:
            shutil.rmtree(self.path / kept, ignore_errors=True)
        if status := self.status():
            remembered = ("state", "message", "machine", "probes")
            self._write_json("status.json", {k: v for k, v in status.items() if k in remembered})

    def remove_tables(self, but: Collection[str]) -> None:
        """Delete the probes' tables but some: no attempt to come adds to the others."""
        for probe in PROBES.keys() - but:
            (self.path / f"{probe}.parquet").unlink(missing_ok=True)

    @contextmanager
    def new_checkpoint(self, kept: int | None = None) -> Iterator[Path]:
        """Give a path for a new checkpoint; the newest becomes the previous once this is whole.

        Args:
            kept: The step to keep it by, under ``checkpoints/``, whatever comes after it.
        """
        newest, previous = (self.path / name for name in CHECKPOINTS)
        with whole(newest) as temporary:
            yield temporary
            _sync(temporary)
            if kept is not None:  # before the newest: no run goes on from a step not yet kept
                target = self.kept_checkpoint(kept)
                target.parent.mkdir(exist_ok=True)
                with whole(target) as copy:
                    shutil.copyfile(temporary, copy)
            if newest.exists():
                newest.replace(previous)

    def kept_checkpoint(self, step: int) -> Path:
        """Return where the checkpoint of a step is kept, there or not."""
        return self.path / "checkpoints" / f"{step}.ckpt"

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        with whole(self.path / name) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")
