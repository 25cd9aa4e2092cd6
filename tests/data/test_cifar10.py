import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import src.data.cifar10_official as cifar10_official
import src.data.cifar10_parquet as cifar10_parquet
from src.data.cifar10 import cifar10
from src.data.dataset import DataError

Writer = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(root: Path) -> None:
        raise AssertionError("went to the network")

    monkeypatch.setattr(cifar10_official, "download", download)


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def read(paths: list[Path]) -> None:
        raise AssertionError("decoded again")

    def forbid() -> None:
        monkeypatch.setattr(cifar10_official, "read", read)
        monkeypatch.setattr(cifar10_parquet, "read", read)

    return forbid


def test_decoded_once_into_one_file_beside_the_source(
    write_parquet: Writer, no_decoding: Callable[[], None]
):
    root = write_parquet()
    first = cifar10(root)
    no_decoding()
    second = cifar10(root)
    assert torch.equal(first.train_images, second.train_images)
    assert first.variant == second.variant == "cifar10 (Parquet, Hugging Face layout)"
    assert (root / "cifar10.pt").is_file()


def test_roots_that_share_a_cache_folder_keep_apart(
    write_parquet: Writer, tmp_path: Path, no_decoding: Callable[[], None]
):
    roots = [write_parquet("one"), write_parquet("two", label=[9] * 12)]
    for root in roots:
        cifar10(root, cache=tmp_path / "cache")
        assert len(list(root.iterdir())) == 2
    no_decoding()
    labels = [cifar10(root, cache=tmp_path / "cache").train_labels for root in roots]
    assert labels[0][0] == 0
    assert labels[1].tolist() == [9] * 12


def test_read_only_root_is_cached_in_the_users_folder(
    write_parquet: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root, writable = write_parquet(), os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != root and writable(path, mode))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    cifar10(root)
    assert len(list(root.iterdir())) == 2
    assert len(list((tmp_path / "user" / "batchnorm").glob("cifar10-*.pt"))) == 1


def test_changed_source_is_decoded_again(write_parquet: Writer):
    root = write_parquet()
    cifar10(root)
    write_parquet(label=[9] * 12)
    assert cifar10(root).train_labels.tolist() == [9] * 12


def test_damaged_cache_is_rebuilt(write_parquet: Writer):
    root = write_parquet()
    first = cifar10(root)
    expected = first.train_images.clone()
    del first
    os.truncate(root / "cifar10.pt", 5_000)
    assert torch.equal(cifar10(root).train_images, expected)


def test_official_files_come_before_parquet(official: Path, write_parquet: Writer):
    shutil.copytree(official, write_parquet(), dirs_exist_ok=True)
    assert cifar10(write_parquet()).variant == "cifar10 (torchvision's files)"


def test_download_forbidden_tells_what_to_do(tmp_path: Path):
    with pytest.raises(DataError) as caught:
        cifar10(tmp_path / "absent", download=False)
    message = str(caught.value)
    assert "\n" not in message
    for word in (f"{tmp_path / 'absent'}", "data.root", "data.download=true", "data=digits"):
        assert word in message
    assert not (tmp_path / "absent").exists()


def test_what_was_downloaded_is_read(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def download(root: Path) -> None:
        shutil.copytree(official, root)

    monkeypatch.setattr(cifar10_official, "download", download)
    assert len(cifar10(tmp_path / "new").train_images) == 10


@pytest.mark.slow
@pytest.mark.skipif("CIFAR10_ROOT" not in os.environ, reason="CIFAR10_ROOT names no folder")
def test_the_real_images(tmp_path: Path):
    dataset = cifar10(Path(os.environ["CIFAR10_ROOT"]), download=False, cache=tmp_path)
    assert dataset.train_images.shape == (50_000, 3, 32, 32)
    assert dataset.test_images.shape == (10_000, 3, 32, 32)
    assert dataset.train_labels.bincount().tolist() == [5_000] * 10
    assert dataset.test_labels.bincount().tolist() == [1_000] * 10
    # The original's are 0.4914 0.4822 0.4465 and 0.2470 0.2435 0.2616; JPEG smooths a little.
    assert dataset.mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=3e-4)
    assert dataset.std.tolist() == pytest.approx([0.2470, 0.2435, 0.2616], abs=3e-3)
