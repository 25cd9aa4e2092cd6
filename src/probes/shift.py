"""Internal covariate shift (Santurkar et al. 2018, Definition 2.1)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat
from typing import TypeGuard

import torch
from torch import Tensor, nn

from src.probes.evaluation import Batch, Evaluation, LossFunction, Parameters, untouched
from src.probes.layers import Layers, default_layers


@dataclass(frozen=True)
class Shift:
    """The shift of each measured layer's gradient, one value a layer.

    Attributes:
        names: The layers' weights W_i.
        l2: ``‖G - G'‖``.
        cosine: ``<G, G'> / (‖G‖ ‖G'‖)``; NaN where a gradient is zero.
        grad_norm: ``‖G‖``.
        grad_norm_after: ``‖G'‖``.
        gradients: The G themselves, by name.
    """

    names: list[str]
    l2: Tensor
    cosine: Tensor
    grad_norm: Tensor
    grad_norm_after: Tensor
    gradients: dict[str, Tensor]

    @property
    def relative(self) -> Tensor:
        """``‖G - G'‖ / ‖G‖``, unchanged when the loss or the weights are rescaled."""
        return self.l2 / self.grad_norm


def internal_covariate_shift(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Batch,
    before: Parameters,
    after: Parameters,
    layers: Layers | None = None,
    only: Sequence[int] | None = None,
    weight_decay: float = 0.0,
) -> Shift:
    """Return how far the update of the layers before it moves each layer's gradient.

    For layer i, G is the gradient of the loss with respect to W_i at the parameters before the
    update, and G' the same where all parameters of layers 1 to i - 1 have taken the update; layer i
    and those after it have not. Batch, noise and mode are the same for both.

    Args:
        model: Any module. If it is a Sequential, the input of layer i after the update is computed
            once and carried on to layer i + 1, and the backward pass stops at layer i.
        loss_fn: ``(output, target) -> scalar``.
        batch: ``(inputs, targets)``.
        before: The parameters by name, as ``model.named_parameters()`` gives them; their precision
            is the probe's.
        after: The same after the update.
        layers: The parameter names of each layer, W_i first, in the order of the computation;
            default: :func:`src.probes.layers.default_layers`. What is in none takes no update.
        only: The layers to measure, counted from 1; default: all. They come in the order of
            ``layers``.
        weight_decay: Coefficient of the L2 term in the loss, see :class:`Evaluation`.

    Raises:
        ValueError: If ``only`` names no layer or one that is not there, or ``layers`` a parameter
            that is not, or a layer without any.
    """
    chosen = default_layers(model) if layers is None else [list(layer) for layer in layers]
    if not all(chosen) or any(name not in before for layer in chosen for name in layer):
        raise ValueError(f"layers={chosen}: allowed are lists of some of {list(before)}")
    counted = range(1, len(chosen) + 1)
    measured = sorted(set(counted if only is None else only))
    if not measured or not set(measured) <= set(counted):
        raise ValueError(f"only={only}: allowed are some of the layers 1 to {len(chosen)}")
    names = [chosen[i - 1][0] for i in measured]
    precision = next(iter(before.values())).dtype
    evaluation = Evaluation(model, loss_fn, batch, precision, weight_decay)

    def mixed(i: int) -> dict[str, Tensor]:
        preceding = {name for layer in chosen[: i - 1] for name in layer}
        return {name: (after if name in preceding else before)[name] for name in before}

    with untouched() as rewind:
        gradients = dict(zip(names, evaluation.gradient(before, names)[1], strict=True))
        rests: Iterator[Evaluation] = repeat(evaluation)
        if not rewind() and layers is None and _is_chain(model):
            rests = _carried(model, evaluation, chosen, mixed)
        rows = []
        for i, rest in zip(range(1, measured[-1] + 1), rests, strict=False):
            if i in measured:
                name = chosen[i - 1][0]
                g = gradients[name]
                h = rest.gradient(mixed(i), [name])[1][0] if i > 1 else g
                rows.append(torch.stack([(g - h).norm(), (g * h).sum(), g.norm(), h.norm()]))
                rewind()
    l2, product, norm, norm_after = torch.stack(rows).unbind(1)
    return Shift(
        names=names,
        l2=l2,
        cosine=product / (norm * norm_after),
        grad_norm=norm,
        grad_norm_after=norm_after,
        gradients=gradients,
    )


def _carried(
    model: nn.Sequential,
    evaluation: Evaluation,
    layers: Layers,
    mixed: Callable[[int], Parameters],
) -> Iterator[Evaluation]:
    """Yield for each layer the network from it on, at the inputs it gets after the update."""
    places = {name: place for place, name in enumerate(model._modules)}
    starts = [0, *(places[layer[0].partition(".")[0]] for layer in layers[1:])]
    inputs, targets, precision = evaluation.inputs, evaluation.targets, evaluation.precision
    for i, (start, end) in enumerate(pairwise([*starts, len(places)]), start=1):
        rest = (model[start:], evaluation.loss_fn, (inputs, targets), precision)
        yield Evaluation(*rest, evaluation.weight_decay)
        segment = Evaluation(model[start:end], lambda x, _: x, (inputs, targets), precision)
        with torch.no_grad():
            inputs = segment.loss(mixed(i + 1))


def _is_chain(model: nn.Module) -> TypeGuard[nn.Sequential]:
    """Tell whether a model is its children in a row and no more, none sharing a parameter."""
    hooks = ("forward_pre", "forward", "backward_pre", "backward")
    if type(model) is not nn.Sequential or any(getattr(model, f"_{kind}_hooks") for kind in hooks):
        return False
    owned = [id(parameter) for child in model for parameter in child.parameters()]
    return len(owned) == len(set(owned))
