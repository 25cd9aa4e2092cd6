"""Normalisation over the batch, by the variance or an lp norm, and the norms of the controls."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from src.settings import ModelSettings


class OverBatch(nn.Module):
    """What norms over the batch share, from primitive operations.

    Inputs are [N, C] or [N, C, H, W]; statistics run over all but C (height and width count as
    batch). Training gives ``(x - mean) / sqrt(square + eps)`` of the batch, scaled by gamma and
    shifted by beta; inference uses moving averages instead. All is computed in the precision of
    the running statistics and returned in that of the input, and every derivative is exact under
    ``torch.func``. With ``detached`` set, no gradient passes through the statistics.
    """

    scale: str  # the name of the running statistic beside the mean
    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, units: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True
    ) -> None:
        super().__init__()
        self.eps, self.momentum, self.detached = eps, momentum, False
        self.weight = nn.Parameter(torch.ones(units)) if affine else None
        self.bias = nn.Parameter(torch.zeros(units)) if affine else None
        self.register_buffer("running_mean", torch.zeros(units))
        self.register_buffer(self.scale, torch.ones(units))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each unit of x, then scale by gamma and shift by beta."""
        dtype, x = x.dtype, x.to(self.running_mean.dtype)
        if self.training:
            mean = x.mean(but_units(x))
            square, tracked = self.square(x, mean)
            self._track(mean.detach(), tracked.detach())
            if self.detached:
                mean, square = mean.detach(), square.detach()
        else:
            mean, square = self.running_mean, self.running_square()
        y = (x - _wide(mean, x)) * _wide((square + self.eps).rsqrt(), x)
        if self.weight is not None and self.bias is not None:
            y = y * _wide(self.weight, x) + _wide(self.bias, x)
        return y.to(dtype)

    def square(self, x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Return the square to divide by the root of, and the statistic to track, [C] each."""
        raise NotImplementedError

    def running_square(self) -> Tensor:
        """Return the square of inference, [C]."""
        raise NotImplementedError

    def _track(self, mean: Tensor, scale: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.get_buffer(self.scale).lerp_(scale, self.momentum)


class BatchNorm(OverBatch):
    """Batch normalisation (Ioffe & Szegedy 2015, Algorithms 1 and 2).

    Training divides by the root of the biased batch variance; inference uses moving averages of
    the batch means and of the unbiased batch variances. Names and numbers are those of
    ``torch.nn.BatchNorm2d``.
    """

    scale = "running_var"
    running_var: Tensor

    def square(self, x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Return the variance, biased and unbiased.

        Raises:
            ValueError: If a unit has a single value and so no variance.
        """
        count = x.numel() // x.shape[1]
        if count < 2:
            raise ValueError(f"BatchNorm needs two values a unit in training, got {x.shape}")
        variance = x.var(but_units(x), correction=0)
        return variance, variance * (count / (count - 1))

    def running_square(self) -> Tensor:
        """Return the running variance."""
        return self.running_var


class LpNorm(OverBatch):
    """``(x - mean) / N_p``, N_p an average lp norm (Santurkar et al. 2018, Section 3.3).

    N_1 is the mean of x without its sign, N_2 the root of the mean of x², N_inf the maximum of x
    without its sign, each taken before the mean is subtracted; like BatchNorm's variance, the
    square of N_p has eps added. Inference uses moving averages of the batch's mean and N_p.

    Args:
        p: 1, 2 or infinity.
        units: C.
        eps: Added to N_p².
        momentum: Of the moving averages.
        affine: Whether gamma and beta are learned.
        centred: Take N_p after the mean is subtracted; p = 2 is BatchNorm then.
        of_samples: N_inf is the mean over the samples of each one's maximum, not the batch's.
    """

    scale = "running_norm"
    running_norm: Tensor

    def __init__(
        self,
        p: float,
        units: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        centred: bool = False,
        of_samples: bool = False,
    ) -> None:
        super().__init__(units, eps, momentum, affine)
        self.p, self.centred, self.of_samples = p, centred, of_samples

    def square(self, x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Return N_p² (not by way of its root, which has no derivative at 0) and N_p."""
        x = x - _wide(mean, x) if self.centred else x
        if self.p == 2:
            square = x.square().mean(but_units(x))
            return square, square.sqrt()
        if self.p == 1:
            norm = x.abs().mean(but_units(x))
        elif self.of_samples:
            norm = x.abs().reshape(*x.shape[:2], -1).amax(2).mean(0)
        else:
            norm = x.abs().amax(but_units(x))
        return norm.square(), norm

    def running_square(self) -> Tensor:
        """Return the square of the running N_p."""
        return self.running_norm.square()


class Affine(nn.Module):
    """The learned scale gamma and shift beta of each unit, apart from the normalisation."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(units))
        self.bias = nn.Parameter(torch.zeros(units))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift x, [N, C] or [N, C, H, W], unit by unit."""
        return x * _wide(self.weight, x) + _wide(self.bias, x)


BATCH_NORMS = (BatchNorm, nn.BatchNorm1d, nn.BatchNorm2d)
TRACKING = (LpNorm, *BATCH_NORMS)  # the norms with running statistics
_POWERS = {"l1": 1, "l2": 2, "linf": inf}


def make_norm(
    kind: str, model: ModelSettings, units: int, spatial: bool, affine: bool
) -> nn.Module:
    """Return what normalises the output of one convolution (``spatial``) or linear map.

    Args:
        kind: ``batch``; ``l1``, ``l2``, ``linf``; ``layer`` (over channels and pixels, gamma and
            beta by channel), ``group`` (the same over groups of channels), ``instance`` (over the
            pixels of a channel; a linear map has a single one, so it gets ``layer``).
        model: Its eps and, where they apply, its momentum, kernel, readings and groups.
        units: C. The number of groups is its largest divisor up to ``model.groups`` that leaves
            at least two units in each.
        spatial: Whether inputs are [N, C, H, W], not [N, C].
        affine: Whether gamma and beta are learned.
    """
    tracking = (units, model.eps, model.momentum, affine)
    detached = model.statistics == "detached"
    if kind == "batch" and model.batch_norm == "torch" and not detached:
        return (nn.BatchNorm2d if spatial else nn.BatchNorm1d)(*tracking)
    if kind == "batch" or kind in _POWERS:
        readings = (model.lp_centred, model.linf_of == "sample")
        norm: OverBatch = (
            LpNorm(_POWERS[kind], *tracking, *readings) if kind in _POWERS else BatchNorm(*tracking)
        )
        norm.detached = detached
        return norm
    if kind == "instance" and spatial:
        return nn.InstanceNorm2d(units, model.eps, affine=affine)
    most = min(model.groups, units // 2) if kind == "group" else 1
    groups = max((d for d in range(1, most + 1) if units % d == 0), default=1)
    return nn.GroupNorm(groups, units, model.eps, affine)


@contextmanager
def holding_statistics(model: nn.Module, step: int) -> Iterator[None]:
    """Let each norm take in the batch that a forward pass gives it, then normalise with constants.

    These, the running statistics moved on by one batch, are constants of the step, and of every
    probe that looks at it, until ``train()`` is called. Until there have been 1 / momentum batches
    they are the batches' plain average.

    Args:
        model: Its norms have taken in one batch a step so far.
        step: From 0.
    """

    @torch.no_grad()
    def measure(norm: Any, arguments: tuple[Tensor]) -> None:
        momentum = norm.momentum
        norm.momentum = max(momentum, 1 / (step + 1))
        norm.train().forward(*arguments)
        norm.eval().momentum = momentum

    norms = [module for module in model.modules() if isinstance(module, TRACKING)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def but_units(x: Tensor) -> list[int]:
    """Return the dimensions that statistics of a unit run over: all of x but C."""
    return [dimension for dimension in range(x.dim()) if dimension != 1]


def _wide(unit: Tensor, x: Tensor) -> Tensor:
    return unit.view(1, -1, *[1] * (x.dim() - 2))
