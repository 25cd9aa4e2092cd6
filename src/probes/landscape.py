"""The loss along a direction (Santurkar et al. 2018, Appendix A.2.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.probes.evaluation import Batch, Evaluation, LossFunction, Parameters, untouched

Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True)
class Landscape:
    """What one meets on the way from theta to theta(eta), one value a step size unless said.

    Attributes:
        eta: The step sizes.
        loss: ``L(theta(eta))``.
        grad_norm_at: ``‖g(eta)‖``.
        grad_diff: ``‖g(eta) - g‖``, the paper's gradient predictiveness.
        cosine: Of g(eta) and g; NaN where either is zero.
        beta: ``‖g(eta) - g‖ / ‖theta(eta) - theta‖``, the paper's effective beta-smoothness.
        loss_at_zero: ``L(theta)``, a scalar.
        grad_norm: ``‖g‖``, a scalar.
        weight_norm: ``‖theta‖``, a scalar.
    """

    eta: Tensor
    loss: Tensor
    grad_norm_at: Tensor
    grad_diff: Tensor
    cosine: Tensor
    beta: Tensor
    loss_at_zero: Tensor
    grad_norm: Tensor
    weight_norm: Tensor


def landscape(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Batch,
    params: Parameters,
    step_sizes: Sequence[float],
    direction: Parameters | None = None,
    metric: str = "euclidean",
    weight_decay: float = 0.0,
    matched: bool = False,
    at_zero: tuple[Tensor, list[Tensor]] | None = None,
) -> Landscape:
    """Return loss and gradient at theta(eta) for each step size.

    Euclidean, as in the papers: ``theta(eta) = theta - eta d`` and beta is
    ``‖g(eta) - g‖ / (eta ‖d‖)``, with d the gradient g unless given. Relative: with D the norm of
    each parameter, ``theta(eta) = theta - eta D² d``, beta is ``‖D (g(eta) - g)‖ / (eta ‖D d‖)``,
    and gradient norms, difference and cosine are of D g. At a given eta that is unchanged when the
    layers of a ReLU or normalised network are rescaled against each other; a parameter that is 0
    stays there.

    Args:
        model: Any module, used in its current mode.
        loss_fn: ``(output, target) -> scalar``.
        batch: ``(inputs, targets)``.
        params: theta, by name; its precision is the probe's.
        step_sizes: The etas.
        direction: d, by name; default: the gradient.
        metric: ``euclidean`` or ``relative``.
        weight_decay: Coefficient of the L2 term in the loss, see :class:`Evaluation`.
        matched: Take every step size times ``‖g‖² / ‖D g‖²``, so that a step along the gradient
            promises the decrease of the loss, to first order, that it promises in the euclidean
            metric. D² is a hundred in a usual layer; the same eta would lead that much farther.
            What is matched goes with the scale of the layers, as the euclidean steps do.
        at_zero: ``L(theta)`` and g, as ``Evaluation.gradient`` returns them, where they are known.

    Raises:
        ValueError: If the metric is neither.
    """
    if metric not in ("euclidean", "relative"):
        raise ValueError(f"metric={metric}: allowed is euclidean or relative")
    names, theta = list(params), [value.detach() for value in params.values()]
    evaluation = Evaluation(model, loss_fn, batch, theta[0].dtype, weight_decay)
    D = torch.stack([value.norm() for value in theta])
    if metric == "euclidean":
        D = torch.ones_like(D)

    # torch._foreach_*: sixty parameters one by one would take a twentieth of a training step.
    def norm(vector: Tensors) -> Tensor:
        return (D * torch.stack(torch._foreach_norm(vector))).norm()

    def inner(u: Tensors, v: Tensors, D: Tensor) -> Tensor:
        return D**2 @ torch.stack([product.sum() for product in torch._foreach_mul(u, v)])

    def at(size: float) -> Tensor:
        moved = torch._foreach_add(theta, path, alpha=-size)
        loss, h = evaluation.gradient(dict(zip(names, moved, strict=True)), names)
        return torch.stack([loss, norm(h), norm(torch._foreach_sub(h, g)), inner(g, h, D)])

    with untouched() as rewind:
        loss_at_zero, g = at_zero or evaluation.gradient(params, names)
        d = g if direction is None else [direction[name].detach() for name in names]
        one = torch.ones_like(D)
        match = inner(g, g, one) / inner(g, g, D) if matched else one[0]
        match = torch.where(match.isnan(), one[0], match)  # where there is no gradient
        path = torch._foreach_mul(d, list(match * D**2))
        points = []
        for size in step_sizes:
            rewind()
            points.append(at(size))
    loss, grad_norm_at, grad_diff, product = torch.stack(points).unbind(1)
    eta, grad_norm = match * D.new_tensor(step_sizes), norm(g)
    return Landscape(
        eta=eta,
        loss=loss,
        grad_norm_at=grad_norm_at,
        grad_diff=grad_diff,
        cosine=product / (grad_norm * grad_norm_at),
        beta=grad_diff / (eta.abs() * norm(d)),
        loss_at_zero=loss_at_zero,
        grad_norm=grad_norm,
        weight_norm=torch.stack([p.norm() for p in theta]).norm(),
    )
