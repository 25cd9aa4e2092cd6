from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from src import models

Values = dict[str, Tensor]


@pytest.fixture
def vgg(settings) -> Callable[..., nn.Sequential]:
    """A narrow VGG-11 in float64; its norms' parameters drawn at random, as after some training."""

    def build(*overrides: str, dtype: torch.dtype = torch.float64) -> nn.Sequential:
        chosen = settings("model.depth=11", "model.width=0.04", "model.head=linear", *overrides)
        network = models.build(chosen, classes=10).network.to(dtype)
        stream = torch.Generator().manual_seed(1)
        for name, parameter in network.named_parameters():
            if parameter.dim() == 1:
                with torch.no_grad():
                    parameter.add_(0.2 * torch.randn(len(parameter), generator=stream))
            assert torch.isfinite(parameter).all(), name
        return network

    return build


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    """A batch of eight."""
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(8, 3, 32, 32, generator=stream, dtype=torch.float64)
    return inputs, torch.randint(10, (8,), generator=stream)


@pytest.fixture
def smooth() -> nn.Sequential:
    """A small network without kinks, batch statistics and all, in float64."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.AvgPool2d(16),
        nn.Flatten(),
        nn.Linear(12, 6, bias=False),
        nn.BatchNorm1d(6),
        nn.Tanh(),
        nn.Linear(6, 5, bias=False),
        nn.BatchNorm1d(5),
        nn.Tanh(),
        nn.Linear(5, 10),
    ).double()


@pytest.fixture
def values() -> Callable[[nn.Module], Values]:
    """Copies of a model's parameters by name."""
    return lambda model: {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.fixture
def moved() -> Callable[..., Values]:
    """Parameters after some update."""

    def move(before: Values, size: float = 0.02) -> Values:
        stream = torch.Generator().manual_seed(2)
        return {
            name: value + size * torch.randn(value.shape, generator=stream).to(value.dtype)
            for name, value in before.items()
        }

    return move


@pytest.fixture
def backward() -> Callable[..., tuple[Tensor, Values]]:
    """Loss and gradients by way of ``.grad``, on a copy of the model."""

    def run(model, loss_fn, batch, params: Values) -> tuple[Tensor, Values]:
        model = deepcopy(model)
        for name, parameter in model.named_parameters():
            parameter.data.copy_(params[name])
        loss = loss_fn(model(batch[0]), batch[1])
        loss.backward()
        return loss.detach(), {name: p.grad for name, p in model.named_parameters()}

    return run


@pytest.fixture
def dense_hessian() -> Callable[..., Tensor]:
    """The whole Hessian, a row at a time, by double backward through a copy of the model."""

    def hessian(model, loss_fn, batch, params: Values) -> Tensor:
        model = deepcopy(model)
        leaves = list(model.parameters())
        for name, parameter in model.named_parameters():
            parameter.data.copy_(params[name])
        loss = loss_fn(model(batch[0]), batch[1])
        gradients = torch.autograd.grad(loss, leaves, create_graph=True)
        entries = torch.cat([g.flatten() for g in gradients])
        rows = [
            torch.autograd.grad(entry, leaves, retain_graph=True, materialize_grads=True)
            for entry in entries
        ]
        return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])

    return hessian
