"""CIFAR-10: found under a folder or downloaded into it, and decoded once."""

import hashlib
import os
from functools import partial
from pathlib import Path

import src.data.cifar10_official as cifar10_official
import src.data.cifar10_parquet as cifar10_parquet
from src.data.cache import cached
from src.data.dataset import DataError, Dataset


def cifar10(root: Path, download: bool = True, cache: Path | None = None) -> Dataset:
    """Return CIFAR-10: 50,000 training and 10,000 test images of 10 classes.

    Sources, in this order: torchvision's official files under ``root``; Parquet files in the
    Hugging Face layout under ``root``; torchvision's download into ``root``.

    Args:
        root: The folder of the data.
        download: Whether the network may be used where ``root`` holds neither.
        cache: The folder of the decoded file. By default ``root``; where that is not writable,
            ``batchnorm`` in the user's cache folder.

    Raises:
        DataError: Nothing was found and nothing may or can be downloaded, or a file is damaged.
    """
    root = root.expanduser()
    for source in (cifar10_official, cifar10_parquet):
        if files := source.files(root):
            return cached(_cache_paths(root, cache), files, partial(source.read, files))
    if not download:
        raise DataError(
            f"{root} holds no CIFAR-10: put cifar-10-batches-py or train-*.parquet and "
            "test-*.parquet there, name their folder as data.root, allow data.download=true, "
            "or take data=digits, which needs nothing"
        )
    cifar10_official.download(root)
    return cifar10(root, download=False, cache=cache)


def _cache_paths(root: Path, cache: Path | None) -> list[Path]:
    # In a folder shared by several roots, each root has a file of its own.
    digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:8]
    name = f"cifar10-{digest}.pt"
    if cache is not None:
        return [cache.expanduser() / name]
    user_cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [root / "cifar10.pt", Path(user_cache, "batchnorm", name)]
