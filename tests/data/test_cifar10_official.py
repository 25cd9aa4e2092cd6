import pickle
import shutil
import socket
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from hashlib import md5
from pathlib import Path

import pytest
import torch
from torchvision.datasets import CIFAR10

import src.data.download as fetching
from src.data.cifar10_official import download, files, read
from src.data.dataset import DataError


def test_batches_are_read_in_order(official: Path, pixels: Callable[[int, int], torch.Tensor]):
    dataset = read(files(official))
    expected = torch.cat([pixels(2, seed) for seed in range(5)])
    assert torch.equal(dataset.train_images, expected)
    assert dataset.train_labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert torch.equal(dataset.test_images, pixels(2, 5))
    assert dataset.test_labels.tolist() == [5, 4]
    assert (dataset.train_images.dtype, dataset.train_labels.dtype) == (torch.uint8, torch.int64)
    assert (dataset.classes, dataset.variant) == (10, "cifar10 (torchvision's files)")


def test_agrees_with_torchvision(official: Path, monkeypatch: pytest.MonkeyPatch):
    content = pickle.dumps({"label_names": ["cat"]})
    (official / CIFAR10.base_folder / "batches.meta").write_bytes(content)
    meta = {**CIFAR10.meta, "md5": md5(content).hexdigest()}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    ours, theirs = read(files(official)), CIFAR10(official)
    assert torch.equal(ours.train_images, torch.from_numpy(theirs.data).permute(0, 3, 1, 2))
    assert ours.train_labels.tolist() == theirs.targets


def test_absent_folder_has_no_files(tmp_path: Path):
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch"])
def test_missing_batch_is_named(official: Path, name: str):
    (official / CIFAR10.base_folder / name).unlink()
    with pytest.raises(DataError, match=rf"{name} is missing: delete .* data\.download=true"):
        files(official)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch"])
def test_damaged_batch_is_named(official: Path, name: str):
    path = official / CIFAR10.base_folder / name
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} is damaged .*: delete .* data\.download=true"):
        read(files(official))


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


def test_tampered_pickle_is_never_opened(official: Path, tmp_path: Path):
    marker = tmp_path / "marker"
    bomb = pickle.dumps(Bomb(marker))
    pickle.loads(bomb)
    assert marker.exists(), "the bomb is a dud and proves nothing"
    marker.unlink()
    (official / CIFAR10.base_folder / "data_batch_1").write_bytes(bomb)
    with pytest.raises(DataError, match="data_batch_1 is damaged"):
        read(files(official))
    assert not marker.exists()


def _remedies(message: str) -> bool:
    return "\n" not in message and all(w in message for w in ("data.root", "data=digits"))


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    timeouts = []

    def urlopen(*args: object, **kwargs: object) -> None:
        timeouts.append(socket.getdefaulttimeout())
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(DataError, match="Name or service not known") as caught:
        download(tmp_path / "new")
    assert _remedies(str(caught.value))
    assert set(timeouts) == {fetching.TIMEOUT}
    assert socket.getdefaulttimeout() is None
    assert files(tmp_path / "new") == []


def test_server_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetching, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.getsockname()[1]}/a.tar.gz")
        with pytest.raises(DataError, match="timed out") as caught:
            download(tmp_path)
    assert _remedies(str(caught.value))


def test_root_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError) as caught:
        download(tmp_path / "file" / "root")
    assert _remedies(str(caught.value))


@pytest.fixture
def archive(official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root that holds the archive alone."""
    root = tmp_path / "root"
    root.mkdir()
    path = root / CIFAR10.filename
    with tarfile.open(path, "w:gz") as tar:
        tar.add(official / CIFAR10.base_folder, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(path.read_bytes()).hexdigest())
    monkeypatch.setattr(urllib.request, "urlopen", None)
    return root


@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")  # torchvision's tarfile
def test_archive_is_unpacked_whole(archive: Path):
    download(archive)
    assert len(read(files(archive)).train_images) == 10
    assert {path.name for path in archive.iterdir()} == {
        CIFAR10.base_folder,
        CIFAR10.filename,
        f"{CIFAR10.base_folder}.download.lock",
    }


def test_unpacking_cut_short_leaves_no_batches(archive: Path, monkeypatch: pytest.MonkeyPatch):
    def extract(source: object, target: Path, *args: object) -> None:
        (Path(target) / CIFAR10.base_folder).mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torchvision.datasets.utils.extract_archive", extract)
    with pytest.raises(DataError, match="No space left"):
        download(archive)
    assert files(archive) == []


def test_download_happens_once(official: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", None)
    download(official)
    shutil.rmtree(official / CIFAR10.base_folder)
    with pytest.raises(TypeError):
        download(official)
