"""What a training of a tiny network leaves behind."""

import polars
import torch

TINY = (
    *("scale=smoke", "logger=none", "max_steps=3", "log_every=1", "eval_every=100"),
    *("noise.passes=1", "keep_checkpoints=true", "accelerator=cpu", "threads=1"),
    *("probes.every=1", "probes.fixed_batches=1", "probes.units=2", "optim.momentum=0.5"),
)


def table(folder, name):
    return polars.read_parquet(folder.path / f"{name}.parquet")


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if torch.is_tensor(one) else one == other


def trained(folder):
    saved = torch.load(folder.checkpoints()[0])
    return {key: saved[key] for key in ("state_dict", "optimizer_states", "global_step")}
