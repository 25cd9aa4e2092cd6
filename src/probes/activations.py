"""The distributions of a network's activations (Santurkar et al. 2018, Fig. 1c, 2 and 8)."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from src.probes.evaluation import Batch, Evaluation, Parameters, untouched

BINS = 128
PERCENTS = (15, 50, 85)


@dataclass(frozen=True)
class Distribution:
    """How the values of a row are spread: a layer's at one site, or one of its units'.

    Attributes:
        mean: [rows].
        variance: Biased, [rows].
        edges: Of BINS equal bins from the least value to the greatest, [rows, BINS + 1]; NaN where
            that range is not finite.
        counts: How many values each bin has, [rows, BINS]; 0 where the range is not finite.
        quantiles: The 15th, 50th and 85th percentiles, [rows, 3], interpolated in a bin; where
            outliers make that wider than a tenth of the way from the first to the last, values.
    """

    mean: Tensor
    variance: Tensor
    edges: Tensor
    counts: Tensor
    quantiles: Tensor


def distribution(values: Tensor) -> Distribution:
    """Return the distribution of each row of ``values``, [rows, n].

    Where one of a row is not finite, neither are its mean, variance and range.
    """
    values = values.detach()
    mean, low, high = values.mean(1), values.amin(1), values.amax(1)
    scratch = values - mean[:, None]
    # torch's own variance takes ten times as long on a CPU, and a norm sums up naively.
    variance = torch.mul(scratch, scratch, out=scratch).mean(1)
    low, width = low[:, None], (high - low)[:, None]
    position = torch.linspace(0, 1, BINS + 1, dtype=low.dtype, device=low.device)
    edges = torch.where(torch.isfinite(width), low + width * position, torch.nan)
    divisor = torch.where(width == 0, 1.0, width)
    torch.sub(values, low, out=scratch).div_(divisor).mul_(BINS)
    # By way of int16, and counted in uint8: five times as fast as int64. Only what rounds to the
    # greatest value comes to BINS; it belongs to the last bin.
    bins = scratch.to(torch.int16).to(torch.uint8)
    counts = torch.stack([torch.bincount(row, minlength=256) for row in bins])
    counts[:, BINS - 1] += counts[:, BINS]
    counts = torch.where(torch.isfinite(width), counts[:, :BINS], 0).to(values)
    quantiles = _interpolated(edges, counts)
    coarse = width[:, 0] > BINS / 10 * (quantiles[:, 2] - quantiles[:, 0])
    if coarse.any():
        outlying, places = values[coarse], [-(-p * values.shape[1] // 100) for p in PERCENTS]
        quantiles[coarse] = torch.stack([outlying.kthvalue(k, 1).values for k in places], 1)
    return Distribution(mean, variance, edges, counts, quantiles)


def _interpolated(edges: Tensor, counts: Tensor) -> Tensor:
    zero = torch.zeros_like(counts[:, :1])
    cumulated = torch.cat([zero, counts.cumsum(1)], 1) / counts.sum(1, keepdim=True)
    wanted = torch.tensor(PERCENTS, dtype=edges.dtype, device=edges.device) / 100
    upper = torch.searchsorted(cumulated, wanted.expand(len(edges), 3).contiguous())
    upper = upper.clamp(1, BINS)
    below, above = cumulated.gather(1, upper - 1), cumulated.gather(1, upper)
    start, end = edges.gather(1, upper - 1), edges.gather(1, upper)
    return start + (wanted - below) / (above - below) * (end - start)


def joined(parts: Sequence[Distribution]) -> Distribution:
    """Return the rows of several as those of one."""
    columns = ([getattr(part, field.name) for part in parts] for field in fields(Distribution))
    return Distribution(*map(torch.cat, columns))


def activations(
    model: nn.Module,
    batch: Batch,
    params: Parameters,
    names: Collection[str],
    hear: Callable[[str, Tensor], object],
) -> None:
    """Hand over what chosen modules put out on a batch.

    Args:
        model: Any module, used in its current mode.
        batch: ``(inputs, targets)``.
        params: The parameters by name; their precision is the probe's.
        names: The modules to listen to.
        hear: Gets a module's name and output, before what follows may change that in place.

    Raises:
        AttributeError: If a module is not there.
    """
    evaluation = Evaluation(model, lambda x, _: x, batch, next(iter(params.values())).dtype)

    def listen(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            hear(name, output.detach())

        return hook

    modules = [(name, model.get_submodule(name)) for name in names]
    handles = [module.register_forward_hook(listen(name)) for name, module in modules]
    try:
        with untouched(), torch.no_grad():
            evaluation.loss(params)
    finally:
        for handle in handles:
            handle.remove()
