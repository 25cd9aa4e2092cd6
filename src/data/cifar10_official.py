"""CIFAR-10 as its authors publish it: six pickles, verified before they are opened."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.data.dataset import DataError, Dataset, channel_statistics
from src.data.download import fetch_into

FOLDER = "cifar-10-batches-py"
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
_ARRAYS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


def files(root: Path) -> list[Path]:
    """Return the paths of the six batches, training first, or nothing if ``root`` has no such set.

    Raises:
        DataError: Some of the six are there and others are not.
    """
    folder = root / FOLDER
    if not folder.is_dir():
        return []
    paths = [folder / name for name in (*TRAIN, TEST)]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} is missing: {_again(folder)}")
    return paths


def read(paths: list[Path]) -> Dataset:
    """Return the data set in the files that `files` found.

    Raises:
        DataError: A file is not the published one.
    """
    from torchvision.datasets import CIFAR10

    checksums = dict(CIFAR10.train_list + CIFAR10.test_list)
    batches = [_batch(path, checksums[path.name]) for path in paths]
    train_images, train_labels = (torch.cat(parts) for parts in zip(*batches[:-1], strict=True))
    test_images, test_labels = batches[-1]
    mean, std = channel_statistics(train_images)
    return Dataset(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=10,
        variant="cifar10 (torchvision's files)",
        mean=mean,
        std=std,
    )


def _batch(path: Path, md5: str) -> tuple[Tensor, Tensor]:
    content = path.read_bytes()
    # A pickle can run code, so the very bytes that were verified are the ones opened, and it may
    # build arrays alone.
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise DataError(f"{path} is damaged (its MD5 is not {md5}): {_again(path.parent)}")
    entry = _ArraysAlone(io.BytesIO(content), encoding="latin1").load()
    images = np.asarray(entry["data"]).reshape(-1, 3, 32, 32)
    return torch.tensor(images), torch.tensor(entry["labels"])


class _ArraysAlone(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("_core", "core"), name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")
        return super().find_class(module, name)


def _again(folder: Path) -> str:
    return f"delete {folder} and run with data.download=true, or name another copy as data.root"


def download(root: Path) -> None:
    """Fetch the six batches into ``root``, unless another process has done so meanwhile.

    An archive that already lies in ``root`` is used. The batches appear all at once.

    Raises:
        DataError: The network or the server does not answer, or ``root`` is not writable.
    """
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_and_extract_archive

    def fetch(folder: Path) -> None:
        download_and_extract_archive(
            CIFAR10.url, root, folder, filename=CIFAR10.filename, md5=CIFAR10.tgz_md5
        )

    remedy = (
        f"put {FOLDER} or train-*.parquet and test-*.parquet into {root}, name their folder as "
        "data.root, or take data=digits, which needs nothing"
    )
    fetch_into(root, FOLDER, fetch, remedy)
