"""What norms are given, and what they should make of it."""

from math import inf

import torch
from torch import Tensor

SHAPES = [(6, 3), (2, 3), (4, 3, 5, 5), (1, 3, 2, 2)]


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def lp_norm(x: Tensor, p: float, of_samples: bool = False) -> Tensor:
    """N_p of each unit, value by value."""
    norms = []
    for unit in x.unbind(1):
        values = [abs(v) for v in unit.flatten().tolist()]
        samples = [max(abs(v) for v in sample.flatten().tolist()) for sample in unit]
        largest = sum(samples) / len(samples) if of_samples else max(values)
        mean = sum(v ** min(p, 2) for v in values) / len(values)
        norms.append(largest if p == inf else mean ** (1 / p))
    return torch.tensor(norms, dtype=torch.float64)


def draw(shape: tuple[int, ...]) -> Tensor:
    stream = torch.Generator().manual_seed(3)
    return 2 + 3 * torch.randn(shape, generator=stream, dtype=torch.float64)
