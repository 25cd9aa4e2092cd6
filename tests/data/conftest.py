import hashlib
import pickle
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import polars as pl
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from src.data import cifar10_parquet


def _pixels(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)


def _png(image: torch.Tensor) -> bytes:
    content = BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(content, "png")
    return content.getvalue()


@pytest.fixture
def pixels() -> Callable[[int, int], torch.Tensor]:
    """The random images of a count and seed: (12, 0) and (6, 1) are those of `write_parquet`."""
    return _pixels


@pytest.fixture
def write_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a valid set of 12 and 6 rows, each column or image of the training set replaceable."""
    monkeypatch.setattr(cifar10_parquet, "SIZES", {"train": 12, "test": 6})

    def write(folder: str = "source", **train: list[object]) -> Path:
        root = tmp_path / folder
        root.mkdir(parents=True, exist_ok=True)
        for split, count, seed in (("train", 12, 0), ("test", 6, 1)):
            contents = [_png(image) for image in _pixels(count, seed)]
            columns: dict[str, list[object]] = {
                "img": [{"bytes": content, "path": "cat/1.png"} for content in contents],
                "label": [row % 10 for row in range(count)],
            }
            if split == "train":
                columns |= train
            pl.DataFrame(columns).write_parquet(root / f"{split}-00000-of-00001.parquet")
        return root

    return write


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of six tiny batches, whose checksums torchvision takes for the published ones."""
    folder = tmp_path / "official" / CIFAR10.base_folder
    folder.mkdir(parents=True)
    checksums = []
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        data = _pixels(2, seed=number).view(2, -1).numpy()
        content = pickle.dumps({"data": data, "labels": [number, 9 - number]})
        (folder / name).write_bytes(content)
        checksums.append([name, hashlib.md5(content).hexdigest()])
    monkeypatch.setattr(CIFAR10, "train_list", checksums[:-1])
    monkeypatch.setattr(CIFAR10, "test_list", checksums[-1:])
    return folder.parent
