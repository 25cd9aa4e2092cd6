"""CIFAR-10 as Parquet in the Hugging Face layout: one compressed image a row."""

import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from src.data.dataset import DataError, Dataset, channel_statistics
from src.terminal import reason

SIZES = {"train": 50_000, "test": 10_000}
"""The rows of each split."""

_REMEDY = "fetch it again, or name another copy as data.root"


def files(root: Path) -> list[Path]:
    """Return the shards of both splits, or nothing if ``root`` has none.

    They lie in ``root`` itself or, as on the Hugging Face Hub, in ``data`` or ``plain_text``.
    """
    for folder in (root, root / "data", root / "plain_text"):
        if found := [path for split in SIZES for path in sorted(folder.glob(f"{split}-*.parquet"))]:
            return found
    return []


def read(paths: list[Path]) -> Dataset:
    """Return the data set in the files that `files` found.

    Raises:
        DataError: A file is damaged, or is not CIFAR-10 in this layout.
    """
    train, test = (_split(paths, split) for split in SIZES)
    train_images, test_images = _decode(train), _decode(test)
    mean, std = channel_statistics(train_images)
    # JPEG changes the pixels a little, and any number obtained on them should say so.
    lossy = any(row.image.startswith(b"\xff\xd8") for row in train)
    return Dataset(
        train_images=train_images,
        train_labels=torch.tensor([row.label for row in train]),
        test_images=test_images,
        test_labels=torch.tensor([row.label for row in test]),
        classes=10,
        variant=f"cifar10 (Parquet, Hugging Face layout{', JPEG' if lossy else ''})",
        mean=mean,
        std=std,
    )


class _Row(NamedTuple):
    path: Path
    number: int
    image: bytes
    label: int


def _split(paths: list[Path], split: str) -> list[_Row]:
    shards = [path for path in paths if path.name.startswith(split)]
    rows = [row for path in shards for row in _rows(path)]
    if len(rows) != SIZES[split]:
        names = ", ".join(map(str, shards)) or paths[0].parent / f"{split}-*.parquet"
        raise DataError(f"{names}: {len(rows):,} rows, expected {SIZES[split]:,}: {_REMEDY}")
    return rows


def _rows(path: Path) -> Iterator[_Row]:
    import polars as pl

    try:
        table = pl.read_parquet(path, glob=False)
    # A flipped bit can make Polars panic, which is no PolarsError, nor even an Exception.
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        told = f"{path} is damaged or half-written ({reason(error)}): {_REMEDY}"
        raise DataError(told) from error
    image, label = table.schema.get("img"), table.schema.get("label")
    holds_bytes = isinstance(image, pl.Struct) and dict(image).get("bytes") == pl.Binary
    if not holds_bytes or label is None or not label.is_integer():
        columns = ", ".join(f"{name} {kind}" for name, kind in table.schema.items())
        raise DataError(
            f"{path} has the columns {columns}, expected img, a struct with bytes, and label, "
            f"an integer: {_REMEDY}"
        )
    pairs = table.select(pl.col("img").struct.field("bytes"), "label").iter_rows()
    for number, (content, value) in enumerate(pairs):
        if value is None or not 0 <= value <= 9:
            raise DataError(f"{path}: label {value} in row {number}, expected 0 to 9: {_REMEDY}")
        yield _Row(path, number, content or b"", value)


def _decode(rows: list[_Row]) -> Tensor:
    from rich.console import Console
    from rich.progress import track

    images = torch.empty((len(rows), 3, 32, 32), dtype=torch.uint8)
    bar = track(
        rows,
        "decoding CIFAR-10",
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    for image, row in zip(images, bar, strict=True):
        image.copy_(_image(row))
    return images


def _image(row: _Row) -> Tensor:
    place = f"{row.path}: the image in row {row.number}"
    try:
        with Image.open(BytesIO(row.image)) as image:
            mode, size = image.mode, image.size
            pixels = np.array(image)
    except Exception as error:  # Pillow passes on whatever the decoders of its formats raise
        raise DataError(f"{place} cannot be decoded: {_REMEDY}") from error
    if (mode, size) != ("RGB", (32, 32)):
        raise DataError(f"{place} is {mode} {size}, expected RGB (32, 32): {_REMEDY}")
    return torch.from_numpy(pixels).permute(2, 0, 1)
