import gzip
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import src.data.mnist as mnist_files
from src.data.dataset import DataError
from src.data.mnist import SOURCES, mnist

NAMES = [
    f"{s}-{end}" for s in ("train", "t10k") for end in ("images-idx3-ubyte", "labels-idx1-ubyte")
]
LABELS = {"train": [5, 0, 4, 1, 9, 2, 1, 3, 7], "t10k": [1, 2, 3, 4]}


def idx(values: torch.Tensor) -> bytes:
    """A tensor of bytes as an idx file."""
    header = struct.pack(f">HBB{values.dim()}I", 0, 8, values.dim(), *values.shape)
    return header + bytes(values.flatten().tolist())


def pixels(split: str) -> torch.Tensor:
    stream = torch.Generator().manual_seed(len(split))
    shape = (len(LABELS[split]), 28, 28)
    return torch.randint(256, shape, dtype=torch.uint8, generator=stream)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of nine and four images in four files; Debian's is out of the way."""
    monkeypatch.setattr(mnist_files, "SIZES", {s: len(labels) for s, labels in LABELS.items()})
    elsewhere = {name: replace(source, system=None) for name, source in SOURCES.items()}
    monkeypatch.setattr(mnist_files, "SOURCES", elsewhere)
    folder = tmp_path / "root"
    folder.mkdir()
    for split, labels in LABELS.items():
        (folder / f"{split}-images-idx3-ubyte").write_bytes(idx(pixels(split)))
        label_bytes = idx(torch.tensor(labels, dtype=torch.uint8))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(label_bytes)
    return folder


def packed(root: Path) -> None:
    for path in list(root.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


def torchvision_s(root: Path) -> None:
    (root / "MNIST").mkdir()
    for name in NAMES:
        (root / "MNIST" / "raw").mkdir(exist_ok=True)
        (root / name).rename(root / "MNIST" / "raw" / name)


@pytest.mark.parametrize("layout", [lambda root: None, packed, torchvision_s])
def test_images_and_labels_are_those_of_the_files(root: Path, layout):
    layout(root)
    dataset = mnist("mnist", root, download=False)
    assert torch.equal(dataset.train_images, pixels("train")[:, None])
    assert torch.equal(dataset.test_images, pixels("t10k")[:, None])
    assert dataset.train_labels.tolist() == LABELS["train"]
    assert dataset.test_labels.tolist() == LABELS["t10k"]
    assert dataset.train_labels.dtype == torch.int64
    assert (dataset.classes, dataset.variant) == (10, "mnist (idx files)")
    floats = pixels("train").double() / 255
    torch.testing.assert_close(dataset.mean, floats.mean()[None])
    torch.testing.assert_close(dataset.std, floats.std(correction=0)[None])


def test_an_unpacked_file_goes_before_its_archive(root: Path):
    (root / f"{NAMES[0]}.gz").write_bytes(b"no archive")
    assert len(mnist("mnist", root, download=False).train_images) == 9


def test_binary_images_are_black_or_white(root: Path):
    dataset = mnist("mnist", root, download=False, binarise=True)
    assert dataset.train_images.dtype == torch.uint8
    assert torch.equal(dataset.train_images[:, 0], 255 * (pixels("train") >= 128).byte())
    assert dataset.test_images.unique().tolist() == [0, 255]
    white = (pixels("train") >= 128).double().mean()
    torch.testing.assert_close(dataset.mean, white[None])


def test_a_folder_of_the_system_comes_after_the_root(root: Path, tmp_path: Path, monkeypatch):
    system = tmp_path / "system"
    shutil.copytree(root, system)
    source = replace(SOURCES["mnist"], system=system)
    monkeypatch.setattr(mnist_files, "SOURCES", {"mnist": source})
    (root / NAMES[0]).write_bytes(b"damaged")
    with pytest.raises(DataError):
        mnist("mnist", root, download=False)
    assert len(mnist("mnist", tmp_path / "absent", download=False).train_images) == 9


def damaged(root: Path, name: str, content: bytes) -> str:
    (root / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        mnist("mnist", root, download=False)
    line = str(error.value)
    assert "\n" not in line and str(root / name) in line
    assert line.endswith("fetch it again, or name another copy as data.root")
    return line


class TestDamage:
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("kept", [0, 3, 10, -1])
    def test_a_file_cut_short(self, root, name, kept):
        assert "damaged" in damaged(root, name, (root / name).read_bytes()[:kept])

    @pytest.mark.parametrize("content", [b"<html>not found</html>" * 9, bytes(300), b"\xff" * 300])
    def test_something_else(self, root, content):
        assert "damaged or no idx file" in damaged(root, NAMES[0], content)

    def test_an_archive_with_a_flipped_bit(self, root):
        packed(root)
        content = bytearray((root / f"{NAMES[0]}.gz").read_bytes())
        content[len(content) // 2] ^= 1
        assert "damaged" in damaged(root, f"{NAMES[0]}.gz", bytes(content))

    def test_images_of_another_number_or_size(self, root):
        few = damaged(root, NAMES[0], idx(pixels("train")[:5]))
        assert "holds [5, 28, 28], expected [9, 28, 28]" in few
        assert "expected [9, 28, 28]" in damaged(root, NAMES[0], idx(pixels("train")[:, :14]))

    def test_labels_where_images_should_be(self, root):
        assert "3 dimension" in damaged(root, NAMES[0], (root / NAMES[1]).read_bytes())

    def test_a_label_out_of_range(self, root):
        wrong = torch.tensor([*LABELS["train"][:-1], 10], dtype=torch.uint8)
        assert "label 10, expected 0 to 9" in damaged(root, NAMES[1], idx(wrong))

    @pytest.mark.parametrize("name", NAMES)
    def test_a_missing_file(self, root, name):
        (root / name).unlink()
        with pytest.raises(DataError) as error:
            mnist("mnist", root, download=False)
        assert f"{root / name} is missing" in str(error.value)

    def test_the_other_data_set(self, root):
        with pytest.raises(DataError, match="those of FashionMNIST") as error:
            mnist("fashion_mnist", root, download=False)
        assert str(root / NAMES[1]) in str(error.value)


class TestDownload:
    def test_is_not_tried_over_a_folder_that_is_there(self, tmp_path):
        (tmp_path / "MNIST").mkdir()
        with pytest.raises(DataError, match="MNIST is there, but holds no MNIST: put train-images"):
            mnist("mnist", tmp_path, True)

    def test_may_be_forbidden(self, root, tmp_path):
        with pytest.raises(DataError) as error:
            mnist("mnist", tmp_path / "absent", download=False)
        assert "data.download=false" in str(error.value) and "data=digits" in str(error.value)

    def test_without_a_network_is_one_line_with_the_remedy(self, root, tmp_path, monkeypatch):
        def urlopen(*args: object, **kwargs: object) -> None:
            raise OSError("Name or service not known")

        monkeypatch.setattr("urllib.request.urlopen", urlopen)
        with pytest.raises(DataError, match="Name or service not known") as error:
            mnist("mnist", tmp_path / "new")
        assert "\n" not in str(error.value) and "data=digits" in str(error.value)

    def test_appears_whole_and_is_read(self, root, tmp_path, monkeypatch):
        def fetch(source, folder):
            (folder / "MNIST").mkdir()
            shutil.copytree(root, folder / "MNIST" / "raw")

        monkeypatch.setattr(mnist_files, "_fetch", fetch)
        assert len(mnist("mnist", tmp_path / "new").train_images) == 9
        monkeypatch.setattr(mnist_files, "_fetch", None)  # the second time there is no need
        assert len(mnist("mnist", tmp_path / "new").test_images) == 4


@pytest.mark.skipif(
    not SOURCES["fashion_mnist"].system.is_dir(), reason="Debian's package is not installed"
)
def test_the_real_images(tmp_path: Path):
    dataset = mnist("fashion_mnist", tmp_path / "absent", download=False)
    assert dataset.train_images.shape == (60_000, 1, 28, 28)
    assert dataset.test_images.shape == (10_000, 1, 28, 28)
    assert dataset.train_labels.bincount().tolist() == [6_000] * 10
    assert dataset.mean.item() == pytest.approx(0.2860, abs=1e-4)
    assert dataset.std.item() == pytest.approx(0.3530, abs=1e-4)
