from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import polars as pl
import pytest
import torch
from PIL import Image

import src.data.cifar10_parquet as cifar10_parquet
from src.data.cifar10_parquet import files, read
from src.data.dataset import DataError

Writer = Callable[..., Path]
TRAIN = "train-00000-of-00001.parquet"
TEST = "test-00000-of-00001.parquet"


def encoded(image: Image.Image, format: str = "png") -> bytes:
    content = BytesIO()
    image.save(content, format)
    return content.getvalue()


def message(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(files(root))
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(": fetch it again, or name another copy as data.root")
    return text


@pytest.mark.parametrize("folder", ["root", "root/data", "root/plain_text"])
def test_images_and_labels_are_those_written(
    write_parquet: Writer,
    folder: str,
    tmp_path: Path,
    pixels: Callable[[int, int], torch.Tensor],
):
    write_parquet(folder)
    dataset = read(files(tmp_path / "root"))
    assert torch.equal(dataset.train_images, pixels(12, 0))
    assert torch.equal(dataset.test_images, pixels(6, 1))
    assert dataset.train_labels.tolist() == [*range(10), 0, 1]
    assert dataset.test_labels.tolist() == [*range(6)]
    assert dataset.train_labels.dtype == torch.int64
    assert (dataset.classes, dataset.variant) == (10, "cifar10 (Parquet, Hugging Face layout)")
    assert dataset.mean[0].item() == pytest.approx(dataset.train_images[:, 0].double().mean() / 255)


def test_shards_are_joined_in_order(
    write_parquet: Writer, pixels: Callable[[int, int], torch.Tensor]
):
    root = write_parquet()
    table = pl.read_parquet(root / TRAIN)
    (root / TRAIN).unlink()
    for shard in (2, 0, 1):
        path = root / f"train-{shard:05}-of-00003.parquet"
        table.slice(4 * shard, 4).write_parquet(path)
    assert torch.equal(read(files(root)).train_images, pixels(12, 0))


def test_jpeg_is_told(write_parquet: Writer):
    jpeg = encoded(Image.new("RGB", (32, 32), (100, 100, 100)), "jpeg")
    dataset = read(files(write_parquet(img=[{"bytes": jpeg, "path": None}] * 12)))
    assert dataset.variant == "cifar10 (Parquet, Hugging Face layout, JPEG)"
    assert dataset.train_images.float().mean().item() == pytest.approx(100, abs=2)


def test_absent_folder_has_no_files(tmp_path: Path):
    assert files(tmp_path / "absent") == []


def test_missing_split_is_named(write_parquet: Writer):
    root = write_parquet()
    (root / TEST).unlink()
    assert "test-*.parquet: 0 rows, expected 6" in message(root)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.999])
def test_half_written_file_is_named(write_parquet: Writer, kept: float):
    path = write_parquet() / TRAIN
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert f"{path} is damaged or half-written" in message(path.parent)


def test_garbage_in_the_footer_is_named(write_parquet: Writer):
    path = write_parquet() / TEST
    content = path.read_bytes()
    path.write_bytes(content[:-300] + bytes(292) + content[-8:])
    assert f"{path} is damaged or half-written" in message(path.parent)


def test_polars_panic_is_an_answer_not_a_crash(
    write_parquet: Writer, monkeypatch: pytest.MonkeyPatch
):
    def read_parquet(path: Path, glob: bool) -> None:
        raise pl.exceptions.PanicException("called `Option::unwrap()` on a `None` value")

    root = write_parquet()
    monkeypatch.setattr(pl, "read_parquet", read_parquet)
    assert "is damaged or half-written" in message(root)


def test_row_count(write_parquet: Writer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(cifar10_parquet.SIZES, "train", 50_000)
    assert f"{TRAIN}: 12 rows, expected 50,000" in message(write_parquet())


@pytest.mark.parametrize("label", [-1, 10, 255, None])
def test_label_out_of_range(write_parquet: Writer, label: int | None):
    root = write_parquet(label=[0, 1, 2, label, *range(8)])
    assert f"{TRAIN}: label {label} in row 3, expected 0 to 9" in message(root)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("img", [b"bytes"] * 12),
        ("img", [{"content": b"bytes"}] * 12),
        ("img", [{"bytes": "text"}] * 12),
        ("label", ["cat"] * 12),
        ("label", [1.0] * 12),
    ],
)
def test_columns_of_another_type(write_parquet: Writer, column: str, values: list[object]):
    text = message(write_parquet(**{column: values}))
    assert f"{TRAIN} has the columns" in text
    assert "expected img, a struct with bytes, and label, an integer" in text


@pytest.mark.parametrize("column", ["img", "label"])
def test_columns_of_another_name(write_parquet: Writer, column: str):
    path = write_parquet() / TRAIN
    pl.read_parquet(path).rename({column: "other"}).write_parquet(path)
    assert f"{path} has the columns" in message(path.parent)


@pytest.mark.parametrize("damage", ["absent", "null", "empty", "text", "truncated"])
def test_unreadable_image(write_parquet: Writer, damage: str):
    good = encoded(Image.new("RGB", (32, 32)))
    bad = {
        "absent": None,
        "null": {"bytes": None},
        "empty": {"bytes": b""},
        "text": {"bytes": b"hello"},
        "truncated": {"bytes": good[: len(good) // 2]},
    }[damage]
    root = write_parquet(img=[{"bytes": good}] * 5 + [bad] + [{"bytes": good}] * 6)
    assert f"{TRAIN}: the image in row 5 cannot be decoded" in message(root)


@pytest.mark.parametrize(
    ("mode", "size"),
    [("RGB", (31, 32)), ("RGB", (64, 64)), ("L", (32, 32)), ("P", (32, 32)), ("RGBA", (32, 32))],
)
def test_image_of_another_size_or_mode(write_parquet: Writer, mode: str, size: tuple[int, int]):
    image = {"bytes": encoded(Image.new(mode, size))}
    expected = f"{TRAIN}: the image in row 0 is {mode} {size}, expected RGB (32, 32)"
    assert expected in message(write_parquet(img=[image] * 12))
