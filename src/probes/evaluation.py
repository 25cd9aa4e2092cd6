"""A network as a function of its parameters, evaluated without leaving a trace."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

Batch = tuple[Tensor, Tensor]
LossFunction = Callable[[Tensor, Tensor], Tensor]
Parameters = Mapping[str, Tensor]


class Evaluation:
    """The loss of a model on one batch, as a function of the parameters.

    With ``weight_decay`` it has the L2 term ``weight_decay / 2 * ‖theta‖²``, whose gradient is what
    SGD adds to that of the data.

    The model's mode is used as it is: in training mode, batch statistics. Each evaluation gets its
    own copies of the model's buffers, in the precision of the parameters, so that running
    statistics do not move.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        batch: Batch,
        precision: torch.dtype,
        weight_decay: float = 0.0,
    ) -> None:
        self.model, self.loss_fn, self.weight_decay = model, loss_fn, weight_decay
        self.inputs, self.targets = (_cast(part, precision) for part in batch)
        self.precision = precision
        own = {id(p): name for name, p in model.named_parameters()}
        own |= {id(b): name for name, b in model.named_buffers()}
        # Every place once: tie_weights would leave a module that stands in two places with
        # the parameters given here (pytorch#164759).
        self._places = {
            f"{path}.{name}".lstrip("."): own[id(tensor)]
            for path, module in model.named_modules()
            for kind in (module.named_parameters, module.named_buffers)
            for name, tensor in kind(recurse=False, remove_duplicate=False)
        }

    def loss(self, params: Parameters) -> Tensor:
        """Return the loss at ``params``, a scalar with the graph back to them.

        Those that are not the model's are passed over.
        """
        own = {name: params[name] for name, _ in self.model.named_parameters()}
        given = own | {n: _cast(b.clone(), self.precision) for n, b in self.model.named_buffers()}
        point = {place: given[name] for place, name in self._places.items()}
        outputs = functional_call(self.model, point, (self.inputs,), tie_weights=False)
        loss = self.loss_fn(outputs, self.targets)
        if self.weight_decay:
            loss = loss + penalty(own, self.weight_decay)
        return loss

    def gradient(self, params: Parameters, names: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """Return the loss at ``params`` and its gradient with respect to those named.

        It is zero for a parameter that the loss does not depend on.
        """
        point = {name: value.detach() for name, value in params.items()}
        leaves = [point[name].requires_grad_() for name in names]
        with torch.enable_grad():
            loss = self.loss(point)
        return loss.detach(), list(torch.autograd.grad(loss, leaves, materialize_grads=True))


def penalty(params: Parameters, weight_decay: float) -> Tensor:
    """Return the L2 term ``weight_decay / 2 * ‖theta‖²``, a scalar."""
    squares = torch.stack([value.square().sum() for value in params.values()])
    return weight_decay / 2 * squares.sum()


@contextmanager
def untouched() -> Iterator[Callable[[], bool]]:
    """Keep torch's global generators and autocast out of it; also when the body raises.

    Yields:
        A function that sets the generators back to where they were, for the next evaluation to
        draw what the one before drew, and tells whether that one drew anything.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    state = torch.get_rng_state()
    cuda = [torch.cuda.get_rng_state(device) for device in devices]

    def rewind() -> bool:
        drawn = not torch.equal(torch.get_rng_state(), state)
        torch.set_rng_state(state)
        for device, saved in zip(devices, cuda, strict=True):
            drawn |= not torch.equal(torch.cuda.get_rng_state(device), saved)
            torch.cuda.set_rng_state(saved, device)
        return drawn

    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield rewind
    finally:
        rewind()


def _cast(value: Tensor, precision: torch.dtype) -> Tensor:
    return value.to(precision) if value.is_floating_point() else value
