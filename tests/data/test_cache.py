import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from src.data import cache
from src.data.cache import cached
from src.data.dataset import DataError, Dataset, channel_statistics

REPOSITORY = Path(__file__).parents[2]


def tiny(seed: int = 0) -> Dataset:
    images = torch.randint(
        256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    labels = torch.arange(8)
    mean, std = channel_statistics(images)
    return Dataset(images, labels, images[:4], labels[:4], 10, f"tiny {seed}", mean, std)


def same(a: Dataset, b: Dataset) -> bool:
    return all(
        torch.equal(value, vars(b)[name])
        if isinstance(value, torch.Tensor)
        else value == vars(b)[name]
        for name, value in vars(a).items()
    )


def unwanted() -> Dataset:
    raise AssertionError("decoded although the cache is valid")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_text("content")
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "set.pt"


def test_second_start_reads_what_the_first_decoded(source: Path, path: Path):
    first = cached([path], [source], tiny)
    second = cached([path], [source], unwanted)
    assert same(first, tiny())
    assert same(second, tiny())
    assert second.mean.dtype == torch.float64


def test_writing_to_the_tensors_leaves_the_file_alone(source: Path, path: Path):
    cached([path], [source], tiny)
    cached([path], [source], unwanted).train_images.zero_()
    assert same(cached([path], [source], unwanted), tiny())


def _touch(source: Path) -> None:
    os.utime(source, ns=(0, 0))


def _lengthen(source: Path) -> None:
    stat = source.stat()
    source.write_text("another content")
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("change", [_touch, _lengthen])
def test_changed_source_is_decoded_again(source: Path, path: Path, change: Callable[[Path], None]):
    cached([path], [source], tiny)
    change(source)
    assert same(cached([path], [source], lambda: tiny(1)), tiny(1))
    assert same(cached([path], [source], unwanted), tiny(1))


def test_another_list_of_sources_is_decoded_again(source: Path, path: Path):
    cached([path], [source], tiny)
    shard = source.with_name("shard")
    shard.write_text("content")
    assert same(cached([path], [source, shard], lambda: tiny(1)), tiny(1))


def test_source_that_changes_while_it_is_decoded(source: Path, path: Path):
    def decode() -> Dataset:
        _touch(source)
        return tiny()

    cached([path], [source], decode)
    assert same(cached([path], [source], lambda: tiny(1)), tiny(1))


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_truncated_cache_is_rebuilt(source: Path, path: Path, kept: float):
    cached([path], [source], tiny)
    os.truncate(path, int(path.stat().st_size * kept))
    assert same(cached([path], [source], lambda: tiny(1)), tiny(1))
    assert same(cached([path], [source], unwanted), tiny(1))


@pytest.mark.parametrize("content", [b"", b"garbage", bytes(100_000)])
def test_garbage_in_place_of_the_cache_is_rebuilt(source: Path, path: Path, content: bytes):
    path.parent.mkdir()
    path.write_bytes(content)
    assert same(cached([path], [source], tiny), tiny())


def test_cache_of_another_version_is_rebuilt(source: Path, path: Path):
    cached([path], [source], tiny)
    content = torch.load(path)
    del content["mean"]
    torch.save(content, path)
    assert same(cached([path], [source], lambda: tiny(1)), tiny(1))


def test_read_only_folder_leaves_the_writing_to_the_next(
    source: Path, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    writable = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: p != tmp_path and writable(p, mode))
    beside = source.with_name("set.pt")
    cached([beside, path], [source], tiny)
    assert not beside.exists()
    assert same(cached([beside, path], [source], unwanted), tiny())


def test_read_only_folder_is_still_read(source: Path, path: Path, monkeypatch: pytest.MonkeyPatch):
    cached([path], [source], tiny)
    monkeypatch.setattr(os, "access", lambda p, mode: False)
    assert same(cached([path, source.with_name("set.pt")], [source], unwanted), tiny())


def test_no_writable_folder(source: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "access", lambda p, mode: False)
    with pytest.raises(DataError, match=r"is not writable: .* data\.cache"):
        cached([source.with_name("set.pt")], [source], unwanted)


def test_folder_that_cannot_be_made(source: Path):
    with pytest.raises(DataError, match=r"is not writable: .* data\.cache"):
        cached([source / "set.pt"], [source], unwanted)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a\nb")])
def test_full_disk(source: Path, path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch):
    def save(content: object, file: object) -> None:
        raise error

    monkeypatch.setattr(cache.torch, "save", save)
    with pytest.raises(DataError, match=r"set\.pt cannot be written .* data\.cache") as caught:
        cached([path], [source], tiny)
    assert "\n" not in str(caught.value)
    assert not list(path.parent.glob(".set.pt.*"))
    assert not path.exists()


PROCESS = """
import os, signal, sys, time
from pathlib import Path
import torch
from src.data.cache import cached
from src.data.dataset import Dataset, channel_statistics

folder = Path(sys.argv[1])
"""

TOGETHER = (
    PROCESS
    + """
def decode():
    with (folder / "decoded").open("a") as log:
        log.write("once ")
    time.sleep(0.5)
    images = torch.arange(8 * 3 * 32 * 32).view(8, 3, 32, 32).to(torch.uint8)
    labels = torch.arange(8)
    return Dataset(images, labels, images, labels, 10, "tiny", *channel_statistics(images))

(folder / f"ready-{os.getpid()}").touch()
while len(list(folder.glob("ready-*"))) < 2:
    time.sleep(0.01)
dataset = cached([folder / "set.pt"], [folder / "source"], decode)
weights = torch.arange(dataset.train_images.numel())
print((dataset.train_images.flatten() * weights).sum().item(), dataset.mean.tolist())
"""
)

KILLED = (
    PROCESS
    + """
def save(content, file):
    file.write(bytes(100_000))
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

torch.save = save
images, labels = torch.zeros(8, 3, 32, 32, dtype=torch.uint8), torch.arange(8)
dataset = Dataset(images, labels, images, labels, 10, "tiny", *channel_statistics(images))
cached([folder / "set.pt"], [folder / "source"], lambda: dataset)
"""
)


def start(script: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_of_two_processes_with_a_cold_cache_one_decodes(source: Path):
    folder = source.parent
    processes = [start(TOGETHER, folder) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert (folder / "decoded").read_text() == "once "
    assert outputs[0] == outputs[1] != ""


def test_writer_killed_half_way_leaves_nothing_to_trust(source: Path):
    folder = source.parent
    process = start(KILLED, folder)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert list(folder.glob(".set.pt.*"))
    assert not (folder / "set.pt").exists()
    assert same(cached([folder / "set.pt"], [source], tiny), tiny())
    assert not list(folder.glob(".set.pt.*"))
