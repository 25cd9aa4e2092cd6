"""A data set decoded once, into one file that every later start maps into memory.

The file holds the names, sizes and modification times of what it was decoded from; where they
differ, or where the file cannot be read, it is decoded again. A checksum of its 184 MB at every
start would cost more than it saves: the file appears whole, by a rename, and its index is at its
end, so a truncated one is never taken for a good one.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from filelock import FileLock

from src.data.dataset import DataError, Dataset
from src.runs.folder import whole
from src.terminal import reason


def cached(
    paths: Sequence[Path], sources: Sequence[Path], decode: Callable[[], Dataset]
) -> Dataset:
    """Return the decoded data set, decoding only where no valid cache file is found.

    Of many processes that start together one decodes and the others wait for it.

    Args:
        paths: Where the cache file may be. All are read; the first in a writable folder is written.
        sources: The files that ``decode`` reads.
        decode: Makes the data set.

    Returns:
        The data set. Its tensors are private copy-on-write maps of the file: writing to them
        changes neither the file nor what other processes see.

    Raises:
        DataError: ``decode`` raised it, or the cache file cannot be written.
    """
    # Taken before decoding: a source that changes meanwhile no longer matches at the next start.
    fingerprint = _fingerprint(sources)
    for path in paths:
        if dataset := _read(path, fingerprint):
            return dataset
    path = _first_writable(paths)
    with FileLock(f"{path}.lock"):
        dataset = _read(path, fingerprint)
        if dataset is None:
            dataset = decode()
            _write(path, dataset, fingerprint)
    return dataset


def _fingerprint(sources: Sequence[Path]) -> str:
    stats = [(source.name, source.stat()) for source in sources]
    return "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)


def _first_writable(paths: Sequence[Path]) -> Path:
    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(path.parent, os.W_OK):
            return path
    raise DataError(f"{paths[-1].parent} is not writable: name a writable folder as data.cache")


def _read(path: Path, fingerprint: str) -> Dataset | None:
    try:
        content = torch.load(path, mmap=True, weights_only=True)
        return Dataset(**content) if content.pop("sources") == fingerprint else None
    except Exception:  # whatever is wrong with the file, absent or damaged: the remedy is the same
        return None


def _write(path: Path, dataset: Dataset, fingerprint: str) -> None:
    try:
        with whole(path) as temporary, temporary.open("wb") as file:
            torch.save({**vars(dataset), "sources": fingerprint}, file)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError on a full disk
        told = f"{path} cannot be written ({reason(error)})"
        raise DataError(f"{told}: make room, or name another folder as data.cache") from error
