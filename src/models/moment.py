"""When a network draws: the index of its random streams."""

from dataclasses import dataclass

import torch

from src.randomness import generator

Key = tuple[int, str, *tuple[int, ...]]


@dataclass
class Moment:
    """The step a network is at, shared by its random layers.

    The same moment draws the same numbers, in a probe too. During evaluation the pair (batch,
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


class Dropout(torch.nn.Module):
    """Inverted dropout whose masks come from the ``dropout`` stream; identity in evaluation."""

    def __init__(self, probability: float, layer: int, moment: Moment) -> None:
        super().__init__()
        self.probability, self.layer, self.moment = probability, layer, moment

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Zero each entry of x (any shape) with the given probability, scale up the rest."""
        if not self.training:
            return x
        stream = generator(*self.moment.key("dropout", self.layer), device=x.device)
        # CUDA draws others in float64, where a probe must see the mask of the step.
        kept = torch.empty_like(x, dtype=torch.float32).bernoulli_(
            1 - self.probability, generator=stream
        )
        return x * kept.to(x.dtype) / (1 - self.probability)
