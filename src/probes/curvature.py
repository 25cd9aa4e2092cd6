"""Second derivatives of the loss: along the gradient, and at their largest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.probes.evaluation import Batch, Evaluation, LossFunction, Parameters, untouched


@dataclass(frozen=True)
class GradientCurvature:
    """The Hessian H along the gradient g of one batch; both scalars, NaN where g is zero.

    As everywhere in this file, what autograd takes for a constant in the gradient it takes for one
    in H: of a network that detaches what depends on its parameters, H is not the loss's Hessian.

    Attributes:
        curvature: ``g'Hg / g'g``, whose edge of stability is 2/LR under SGD (Andreyev &
            Beneventano 2024).
        smoothness: ``‖Hg‖ / ‖g‖``, the limit of effective beta as eta goes to 0.
    """

    curvature: Tensor
    smoothness: Tensor


def along_gradient(
    model: nn.Module,
    loss_fn: LossFunction,
    batch: Batch,
    params: Parameters,
    weight_decay: float = 0.0,
) -> GradientCurvature:
    """Return the curvature along the batch's own gradient, in the precision of ``params``.

    ``weight_decay`` is the coefficient of the L2 term in the loss, see :class:`Evaluation`.
    """
    with untouched() as rewind:
        hessian = _Hessian(model, loss_fn, [batch], params, weight_decay)
        _, gradient = hessian.evaluations[0].gradient(params, list(params))
        g = _flat(gradient)
        g = g / g.norm()
        rewind()
        product = hessian @ g
        return GradientCurvature(product @ g, product.norm())


@dataclass(frozen=True)
class Eigenvalue:
    """An eigenvalue of the Hessian: one lies within ``error`` of ``value``; both scalars."""

    value: Tensor
    error: Tensor


def largest_eigenvalue(
    model: nn.Module,
    loss_fn: LossFunction,
    batches: Sequence[Batch],
    params: Parameters,
    generator: torch.Generator,
    iterations: int = 50,
    tolerance: float = 1e-3,
    weight_decay: float = 0.0,
) -> Eigenvalue:
    """Return the largest eigenvalue of the mean loss's Hessian, by Lanczos.

    Each new vector is orthogonalised twice against all before it, so no eigenvalue comes up again
    as its own ghost. The error is the norm of the residual of the Ritz pair; both are NaN where the
    loss is not finite.

    Args:
        model: Any module; in training mode each batch has its own statistics.
        loss_fn: ``(output, target) -> scalar``.
        batches: Batches of equal size, kept fixed.
        params: Where, by name; their precision is the probe's.
        generator: Draws the start vector, on the device of the parameters.
        iterations: At most so many Hessian-vector products.
        tolerance: Stop once the error is below this share of the value.
        weight_decay: Coefficient of the L2 term in the loss, see :class:`Evaluation`.
    """
    like = next(iter(params.values()))
    size = sum(value.numel() for value in params.values())
    vector = like.new_empty(size).normal_(generator=generator)
    basis = vector.new_empty(min(iterations, size), size)
    with untouched() as rewind:
        hessian = _Hessian(model, loss_fn, batches, params, weight_decay)
        tridiagonal = torch.zeros(len(basis), len(basis), dtype=torch.float64)
        for k in range(len(basis)):
            basis[k] = vector / vector.norm()
            rewind()
            vector = hessian @ basis[k]
            along = vector @ basis[k]
            for _ in range(2):
                vector = vector - basis[: k + 1].T @ (basis[: k + 1] @ vector)
            inside, outside = torch.stack([along, vector.norm()]).tolist()  # the one wait a product
            if not math.isfinite(inside + outside):
                return Eigenvalue(vector.new_tensor(torch.nan), vector.new_tensor(torch.nan))
            tridiagonal[k, k] = inside
            values, vectors = torch.linalg.eigh(tridiagonal[: k + 1, : k + 1])
            error = outside * abs(vectors[-1, -1])
            if error <= tolerance * abs(values[-1]):
                break
            tridiagonal[k, k + 1 : k + 2] = tridiagonal[k + 1 : k + 2, k] = outside
    return Eigenvalue(values[-1].to(vector.device), error.to(vector.device))


class _Hessian:
    """The Hessian of the mean loss over batches, as an operator on flat vectors."""

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        batches: Sequence[Batch],
        params: Parameters,
        weight_decay: float,
    ) -> None:
        precision = next(iter(params.values())).dtype
        self.evaluations = [
            Evaluation(model, loss_fn, batch, precision, weight_decay) for batch in batches
        ]
        self.params = params

    def __matmul__(self, vector: Tensor) -> Tensor:
        """Return H v, by differentiating <g, v>."""
        parts = vector.split([value.numel() for value in self.params.values()])
        total = torch.zeros_like(vector)
        for evaluation in self.evaluations:
            point = {n: p.detach().requires_grad_() for n, p in self.params.items()}
            leaves = list(point.values())
            with torch.enable_grad():
                gradient = torch.autograd.grad(
                    evaluation.loss(point), leaves, create_graph=True, materialize_grads=True
                )
                slope = sum(
                    (g.flatten() @ part for g, part in zip(gradient, parts, strict=True)),
                    start=vector.new_zeros(()).requires_grad_(),  # also where no g depends on theta
                )
            products = torch.autograd.grad(slope, leaves, materialize_grads=True)
            total += _flat(products)
        return total / len(self.evaluations)


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
