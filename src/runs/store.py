"""Many runs under one folder: who writes which, what replaces what, which sweep holds what."""

import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from src.runs.folder import KEPT, RunFolder, whole
from src.runs.lease import Holder, holder, only_writer
from src.runs.needs import Needs, merged, met

_log = logging.getLogger(__name__)


class RunStore:
    """The folder ``runs_dir``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, name: str) -> RunFolder:
        """Return the folder of a run, there or not."""
        return RunFolder(self.root / name)

    def attempt(self, name: str) -> RunFolder:
        """Return the folder of a run's latest attempt: beside an ended run that is made anew."""
        beside = self._beside(name)
        return beside if beside.path.exists() else self.folder(name)

    @contextmanager
    def writing(
        self, name: str, wanted: Needs, force: bool = False, restarted: bool = False
    ) -> Iterator[RunFolder | None]:
        """Give the folder to train a run in, as its only writer; None where nothing is left to do.

        An ended run that lacks a probe is trained again beside its old folder, which is replaced
        whole when the new one has ended too.

        Args:
            name: The run.
            wanted: The probes asked for.
            force: Train it again even if it has them all, from its beginning ...
            restarted: ... unless what begins is the rest of that same training.

        Raises:
            Held: If another process, which is named, writes this run.
        """
        with only_writer(self._lease(name)):
            final, beside = self.folder(name), self._beside(name)
            self._adopt(beside, final)
            if final.serves(wanted) and not force:
                yield None
                return
            chosen = beside if final.ended() else final
            if force and not restarted:
                chosen.forget()
            chosen.path.mkdir(parents=True, exist_ok=True)
            try:
                yield chosen
            finally:  # also where a signal came in its last step
                self._adopt(beside, final)

    def add_to_sweep(self, sweep: str, cells: Sequence[dict[str, Any]]) -> None:
        """Add cells (overrides, run, probes, command) to the manifest ``sweeps/<sweep>.json``."""
        path = self.root / "sweeps" / f"{sweep}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        (locks := self.root / ".locks").mkdir(exist_ok=True)
        with FileLock(locks / f"sweep-{sweep}.lock", timeout=60):
            try:
                known = manifest(path) if path.exists() else []
            except ValueError as error:
                _log.warning("%s is damaged (%s) and taken as absent", path, error)
                known = []
            by_run: dict[str, dict[str, Any]] = {}
            for cell in [*known, *cells]:
                before = by_run.get(cell["run"], {"probes": {}})
                probes = merged(before["probes"], cell["probes"])
                less = met(before["probes"], probes) and not met(cell["probes"], probes)
                asks = before if less else cell
                by_run[cell["run"]] = asks | {"probes": probes}
            with whole(path) as temporary:
                text = json.dumps({"sweep": sweep, "cells": list(by_run.values())}, indent=1)
                temporary.write_text(text + "\n")

    def writer(self, name: str) -> Holder | None:
        """Return the process that writes a run, dead or alive; None where it left in good order."""
        return holder(self._lease(name))

    def _beside(self, name: str) -> RunFolder:
        return RunFolder(self.root / ".again" / name)

    def _lease(self, name: str) -> Path:
        return self.root / ".locks" / f"{name}.lease"

    @staticmethod
    def _adopt(beside: RunFolder, final: RunFolder) -> None:
        old = beside.path.with_suffix(".old")
        if beside.ended():
            if final.path.exists():
                _remove(old)
                final.path.rename(old)
            beside.path.rename(final.path)
        # Of the same training they hold still; also where a start before this one got no further.
        # Where a link led elsewhere, all stays there.
        if _started(RunFolder(old)) == _started(final) and not old.is_symlink():
            for kept in KEPT:
                if (old / kept).exists() and not (final.path / kept).exists():
                    (old / kept).rename(final.path / kept)
        _remove(old)


def _remove(path: Path) -> None:
    """Delete a folder, or the link to one that lies elsewhere."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _started(folder: RunFolder) -> float | None:
    return (folder.status() or {}).get("started")


def manifest(path: Path) -> list[dict[str, Any]]:
    """Return the cells of a sweep.

    Raises:
        ValueError: If the file is damaged.
    """
    content = json.loads(path.read_text())
    cells = content.get("cells") if isinstance(content, dict) else None
    if not isinstance(cells, list) or not all(
        isinstance(cell, dict)
        and isinstance(cell.get("run"), str)
        and isinstance(cell.get("probes"), dict)
        for cell in cells
    ):
        raise ValueError("its cells are not a list of runs and their probes")
    return cells
