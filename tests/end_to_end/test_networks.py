"""Networks of every family through the real command, each with the data that it brings."""

import gzip
import struct

import polars as pl
import pytest


@pytest.fixture
def mnist_root(tmp_path):
    """A folder that holds files in the form of MNIST."""
    for split, count in (("train", 60_000), ("t10k", 10_000)):
        labels = bytes([5, 0, 4, 1, 9, 2, 1, 3]) * (count // 8)
        images = bytes(range(256)) * (count * 784 // 256)
        headers = (struct.pack(">4I", 0x803, count, 28, 28), struct.pack(">2I", 0x801, count))
        for name, content in zip(("images-idx3", "labels-idx1"), (images, labels), strict=True):
            path = tmp_path / f"{split}-{name}-ubyte.gz"
            header = headers[name == "labels-idx1"]
            path.write_bytes(gzip.compress(header + content, compresslevel=1))
    return tmp_path


def names(run):
    return set(pl.read_parquet(run / "metrics.parquet")["name"])


@pytest.mark.slow
def test_one_grid_holds_networks_of_two_families(command, status, mnist_root):
    command.env["MNIST_ROOT"] = str(mnist_root)
    command("model=dln,dln_bn,dln_noisy,mlp", "scale=smoke", "logger=none")
    assert len(command.runs()) == 4
    for run in command.runs():
        found = status(run)
        assert (found["state"], found["step"]) == ("completed", 20)
        linear = run.name.startswith("dln")
        assert found["data"] == ("linear" if linear else "mnist (idx files)")
        accuracies = {f"{place}/accuracy" for place in ("train", "train_eval", "val")}
        losses = {"train/loss", "train_eval/loss"}
        assert names(run) == (losses if linear else losses | accuracies | {"val/loss"})


@pytest.mark.slow
def test_the_sigmoid_network_learns_the_digits(command, status):
    command("model=mlp_bn", "data=digits", "scale=smoke", "max_steps=200", "logger=none")
    run = command.run("mlp_bn-*")
    assert status(run)["state"] == "completed"
    metrics = pl.read_parquet(run / "metrics.parquet")
    assert metrics.filter(pl.col("name") == "val/accuracy")["value"][-1] > 0.8
