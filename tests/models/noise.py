"""Noise of some shape, and what it draws."""

import torch
from torch import Tensor

from src.models.clock import Clock
from src.models.noise import Noise, NoiseShape

SEVERAL_BLOCKS = (5, 64, 32, 33)  # three, the last of them partial


def noise(seed: int = 0, step: int = 0, layer: int = 1, **shape: float) -> Noise:
    return Noise(NoiseShape(**shape), layer, Clock(seed, step))


def drawn(a: Tensor, seed: int = 0, step: int = 0, layer: int = 1, **shape: float) -> Tensor:
    """The pair (s, m), as one tensor."""
    return torch.stack(noise(seed, step, layer, **shape).draw(a))
