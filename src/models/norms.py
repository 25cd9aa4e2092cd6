"""Normalisation over the batch."""

import torch
from torch import Tensor, nn


class BatchNorm(nn.Module):
    """Batch normalisation from primitive operations (Ioffe & Szegedy 2015, Algorithms 1 and 2).

    Inputs are [N, C] or [N, C, H, W]; statistics run over all but C (height and width count as
    batch). Training divides by the biased batch variance; inference uses moving averages of the
    batch means and of the unbiased batch variances. All is computed in the precision of the
    running statistics and returned in that of the input. Names and numbers are those of
    ``torch.nn.BatchNorm2d``; unlike its fused kernel, every derivative of this one is exact under
    ``torch.func``.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, units: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True
    ) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(units)) if affine else None
        self.bias = nn.Parameter(torch.zeros(units)) if affine else None
        self.register_buffer("running_mean", torch.zeros(units))
        self.register_buffer("running_var", torch.ones(units))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each unit of x, then scale by gamma and shift by beta.

        Raises:
            ValueError: In training, if a unit has a single value and so no variance.
        """
        dtype, x = x.dtype, x.to(self.running_mean.dtype)
        if self.training:
            over = [d for d in range(x.dim()) if d != 1]
            count = x.numel() // x.shape[1]
            if count < 2:
                raise ValueError(f"BatchNorm needs two values a unit in training, got {x.shape}")
            mean = x.mean(over)
            variance = x.var(over, correction=0)
            self._track(mean.detach(), variance.detach() * (count / (count - 1)))
        else:
            mean, variance = self.running_mean, self.running_var
        y = (x - _wide(mean, x)) * _wide((variance + self.eps).rsqrt(), x)
        if self.weight is not None and self.bias is not None:
            y = y * _wide(self.weight, x) + _wide(self.bias, x)
        return y.to(dtype)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class Affine(nn.Module):
    """The learned scale gamma and shift beta of each unit, apart from the normalisation."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(units))
        self.bias = nn.Parameter(torch.zeros(units))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift x, [N, C] or [N, C, H, W], unit by unit."""
        return x * _wide(self.weight, x) + _wide(self.bias, x)


def _wide(unit: Tensor, x: Tensor) -> Tensor:
    return unit.view(1, -1, *[1] * (x.dim() - 2))
