"""When a network draws: the index of its random streams."""

from dataclasses import dataclass

Key = tuple[int, str, *tuple[int, ...]]


@dataclass
class Clock:
    """The step a network is at, shared by its random layers.

    At the same time they draw the same numbers, in a probe too. During evaluation the pair (batch,
    pass) takes the place of the training batch.
    """

    seed: int
    step: int = 0
    evaluation: tuple[int, int] | None = None

    def key(self, purpose: str, layer: int) -> Key:
        """Return the stream's name for one layer now: (seed, purpose, step, layer, ...)."""
        if self.evaluation is None:
            return (self.seed, purpose, self.step, layer)
        return (self.seed, purpose + "_eval", self.step, layer, *self.evaluation)
