"""Where a run goes on: from which checkpoint, and whether as the same training."""

import logging
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from src.data.dataset import DataError
from src.runs.folder import RunFolder
from src.runs.tables import Table

PLACE = ("device", "instructions", "threads", "data", "versions")
"""What of a run's status says where it was trained, and on what."""

_log = logging.getLogger(__name__)


class OtherData(DataError):
    """Other data than the run was begun with."""


class _Damaged(ValueError):
    """A checkpoint that is not whole, or holds what none of ours does."""


def start_from(folder: RunFolder, tables: Sequence[Table]) -> Path | None:
    """Return the checkpoint to go on from; None, and none is left, where a table of it is lost."""
    checkpoint = _newest_whole(folder)
    lost = [table.path for table in tables if not table.readable()]
    if checkpoint is None or not lost:
        return checkpoint
    _log.warning("%s is damaged or gone: the run begins anew", ", ".join(map(str, lost)))
    folder.remove_checkpoints()
    return None


def compared(
    name: str, before: Mapping[str, Any], here: Mapping[str, Any], goes_on: bool
) -> dict[str, Any]:
    """Compare where a run is trained with where it was before, and return what is to be told of it.

    Elsewhere it is not the same training to the last bit: what goes on there has ``moved``, what
    does not is ``started`` anew.

    Raises:
        OtherData: If it was begun with other data.
    """
    changed = changes(before, here)
    if "data" in changed:
        told = "give it that again, or begin it anew with force=true"
        raise OtherData(f"{name} was begun with other data ({changed['data']}): {told}")
    if not goes_on:
        return {"moved": None} | ({"started": time.time()} if changed else {})
    if changed:
        told = "no longer to the last bit the run it would have been"
        _log.warning("%s goes on elsewhere (%s): %s", name, "; ".join(changed.values()), told)
    return {"moved": "; ".join(filter(None, [before.get("moved"), *changed.values()])) or None}


def changes(before: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, str]:
    """Return in words, by key, what is other where a run is trained than it was before.

    What an older run did not record has not changed.
    """
    now, then = (
        {**told, "torch": told.get("versions", {}).get("torch")} for told in (here, before)
    )
    return {
        key: f"{key}: {then[key]}, then {now[key]}"
        for key in (*PLACE[:-1], "torch")  # of the versions that one alone
        if None not in (then.get(key), now[key]) and then[key] != now[key]
    }


def _newest_whole(folder: RunFolder) -> Path | None:
    """Return the newest checkpoint that is whole and holds nothing but tensors and plain values.

    Raises:
        ValueError: If it is another run's.
    """
    for path in folder.checkpoints():
        try:
            check(path, folder.path.name)
        except _Damaged as error:
            _log.warning("%s: the one before it is tried", error)
            continue
        return path
    return None


def check(path: Path, run: str) -> None:
    """Look whether a checkpoint is whole, of a run, and but of tensors and plain values.

    Raises:
        ValueError: If it is not.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():  # torch does not compare the checksums
                raise zipfile.BadZipFile
        content = torch.load(path, weights_only=True, map_location="cpu")
        named = content.get("run", run)  # one made before they named their run
    except Exception as error:
        raise _Damaged(f"{path} is damaged or not ours ({type(error).__name__})") from error
    if named != run:
        raise ValueError(f"{path} is a checkpoint of {named}: put this run's back, or remove it")
