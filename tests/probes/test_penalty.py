"""The L2 term: what SGD's weight decay is the gradient of."""

import pytest
import torch
from torch import nn

from src.probes.curvature import along_gradient, largest_eigenvalue
from src.probes.landscape import landscape
from src.probes.shift import internal_covariate_shift

cross_entropy = nn.functional.cross_entropy
DECAY = 0.07


def flat(values):
    return torch.cat([value.flatten() for value in values.values()])


def test_landscape(smooth, images, values, backward):
    theta = values(smooth)

    def penalised(params):
        loss, gradient = backward(smooth, cross_entropy, images, params)
        loss = loss + DECAY / 2 * flat(params).square().sum()
        return loss, {name: g + DECAY * params[name] for name, g in gradient.items()}

    found = landscape(smooth, cross_entropy, images, theta, [0.1, 2.0], weight_decay=DECAY)
    loss, g = penalised(theta)
    torch.testing.assert_close(found.loss_at_zero, loss)
    torch.testing.assert_close(found.grad_norm, flat(g).norm())
    for k, eta in enumerate(found.eta):
        loss, h = penalised({name: theta[name] - eta * g[name] for name in theta})
        torch.testing.assert_close(found.loss[k], loss)
        torch.testing.assert_close(found.grad_diff[k], (flat(h) - flat(g)).norm())
        torch.testing.assert_close(found.beta[k], (flat(h) - flat(g)).norm() / eta / flat(g).norm())


@pytest.mark.parametrize("wrapped", [False, True], ids=["shared prefix", "fallback"])
def test_shift(wrapped, smooth, images, values, moved):
    model = smooth
    if wrapped:
        model = nn.ModuleDict({"inner": smooth})
        model.forward = smooth.forward
    before = values(model)
    arguments = (model, cross_entropy, images, before, moved(before))
    data, whole = (internal_covariate_shift(*arguments, weight_decay=c) for c in (0.0, DECAY))
    torch.testing.assert_close(whole.l2, data.l2)  # W_i is the same in G and G'
    for i, name in enumerate(data.names):
        expected = data.gradients[name] + DECAY * before[name]
        torch.testing.assert_close(whole.gradients[name], expected)
        torch.testing.assert_close(whole.grad_norm[i], expected.norm())
    # <G, G'> from the polarisation of ‖G - G'‖, which the cosine must agree with.
    product = (whole.grad_norm**2 + whole.grad_norm_after**2 - whole.l2**2) / 2
    torch.testing.assert_close(whole.cosine, product / whole.grad_norm / whole.grad_norm_after)


def test_curvature(smooth, images, values, dense_hessian, backward):
    theta = values(smooth)
    hessian = dense_hessian(smooth, cross_entropy, images, theta)
    hessian += DECAY * torch.eye(len(hessian), dtype=hessian.dtype)
    g = flat(backward(smooth, cross_entropy, images, theta)[1]) + DECAY * flat(theta)
    along = along_gradient(smooth, cross_entropy, images, theta, DECAY)
    torch.testing.assert_close(along.curvature, g @ hessian @ g / (g @ g))
    torch.testing.assert_close(along.smoothness, (hessian @ g).norm() / g.norm())
    top = largest_eigenvalue(
        *(smooth, cross_entropy, [images], theta, torch.Generator().manual_seed(0)),
        tolerance=1e-9,
        weight_decay=DECAY,
    )
    torch.testing.assert_close(top.value, torch.linalg.eigvalsh(hessian)[-1], rtol=1e-8, atol=0)
