from copy import deepcopy

import pytest
import torch
from backpack.hessianfree.hvp import hessian_vector_product
from torch import Tensor, nn

from src.probes.evaluation import Evaluation
from src.probes.landscape import Landscape, landscape

cross_entropy = nn.functional.cross_entropy
ETAS = [0.05, 0.1, 0.2, 0.4]


def flat(tensors) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def agree(one: Landscape, other: Landscape, rtol: float, *names: str) -> None:
    for name in names or vars(one):
        torch.testing.assert_close(
            getattr(one, name), getattr(other, name), rtol=rtol, atol=1e-13, msg=name
        )


class TestQuadratic:
    """A linear map under the mean squared error: its Hessian H is the same everywhere."""

    @pytest.fixture
    def quadratic(self):
        stream = torch.Generator().manual_seed(0)
        X = torch.randn(20, 3, generator=stream, dtype=torch.float64)
        Y = torch.randn(20, 1, generator=stream, dtype=torch.float64)
        w = torch.randn(1, 3, generator=stream, dtype=torch.float64)
        model = nn.Linear(3, 1, bias=False).double()
        H, g = 2 * X.T @ X / 20, 2 * (w @ X.T - Y.T) @ X / 20
        return model, nn.functional.mse_loss, (X, Y), {"weight": w}, H, g[0]

    def test_along_the_gradient(self, quadratic):
        *problem, params, H, g = quadratic
        etas = [1e-3, 0.1, 1.0, 7.0, -0.5]
        measured = landscape(*problem, params, etas)
        eta = torch.tensor(etas, dtype=torch.float64)
        loss = nn.functional.mse_loss(problem[2][0] @ params["weight"].T, problem[2][1])
        expected = Landscape(
            eta=eta,
            loss=loss - eta * (g @ g) + eta**2 / 2 * (g @ H @ g),
            grad_norm_at=torch.stack([(g - e * H @ g).norm() for e in eta]),
            grad_diff=eta.abs() * (H @ g).norm(),
            cosine=torch.stack([torch.cosine_similarity(g - e * H @ g, g, 0) for e in eta]),
            beta=torch.full_like(eta, ((H @ g).norm() / g.norm()).item()),
            loss_at_zero=loss,
            grad_norm=g.norm(),
            weight_norm=params["weight"].norm(),
        )
        agree(measured, expected, 1e-9)

    def test_along_a_given_direction(self, quadratic):
        *problem, params, H, g = quadratic
        d = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
        measured = landscape(*problem, params, ETAS, direction={"weight": d[None]})
        assert measured.beta.tolist() == pytest.approx([((H @ d).norm() / d.norm()).item()] * 4)
        eta = measured.eta
        loss = measured.loss_at_zero - eta * (g @ d) + eta**2 / 2 * (d @ H @ d)
        torch.testing.assert_close(measured.loss, loss)
        torch.testing.assert_close(measured.grad_norm, g.norm())
        torch.testing.assert_close(measured.grad_diff, eta * (H @ d).norm())

    def test_relative_metric(self, quadratic):
        """One layer: D is a number, the step D² g and beta D² times the euclidean one."""
        *problem, params, _, _ = quadratic
        D = params["weight"].norm().item()
        measured = landscape(*problem, params, ETAS, metric="relative")
        euclidean = landscape(*problem, params, [D**2 * eta for eta in ETAS])
        agree(measured, euclidean, 1e-10, "loss", "cosine", "loss_at_zero", "weight_norm")
        torch.testing.assert_close(measured.beta, D**2 * euclidean.beta)
        torch.testing.assert_close(measured.grad_diff, D * euclidean.grad_diff)
        torch.testing.assert_close(measured.grad_norm_at, D * euclidean.grad_norm_at)
        torch.testing.assert_close(measured.grad_norm, D * euclidean.grad_norm)


@pytest.mark.parametrize("variant", ["vgg", "vgg_bn", "vgg_noisy"])
@pytest.mark.parametrize("metric", ["euclidean", "relative"])
def test_against_the_definition_by_way_of_grad(variant, metric, vgg, images, values, backward):
    model = vgg(f"model={variant}")
    theta = values(model)
    D = {n: theta[n].norm() if metric == "relative" else 1.0 for n in theta}

    def weighted(vector) -> Tensor:
        return flat(D[n] * vector[n] for n in theta)

    def at(eta: float) -> tuple[Tensor, dict[str, Tensor]]:
        there = {n: theta[n] - eta * D[n] ** 2 * gradient[n] for n in theta}
        loss, h = backward(model, cross_entropy, images, there)
        return loss, weighted(h)

    loss_at_zero, gradient = backward(model, cross_entropy, images, theta)
    g = weighted(gradient)
    points = [at(eta) for eta in ETAS]
    measured = landscape(model, cross_entropy, images, theta, ETAS, metric=metric)
    differences = torch.stack([(h - g).norm() for _, h in points])
    expected = Landscape(
        eta=torch.tensor(ETAS, dtype=torch.float64),
        loss=torch.stack([loss for loss, _ in points]),
        grad_norm_at=torch.stack([h.norm() for _, h in points]),
        grad_diff=differences,
        cosine=torch.stack([torch.cosine_similarity(h, g, 0) for _, h in points]),
        beta=differences / torch.tensor(ETAS, dtype=torch.float64) / g.norm(),
        loss_at_zero=loss_at_zero,
        grad_norm=g.norm(),
        weight_norm=flat(theta.values()).norm(),
    )
    agree(measured, expected, 1e-8)


class TestLimit:
    """As eta -> 0, beta -> ‖Hg‖ / ‖g‖, through BatchNorm in training mode too."""

    def test_against_backpack(self, smooth, images, values):
        model = deepcopy(smooth)
        leaves = list(model.parameters())
        loss = cross_entropy(model(images[0]), images[1])
        g = torch.autograd.grad(loss, leaves, create_graph=True)
        Hg = hessian_vector_product(loss, leaves, [part.detach() for part in g])
        limit = flat(Hg).norm() / flat(g).norm()
        measured = landscape(smooth, cross_entropy, images, values(smooth), [1e-6, -1e-6])
        torch.testing.assert_close(measured.beta, limit.detach().expand(2), rtol=1e-5, atol=0)
        assert abs(measured.beta.mean() / limit - 1) < 1e-8  # the first orders cancel

    def test_against_central_differences(self, smooth, images, values, backward):
        theta = values(smooth)
        g = backward(smooth, cross_entropy, images, theta)[1]
        ahead, behind = (
            flat(
                backward(smooth, cross_entropy, images, {n: theta[n] + s * 1e-4 * g[n] for n in g})[
                    1
                ].values()
            )
            for s in (1, -1)
        )
        limit = (ahead - behind).norm() / 2e-4 / flat(g.values()).norm()
        measured = landscape(smooth, cross_entropy, images, theta, [1e-6])
        assert measured.beta.item() == pytest.approx(limit.item(), rel=1e-5)


@pytest.mark.parametrize("variant", ["vgg", "vgg_bn", "vgg_noisy", "vgg_plain_noisy"])
def test_the_loss_at_zero_is_the_training_loss_to_the_bit(variant, vgg, images, values, backward):
    model = vgg(f"model={variant}", dtype=torch.float32).to(memory_format=torch.channels_last)
    batch = (images[0].float().to(memory_format=torch.channels_last), images[1])
    expected, gradient = backward(model, cross_entropy, batch, values(model))
    measured = landscape(model, cross_entropy, batch, values(model), ETAS)
    assert measured.loss_at_zero == expected
    assert measured.loss_at_zero.dtype == measured.beta.dtype == torch.float32
    norm = flat(gradient.values()).norm()
    torch.testing.assert_close(measured.grad_norm, norm, rtol=1e-5, atol=0)


def test_without_a_gradient_there_is_nothing_to_match(images, values):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).double()
    arguments = (model, lambda o, _: 0 * o.sum(), images, values(model), [0.1, 0.4])
    found = landscape(*arguments, metric="relative", matched=True)
    assert found.eta.tolist() == [0.1, 0.4] and found.loss.tolist() == [0.0, 0.0]
    assert found.beta.isnan().all() and found.grad_diff.tolist() == [0.0, 0.0]


class TestRescaled:
    """The relative metric sees the function, not how large the weights that make it are."""

    def pair(self, model, factors, batch, values):
        theta = values(model)
        rescaled = {name: factors.get(name, 1.0) * value for name, value in theta.items()}
        return [
            landscape(model, cross_entropy, batch, params, [0.01, 0.1, 1.0], metric=metric)
            for metric in ("relative", "euclidean")
            for params in (theta, rescaled)
        ]

    @pytest.mark.parametrize("factor", [3.0, 1 / 3])
    @pytest.mark.parametrize("bias", [True, False])
    def test_layers_of_a_relu_network_against_each_other(self, factor, bias, images, values):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=4, bias=bias),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, bias=bias),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(144, 10, bias=bias),
        ).double()
        factors = {"0.weight": factor, "0.bias": factor, "2.weight": 1 / factor}
        one, other, raw, disturbed = self.pair(model, factors, images, values)
        invariants = [name for name in vars(one) if name != "weight_norm"]
        agree(one, other, 1e-9, *invariants)
        assert not torch.allclose(raw.beta, disturbed.beta, rtol=0.1)

    @pytest.mark.parametrize("factor", [3.0, 1 / 3])
    @pytest.mark.parametrize("kind", ["torch", "scratch"])
    @pytest.mark.parametrize("affine", ["true", "false"])
    def test_a_normalised_layer_s_weight(self, factor, kind, affine, vgg, images, values):
        model = vgg(
            "model=vgg_bn",
            f"model.affine={affine}",
            "model.eps=1e-12",
            "model.activation=tanh",
            f"model.batch_norm={kind}",
        )
        one, other, raw, disturbed = self.pair(model, {"conv2.weight": factor}, images, values)
        agree(one, other, 1e-7, *(name for name in vars(one) if name != "weight_norm"))
        assert not torch.allclose(raw.beta, disturbed.beta, rtol=0.01)


class TestDegenerate:
    def test_a_zero_gradient_has_no_direction(self):
        model = nn.Linear(2, 1)
        params = {"weight": torch.zeros(1, 2), "bias": torch.zeros(1)}
        batch = (torch.ones(3, 2), torch.zeros(3, 1))
        for metric in ("euclidean", "relative"):
            found = landscape(
                model, nn.functional.mse_loss, batch, params, [0.1, 1.0], metric=metric
            )
            assert torch.isnan(found.cosine).all() and torch.isnan(found.beta).all()
            assert (found.grad_diff == 0).all() and (found.loss == 0).all()

    @pytest.mark.parametrize("variant", ["vgg", "vgg_bn"])
    def test_a_point_that_overflows_leaves_the_others_valid(self, variant, vgg, images, values):
        model = vgg(f"model={variant}", dtype=torch.float32)
        batch = (images[0].float(), images[1])
        theta = values(model)
        found = landscape(model, cross_entropy, batch, theta, [0.1, 1e38, 0.2])
        alone = landscape(model, cross_entropy, batch, theta, [0.1, 0.2])
        assert not torch.isfinite(found.beta[1]) and not torch.isfinite(found.grad_diff[1])
        for name in ("loss", "beta", "cosine", "grad_diff", "grad_norm_at"):
            assert torch.equal(getattr(found, name)[[0, 2]], getattr(alone, name)), name
            assert torch.isfinite(getattr(alone, name)).all()

    def test_a_parameter_with_no_part_in_the_loss(self, images):
        """Such as one that the forward pass leaves out: its gradient is zero."""
        model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).double()
        model.register_parameter("idle", nn.Parameter(torch.ones(3).double()))
        params = {name: p.detach() for name, p in model.named_parameters()}
        found = landscape(model, cross_entropy, images, params, ETAS)
        assert torch.isfinite(found.beta).all()

    @pytest.mark.parametrize("metric", ["cosine", "Relative", ""])
    def test_an_unknown_metric(self, metric, smooth, images, values):
        with pytest.raises(ValueError, match="allowed is euclidean or relative"):
            landscape(smooth, cross_entropy, images, values(smooth), ETAS, metric=metric)


def test_a_network_that_reads_the_global_generator_draws_the_same_everywhere(images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(3072, 10)).double()
    params = {name: p.detach() for name, p in model.named_parameters()}
    still = landscape(model, cross_entropy, images, params, [0.0, 0.0])
    assert (still.loss == still.loss_at_zero).all() and (still.grad_diff == 0).all()


def test_a_network_whose_buffers_matter_in_training_is_the_same_everywhere(images):
    """Spectral normalisation moves a buffer that its own output depends on."""
    torch.manual_seed(0)
    layer = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(3072, 10))
    model = nn.Sequential(nn.Flatten(), layer).double()
    params = {name: p.detach() for name, p in model.named_parameters()}
    still = landscape(model, cross_entropy, images, params, [0.0, 0.0])
    assert (still.loss == still.loss_at_zero).all() and (still.grad_diff == 0).all()


def test_parameters_that_require_gradients_give_figures_that_do_not(smooth, images):
    found = landscape(
        smooth,
        cross_entropy,
        images,
        dict(smooth.named_parameters()),
        ETAS,
        direction=dict(smooth.named_parameters()),
        metric="relative",
    )
    assert not any(value.requires_grad for value in vars(found).values())


@pytest.mark.parametrize("given", [False, True], ids=["gradient", "direction"])
def test_matched_step_sizes_promise_the_same_decrease(given, vgg, images, values, moved):
    network = vgg("model=vgg_bn")
    theta = values(network)
    arguments = (network, cross_entropy, images, theta)
    direction = moved({n: torch.zeros_like(v) for n, v in theta.items()}, 1.0) if given else None
    plain = landscape(*arguments, [0.05, 0.4], direction)
    matched = landscape(*arguments, [0.05, 0.4], direction, "relative", matched=True)
    # In steps along the gradient so short that the loss is linear, the decreases are equal ...
    short = [1e-7, 2e-7]
    one = landscape(*arguments, short)
    other = landscape(*arguments, short, None, "relative", matched=True)
    torch.testing.assert_close(
        one.loss - one.loss_at_zero, other.loss - other.loss_at_zero, rtol=1e-3, atol=1e-14
    )
    torch.testing.assert_close(other.eta / one.eta, matched.eta / plain.eta)
    # ... and the etas are those at which the unmatched probe finds the same.
    again = landscape(*arguments, matched.eta.tolist(), direction, "relative")
    for name in ("eta", "loss", "grad_diff", "beta"):
        torch.testing.assert_close(getattr(again, name), getattr(matched, name))
    torch.testing.assert_close(matched.eta[1] / matched.eta[0], plain.eta[1] / plain.eta[0])


@pytest.mark.parametrize("variant", ["vgg_bn", "vgg_noisy"])
def test_a_known_gradient_saves_an_evaluation_and_changes_nothing(variant, vgg, images, values):
    network = vgg(f"model={variant}")
    theta = values(network)
    problem = (network, cross_entropy, images, theta, ETAS)
    expected = landscape(*problem, metric="relative")
    at_zero = Evaluation(*problem[:3], torch.float64).gradient(theta, list(theta))
    passes = []
    network.register_forward_hook(lambda *_: passes.append(1))
    agree(landscape(*problem, metric="relative", at_zero=at_zero), expected, 0)
    assert len(passes) == len(ETAS)


def test_parameters_that_share_a_gradient_tensor():
    class Sum(nn.Module):
        """A linear map whose weight is the sum of two: autograd gives both the same tensor."""

        def __init__(self, weight: Tensor) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(weight / 3), nn.Parameter(2 * weight / 3)

        def forward(self, x: Tensor) -> Tensor:
            return x @ (self.a + self.b)

    stream = torch.Generator().manual_seed(0)
    x = torch.randn(20, 6, generator=stream, dtype=torch.float64)
    weight = torch.randn(6, 4, generator=stream, dtype=torch.float64)
    batch = (x, torch.arange(20) % 4)
    both, alone = Sum(weight), nn.Linear(6, 4, bias=False).double()
    found = landscape(both, cross_entropy, batch, dict(both.named_parameters()), ETAS)
    # Both move, so their sum moves twice as far.
    one = landscape(alone, cross_entropy, batch, {"weight": weight.T}, [2 * eta for eta in ETAS])
    torch.testing.assert_close(found.loss, one.loss)
    torch.testing.assert_close(found.grad_diff, 2**0.5 * one.grad_diff)
