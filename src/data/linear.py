"""What the deep linear network learns: a random linear map, from one full batch of points."""

from collections.abc import Callable

import torch
from torch import Tensor

from src.data.steps import Batch, Steps
from src.randomness import generator


def linear(points: int, dimension: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return x and y = Ax, both float64 [points, dimension].

    The entries of x and of A, [dimension, dimension], are standard normal (Santurkar et al. 2018,
    Appendix A.1, who do not give the variances), drawn from the stream ``data``.
    """
    shapes = {"x": (points, dimension), "A": (dimension, dimension)}
    x, a = (
        torch.randn(*shape, dtype=torch.float64, generator=generator(seed, "data", name))
        for name, shape in shapes.items()
    )
    return x, x @ a.T


class FullBatch(Steps):
    """The same batch at every step: gradient descent without the stochastic."""

    def __init__(self, batch: Batch, steps: int, start: Callable[[], int] = lambda: 0) -> None:
        super().__init__(steps, start)
        self._batch = batch

    def batch(self, step: int) -> Batch:
        """Return the batch."""
        return self._batch
