"""The theorems of Santurkar et al. (2018, Section 4), evaluated at one BatchNorm layer.

The setting of the proofs: y is the layer's input, ``yhat = (y - mean) / sigma``,
``z = gamma yhat + beta`` its output, g the gradient of the loss with respect to z, and G the one
with respect to y, as [units, m] with m values a unit. What the paper compares with, the network
without BatchNorm, is taken to have that same gradient g at its activations. Theorems 4.1 and 4.2
are then identities up to epsilon: what matters is the size of each part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from src.probes.evaluation import Batch, Evaluation, LossFunction, Parameters, untouched


@dataclass(frozen=True)
class GradientParts:
    """Theorem 4.1, one value a unit: ``‖G‖² = factor (1 - mean - correlation) ‖g‖²``.

    Attributes:
        left: ``‖G‖²``, measured.
        right: The theorem's right-hand side.
        plain: ``‖g‖²``; where it is 0, the unit is dead and its shares are NaN.
        factor: ``gamma² / sigma²``.
        mean: ``<1, g>² / (m ‖g‖²)``, the share the projection takes away with the mean.
        correlation: ``<g, yhat>² / (m ‖g‖²)``, the share it takes with the activations.
    """

    left: Tensor
    right: Tensor
    plain: Tensor
    factor: Tensor
    mean: Tensor
    correlation: Tensor


@dataclass(frozen=True)
class CurvatureParts:
    """Theorem 4.2, one value a unit: ``left = factor * form - correction``.

    Attributes:
        left: ``G' (d²L/dy²) G``.
        form: ``G' (d²L/dz²) G``, the quadratic form at the output.
        factor: ``gamma² / sigma²``.
        correction: ``gamma / (m sigma²) <g, yhat> ‖G‖²``.
        holds: Whether the theorem's preconditions hold: ``form >= 0`` and ``<g, yhat> >= 0``.
    """

    left: Tensor
    form: Tensor
    factor: Tensor
    correction: Tensor
    holds: Tensor

    @property
    def right(self) -> Tensor:
        """The theorem's right-hand side."""
        return self.factor * self.form - self.correction


def gradient_parts(
    G: Tensor, g: Tensor, yhat: Tensor, gamma: Tensor, sigma: Tensor
) -> GradientParts:
    """Return both sides of Theorem 4.1; tensors are [units, m], gamma and sigma [units]."""
    m, norm = g.shape[1], (g**2).sum(1)
    mean, correlation = g.sum(1) ** 2 / (m * norm), (g * yhat).sum(1) ** 2 / (m * norm)
    factor = (gamma / sigma) ** 2
    right = torch.where(norm > 0, factor * norm * (1 - mean - correlation), norm)
    return GradientParts((G**2).sum(1), right, norm, factor, mean, correlation)


def minimax_gradients(
    g: Tensor, yhat: Tensor, gamma: Tensor, sigma: Tensor, bound: float
) -> tuple[Tensor, Tensor]:
    """Return Theorem 4.4's worst squared gradients with and without BatchNorm, each [units].

    Over inputs with ``‖X‖ <= bound`` and activation gradients held fixed: without, bound² ‖g‖²;
    with, ``gamma²/sigma² bound² (‖g‖² - m mean(g)² - <g, yhat>² / m)``. The printed theorem lacks
    squares that its proof has; this is the proof's form.
    """
    m, plain = g.shape[1], bound**2 * (g**2).sum(1)
    taken = bound**2 * (m * g.mean(1) ** 2 + (g * yhat).sum(1) ** 2 / m)
    return (gamma / sigma) ** 2 * (plain - taken), plain


def optimum_distances(start: Tensor, optimum: Tensor) -> tuple[Tensor, Tensor]:
    """Return Lemma 4.5's squared distances to the optimum with and without BatchNorm.

    With BatchNorm every multiple ``k > 0`` of ``optimum`` is one; the nearest to ``start`` has
    ``k = <start, optimum> / ‖optimum‖²``, and the distance shrinks by
    ``(‖optimum‖² - <optimum, start>)² / ‖optimum‖²``.

    Raises:
        ValueError: If ``<start, optimum>`` is not positive, as the lemma requires.
    """
    product, norm = (start * optimum).sum(), (optimum**2).sum()
    if not product > 0:
        raise ValueError("Lemma 4.5 requires <start, optimum> > 0")
    plain = ((start - optimum) ** 2).sum()
    return plain - (norm - product) ** 2 / norm, plain


def at_layer(
    model: nn.Sequential,
    loss_fn: LossFunction,
    batch: Batch,
    params: Parameters,
    norm: str,
    units: Sequence[int],
) -> tuple[GradientParts, CurvatureParts]:
    """Return both theorems' parts at one BatchNorm layer of a network at ``params``.

    Args:
        model: Its norm is in training mode.
        loss_fn: ``(output, target) -> scalar``.
        batch: ``(inputs, targets)``.
        params: The parameters by name; their precision is the probe's.
        norm: The name of the norm, a child of ``model``.
        units: The units Theorem 4.2 is evaluated at; Theorem 4.1 is for all.

    Raises:
        ValueError: If the norm does not normalise by the batch, as both theorems take for granted.
    """
    if not model.get_submodule(norm).training:
        raise ValueError(f"{norm} is in evaluation mode: the theorems are of batch statistics")
    place = list(model._modules).index(norm)
    head, layer, tail = model[:place], model[place : place + 1], model[place + 1 :]
    theta = {name: value.detach() for name, value in params.items()}
    precision = next(iter(params.values())).dtype

    def part(module: nn.Module, inputs: Tensor) -> Tensor:
        return Evaluation(module, lambda x, _: x, (inputs, batch[1]), precision).loss(theta)

    with untouched():
        with torch.no_grad():
            y = part(head, batch[0]).detach().requires_grad_()
        with torch.enable_grad():
            z = part(layer, y)
            loss = loss_fn(part(tail, z), batch[1])
            g, G = torch.autograd.grad(loss, [z, y], create_graph=True)
            eps = cast(float, model[place].eps)
            sigma = (_by_unit(y).var(1, correction=0) + eps).sqrt().detach()
            yhat = ((_by_unit(y) - _by_unit(y).mean(1, keepdim=True)) / sigma[:, None]).detach()
            gamma = theta.get(f"{norm}.weight", torch.ones_like(sigma))
            forms, lefts = [], []
            for unit in units:
                v = torch.zeros_like(y)
                v[:, unit] = G[:, unit].detach()
                forms.append(_quadratic_form(g, z, v))
                lefts.append(_quadratic_form(G, y, v))
    flat_g, flat_G = _by_unit(g.detach()), _by_unit(G.detach())
    first = gradient_parts(flat_G, flat_g, yhat, gamma, sigma)
    chosen, m = list(units), flat_g.shape[1]
    alignment = (flat_g * yhat).sum(1)[chosen]
    correction = gamma[chosen] / (m * sigma[chosen] ** 2) * alignment * first.left[chosen]
    form = torch.stack(forms)
    second = CurvatureParts(
        left=torch.stack(lefts),
        form=form,
        factor=first.factor[chosen],
        correction=correction,
        holds=(form >= 0) & (alignment >= 0),
    )
    return first, second


def _quadratic_form(gradient: Tensor, at: Tensor, v: Tensor) -> Tensor:
    """Return v'Hv, H the derivative of ``gradient`` with respect to ``at``."""
    (product,) = torch.autograd.grad(
        (gradient * v).sum(), at, retain_graph=True, materialize_grads=True
    )
    return (product * v).sum()


def _by_unit(x: Tensor) -> Tensor:
    """Return [N, C, ...] as [C, m]."""
    return x.transpose(0, 1).flatten(1)
