"""Many runs under one folder: who writes which, what replaces what, which sweep holds what."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from src.runs.folder import RunFolder, read_json, whole
from src.runs.needs import Needs, merged


class Held(Exception):
    """Another process is writing this run."""


class RunStore:
    """The folder ``runs_dir``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, name: str) -> RunFolder:
        """Return the folder of a run, there or not."""
        return RunFolder(self.root / name)

    @contextmanager
    def writing(self, name: str, wanted: Needs, force: bool = False) -> Iterator[RunFolder | None]:
        """Give the folder to train a run in, as its only writer; None where nothing is left to do.

        An ended run that lacks a probe is trained again beside its old folder, which is replaced
        whole when the new one has ended too.

        Args:
            name: The run.
            wanted: The probes asked for.
            force: Train it again even if it has them all.

        Raises:
            Held: If another process writes this run.
        """
        try:
            held = self._lock(name, timeout=0).acquire()
        except Timeout:
            raise Held(f"{name} is being trained by another process") from None
        with held:
            final, beside = self.folder(name), RunFolder(self.root / ".again" / name)
            self._adopt(beside, final)
            if final.serves(wanted) and not force:
                yield None
                return
            chosen = beside if final.ended() else final
            if force and chosen is final:
                final.remove_checkpoints()
            chosen.path.mkdir(parents=True, exist_ok=True)
            yield chosen
            self._adopt(beside, final)

    def add_to_sweep(self, sweep: str, cells: Sequence[dict[str, Any]]) -> None:
        """Add cells (overrides, run, probes) to the manifest ``sweeps/<sweep>.json``."""
        path = self.root / "sweeps" / f"{sweep}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock(f"sweep-{sweep}", timeout=60):
            known = (read_json(path) or {"cells": []})["cells"]
            by_run: dict[str, dict[str, Any]] = {}
            for cell in [*known, *cells]:
                before = by_run.get(cell["run"], {"probes": {}})
                by_run[cell["run"]] = cell | {"probes": merged(before["probes"], cell["probes"])}
            with whole(path) as temporary:
                text = json.dumps({"sweep": sweep, "cells": list(by_run.values())}, indent=1)
                temporary.write_text(text + "\n")

    def _lock(self, name: str, timeout: float) -> FileLock:
        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{name}.lock", timeout=timeout)

    @staticmethod
    def _adopt(beside: RunFolder, final: RunFolder) -> None:
        old = beside.path.with_suffix(".old")
        if beside.ended():
            shutil.rmtree(old, ignore_errors=True)
            if final.path.exists():
                final.path.rename(old)
            beside.path.rename(final.path)
            for kept in ("checkpoints", "probed"):  # of the same training: they hold still
                if (old / kept).exists() and not (final.path / kept).exists():
                    (old / kept).rename(final.path / kept)
        shutil.rmtree(old, ignore_errors=True)
