"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017): four idx files."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from torch import Tensor

from src.data.dataset import DataError, Dataset, channel_statistics
from src.data.download import fetch_into
from src.terminal import reason

SIZES = {"train": 60_000, "t10k": 10_000}
"""The images of each split, by the split's name in the files'."""

_REMEDY = "fetch it again, or name another copy as data.root"


@dataclass(frozen=True)
class Source:
    """Where a data set may be, and what tells it from the other.

    Attributes:
        name: As ``data=`` takes it.
        kind: The class in ``torchvision.datasets``, and its folder.
        first_labels: The labels of the first training images.
        system: A folder that a package of the operating system fills.
    """

    name: str
    kind: str
    first_labels: tuple[int, ...]
    system: Path | None = None


SOURCES = {
    "mnist": Source("mnist", "MNIST", (5, 0, 4, 1, 9, 2, 1, 3)),
    "fashion_mnist": Source(
        "fashion_mnist",
        "FashionMNIST",
        (9, 0, 0, 3, 0, 2, 7, 2),
        Path("/usr/share/datasets/fashion-mnist"),  # Debian's package dataset-fashion-mnist
    ),
}


def mnist(name: str, root: Path, download: bool = True, binarise: bool = False) -> Dataset:
    """Return a data set of 60,000 training and 10,000 test images, 28x28 and grey, of 10 classes.

    The files, each as it is or with ``.gz``, lie in ``root``, in ``root/<kind>/raw`` where
    torchvision has them, or in Debian's folder; else torchvision downloads them into ``root``.

    Args:
        name: A key of ``SOURCES``.
        root: The folder of the data.
        download: Whether the network may be used.
        binarise: Make pixels black or white: 255 from 128 on (Ioffe & Szegedy's input is binary).

    Raises:
        DataError: Nothing was found and nothing may or can be downloaded, or a file is not right.
    """
    source, root = SOURCES[name], root.expanduser()
    if not (files := _files(source, root)):
        remedy = (
            f"put train-images-idx3-ubyte.gz and the other three files into {root}, name their "
            "folder as data.root, or take data=digits, which needs nothing"
        )
        if not download:
            raise DataError(f"{root} holds no {source.kind}, and data.download=false: {remedy}")
        fetch_into(root, source.kind, lambda folder: _fetch(source, folder), remedy)
        if not (files := _files(source, root)):
            raise DataError(f"{root / source.kind} is there, but holds no {source.kind}: {remedy}")
    train_images, train_labels = _split(files, "train", source)
    test_images, test_labels = _split(files, "t10k", source)
    if binarise:
        train_images, test_images = (255 * (x >= 128).byte() for x in (train_images, test_images))
    mean, std = channel_statistics(train_images)
    return Dataset(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=10,
        variant=f"{name} (idx files)",
        mean=mean,
        std=std,
    )


def _fetch(source: Source, folder: Path) -> None:
    from torchvision import datasets

    getattr(datasets, source.kind)(folder, download=True)


def _files(source: Source, root: Path) -> dict[str, Path]:
    """Return the paths by names without ``.gz``; nothing if there is no such set.

    Raises:
        DataError: Some are there and others are not.
    """
    stems = [f"{s}-{end}" for s in SIZES for end in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    for folder in (root, root / source.kind / "raw", source.system):
        if folder is None:
            continue
        both = {stem: (folder / stem, folder / f"{stem}.gz") for stem in stems}
        found = {s: p for s, paths in both.items() for p in reversed(paths) if p.is_file()}
        for stem in stems if found else ():
            if stem not in found:
                raise DataError(f"{folder / stem} is missing, .gz or not: {_REMEDY}")
        if found:
            return found
    return {}


def _split(files: dict[str, Path], split: str, source: Source) -> tuple[Tensor, Tensor]:
    """Return images, uint8 [N, 1, 28, 28], and labels, int64 [N]."""
    from torchvision.datasets.mnist import read_image_file, read_label_file

    count = SIZES[split]
    images_file, labels_file = (path for stem, path in files.items() if stem.startswith(split))
    images = _read(images_file, read_image_file, (count, 28, 28))
    labels = _read(labels_file, read_label_file, (count,))
    if labels.max() > 9:
        raise DataError(f"{labels_file}: label {labels.max()}, expected 0 to 9: {_REMEDY}")
    first = tuple(labels[: len(source.first_labels)].tolist())
    if split == "train" and first != source.first_labels:
        told = f"its labels begin {first}, those of {source.kind} {source.first_labels}"
        raise DataError(f"{labels_file}: {told}: {_REMEDY}")
    return images[:, None], labels


def _read(path: Path, reader: Callable[[str], Tensor], shape: tuple[int, ...]) -> Tensor:
    try:
        if path.suffix != ".gz":
            found = reader(str(path))
        else:
            with NamedTemporaryFile() as unpacked:  # torchvision reads no .gz
                unpacked.write(gzip.decompress(path.read_bytes()))
                unpacked.flush()
                found = reader(unpacked.name)
    except Exception as error:  # whatever gzip, torch or torchvision's reader make of it
        told = f"{path} is damaged or no idx file ({reason(error)}): {_REMEDY}"
        raise DataError(told) from error
    if found.shape != shape:
        raise DataError(f"{path} holds {list(found.shape)}, expected {list(shape)}: {_REMEDY}")
    return found
