"""What the deep linear network learns: a random linear map, from one full batch of points."""

from collections.abc import Callable, Iterator
from itertools import repeat

import torch
from torch import Tensor

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


class FullBatch:
    """The same batch at every step: gradient descent without the stochastic.

    Attributes:
        steps: How many steps a whole training takes.
    """

    def __init__(
        self, batch: tuple[Tensor, Tensor], steps: int, start: Callable[[], int] = lambda: 0
    ) -> None:
        """Keep the batch; ``start`` tells, when iteration begins, the step to begin at."""
        self.steps = steps
        self._batch, self._start = batch, start

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return repeat(self._batch, self.steps - self._start())

    def state_dict(self) -> dict[str, int]:
        """Return nothing to save: with it, Lightning knows that it may resume in mid-epoch."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Load nothing: ``start`` tells the step."""
