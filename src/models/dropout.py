"""Dropout that a probe can repeat."""

import torch

from src.models.clock import Clock
from src.randomness import generator


class Dropout(torch.nn.Module):
    """Inverted dropout whose masks come from the ``dropout`` stream; identity in evaluation."""

    def __init__(self, probability: float, layer: int, clock: Clock) -> None:
        super().__init__()
        self.probability, self.layer, self.clock = probability, layer, clock

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Zero each entry of x (any shape) with the given probability, scale up the rest."""
        if not self.training:
            return x
        stream = generator(*self.clock.key("dropout", self.layer), device=x.device)
        # CUDA draws others in float64, where a probe must see the mask of the step.
        kept = torch.empty_like(x, dtype=torch.float32).bernoulli_(
            1 - self.probability, generator=stream
        )
        return x * kept.to(x.dtype) / (1 - self.probability)
