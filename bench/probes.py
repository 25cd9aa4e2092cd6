"""What probing costs, in training steps of the same network."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bench.training import batches_of
from src import models
from src.callbacks.measures import MEASURES, View
from src.probes.layers import default_layers
from src.settings import Settings


class Probed:
    """A network at one step, to train and to probe by turns.

    Attributes:
        layers: How many there are.
        parameters: Their memory in GiB.
        activations: The memory in GiB of what a step keeps for its backward pass, parameters
            apart.
    """

    def __init__(self, chosen: Settings) -> None:
        self.settings = chosen
        self.model = models.build(chosen, classes=10).to(memory_format=torch.channels_last)
        self.batch = batches_of(chosen).batch(0)
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=0.0)  # it stays where it is
        self.layers = len(default_layers(self.model.network))
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            self._loss().backward()
        own = {p.untyped_storage().data_ptr(): p.nbytes for p in self.model.parameters()}
        self.parameters = sum(own.values()) / 2**30
        self.activations = sum(n for place, n in kept.items() if place not in own) / 2**30

    def _loss(self) -> Tensor:
        return self.model.loss(self.model.network(self.batch[0]), self.batch[1])

    def step(self) -> float:
        """Return the seconds of a training step, the median of five."""
        return statistics.median(_seconds(self._step) for _ in range(5))

    def _step(self) -> None:
        self.optimiser.zero_grad()
        loss = self._loss()
        loss.backward()
        self.optimiser.step()
        self.loss = loss.detach()

    def probe(self, name: str, metrics: Sequence[str] = ("euclidean",)) -> float:
        """Return the seconds of a probe with its rows."""
        parameters = list(self.model.network.named_parameters())
        gradient = {n: p.grad for n, p in parameters if p.grad is not None}
        before = {n: p.detach().clone() for n, p in parameters}
        view = View(
            step=0,
            network=self.model.network,
            loss_fn=self.model.loss,
            batch=self.batch,
            before=before,
            after={n: p - 1e-3 * gradient[n] for n, p in before.items()},
            loss=self.loss,
            gradient=gradient,
            lr=self.settings.optim.lr,
            weight_decay=0.0,
            seed=0,
            fixed=lambda: [self.batch],
            exact=True,
        )
        settings = replace(self.settings.probes, metrics=list(metrics))
        return _seconds(lambda: MEASURES[name](view, settings))


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
