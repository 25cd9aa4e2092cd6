"""The distributions of a network's activations (Santurkar et al. 2018, Fig. 1c, 2 and 8)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.probes.evaluation import Batch, Evaluation, Parameters, untouched

BINS = 128


@dataclass(frozen=True)
class Distribution:
    """How the values of one layer at one site, or of one of its units, are spread.

    Attributes:
        mean: A scalar.
        variance: Biased, a scalar.
        quantiles: The 15th, 50th and 85th percentiles, [3], interpolated in the histogram.
        edges: The histogram's bin edges, [BINS + 1], from the least value to the greatest.
        counts: How many values each bin has, [BINS].
    """

    mean: Tensor
    variance: Tensor
    quantiles: Tensor
    edges: Tensor
    counts: Tensor


def distribution(values: Tensor) -> Distribution:
    """Return the distribution of all entries of a tensor.

    Where one of them is not finite, neither are mean and variance, the quantiles and edges are NaN
    and the counts 0.
    """
    values = values.detach().flatten()
    mean = values.mean()
    variance = (values - mean).square().mean()  # torch's own takes twenty times as long on a CPU
    low, high = torch.aminmax(values)
    position = torch.linspace(0, 1, BINS + 1, dtype=values.dtype, device=values.device)
    edges = low + (high - low) * position
    if not torch.isfinite(high - low):
        nothing = torch.full_like(edges, torch.nan)
        return Distribution(mean, variance, nothing[:3], nothing, torch.zeros_like(edges[1:]))
    width = torch.where(high > low, high - low, torch.ones_like(high))
    bins = ((values - low) / width * BINS).long().clamp_(0, BINS - 1)
    counts = torch.bincount(bins, minlength=BINS).to(values.dtype)
    return Distribution(mean, variance, _quantiles(edges, counts), edges, counts)


def activations(
    model: nn.Module, batch: Batch, params: Parameters, sites: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Tensor]]:
    """Return what chosen modules put out on a batch, by layer and module.

    Args:
        model: Any module, used in its current mode.
        batch: ``(inputs, targets)``.
        params: The parameters by name; their precision is the probe's.
        sites: For each layer the names of the modules to listen to.
    """
    heard: dict[str, Tensor] = {}
    wanted = {name for names in sites.values() for name in names}
    evaluation = Evaluation(model, lambda x, _: x, batch, next(iter(params.values())).dtype)

    def listen(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            heard[name] = output.detach().clone()

        return hook

    handles = [
        module.register_forward_hook(listen(name))
        for name, module in model.named_modules()
        if name in wanted
    ]
    try:
        with untouched(), torch.no_grad():
            evaluation.loss(params)
    finally:
        for handle in handles:
            handle.remove()
    return {layer: {name: heard[name] for name in names} for layer, names in sites.items()}


def _quantiles(edges: Tensor, counts: Tensor) -> Tensor:
    cumulated = torch.cat([counts.new_zeros(1), counts.cumsum(0)]) / counts.sum()
    wanted = torch.tensor([0.15, 0.5, 0.85], dtype=edges.dtype, device=edges.device)
    upper = torch.searchsorted(cumulated, wanted).clamp(1, len(counts))
    below, above = cumulated[upper - 1], cumulated[upper]
    share = (wanted - below) / (above - below)
    return edges[upper - 1] + share * (edges[upper] - edges[upper - 1])
