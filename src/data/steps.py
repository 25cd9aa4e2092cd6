"""Batches by step: what Lightning trains on, from where the training is."""

from collections.abc import Callable, Iterator

from torch import Tensor

Batch = tuple[Tensor, Tensor]


class Steps:
    """A batch for each step of a whole training; batch t is a function of t alone.

    Attributes:
        steps: How many steps a whole training takes.
    """

    def __init__(self, steps: int, start: Callable[[], int] = lambda: 0) -> None:
        """Take how many there are; ``start`` tells, when iteration begins, the step to begin at."""
        self.steps, self._start = steps, start

    def batch(self, step: int) -> Batch:
        """Return inputs and targets of one step from 0."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        return map(self.batch, range(self._start(), self.steps))

    def state_dict(self) -> dict[str, int]:
        """Return nothing to save: with it, Lightning knows that it may resume in mid-epoch."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Load nothing: ``start`` tells the step."""
