"""The deep linear network against one written in numpy, with its backward pass by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from src import models
from src.data.linear import linear
from src.models.linear import DeepLinear
from src.models.noise import Noise

EPS = 1e-5
NAMES = ("dln", "dln_bn", "dln_noisy", "dln_plain_noisy")


@pytest.fixture(scope="module")
def build(settings):
    def built(*overrides: str) -> DeepLinear:
        return models.build(settings(*overrides), None).double()

    return built


def reference(weights, gammas, betas, x, y):
    """Half the summed squared error, and its gradients by weight, gamma and beta.

    Layer k is h = z W', then batch-normalised where ``gammas`` holds k (numbered from 0).
    """
    inputs, kept, z = [], {}, x
    for k, weight in enumerate(weights):
        inputs.append(z)
        z = z @ weight.T
        if k in gammas:
            std = np.sqrt(((z - z.mean(0)) ** 2).mean(0) + EPS)
            hat = (z - z.mean(0)) / std
            kept[k] = hat, std
            z = gammas[k] * hat + betas[k]
    loss, delta = 0.5 * ((z - y) ** 2).sum(), z - y
    of_weights, of_gammas, of_betas = [], {}, {}
    for k in reversed(range(len(weights))):
        if k in gammas:
            hat, std = kept[k]
            of_gammas[k], of_betas[k] = (delta * hat).sum(0), delta.sum(0)
            delta = delta * gammas[k]
            delta = (delta - delta.mean(0) - hat * (delta * hat).mean(0)) / std
        of_weights.insert(0, delta.T @ inputs[k])
        delta = delta @ weights[k]
    return loss, of_weights, of_gammas, of_betas


@pytest.mark.parametrize("kernel", ["torch", "scratch"])
@pytest.mark.parametrize(
    "overrides, normalised",
    [
        (["model=dln"], []),
        (["model=dln_bn"], range(24)),
        (["model=dln_bn", "model.normalise_last=true"], range(25)),
        (["model=dln_bn", "model.layers=4", "model.dimension=3"], range(3)),
    ],
)
def test_loss_and_gradients_are_those_of_numpy(build, overrides, normalised, kernel):
    model = build(*overrides, f"model.batch_norm={kernel}", "seed=5")
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if name.startswith("norm"):
                parameter.add_(0.2 * torch.randn(len(parameter), generator=stream))
    x, y = linear(200, model.network.linear1.in_features, seed=5)
    loss = model.loss(model(x), y)
    loss.backward()

    def array(name: str) -> np.ndarray:
        return model.network.get_parameter(name).detach().numpy()

    layers = sum(name.startswith("linear") for name, _ in model.network.named_children())
    weights = [array(f"linear{k}.weight") for k in range(1, layers + 1)]
    gammas, betas = (
        {k: array(f"norm{k + 1}.{kind}") for k in normalised} for kind in ("weight", "bias")
    )
    expected = reference(weights, gammas, betas, x.numpy(), y.numpy())
    assert loss.item() == pytest.approx(expected[0], rel=1e-10)
    found = {name: p.grad.numpy() for name, p in model.network.named_parameters()}
    oracle = {f"linear{k}.weight": g for k, g in enumerate(expected[1], start=1)}
    oracle |= {f"norm{k + 1}.weight": g for k, g in expected[2].items()}
    oracle |= {f"norm{k + 1}.bias": g for k, g in expected[3].items()}
    assert found.keys() == oracle.keys()
    largest = max(np.abs(gradient).max() for gradient in oracle.values())
    for name, gradient in oracle.items():
        # A beta that the next BatchNorm takes out again has a gradient of 0, up to rounding.
        size = np.abs(gradient).max() + 1e-6 * largest
        np.testing.assert_allclose(found[name], gradient, rtol=0, atol=1e-9 * size, err_msg=name)


@pytest.mark.parametrize("init", ["glorot_normal", "glorot_uniform"])
def test_the_paper_s_initial_losses_are_within_the_spread_over_seeds(settings, init):
    """Santurkar et al. (2018), Fig. 3b: 3.54e4 for the standard network, 5.58e4 for BatchNorm."""
    spread = {}
    for name in ("dln", "dln_bn"):
        chosen = settings(f"model={name}", f"init={init}")
        losses = []
        for seed in range(300):
            chosen.seed = seed
            model, (x, y) = models.build(chosen, None).double(), linear(1_000, 10, seed)
            with torch.no_grad():
                losses.append(model.loss(model(x), y).item())
        spread[name] = np.array(losses)
    assert spread["dln"].min() < 3.54e4 < np.quantile(spread["dln"], 0.05)  # rare, but there
    assert np.quantile(spread["dln_bn"], 0.25) < 5.58e4 < np.quantile(spread["dln_bn"], 0.75)


class TestNetwork:
    @pytest.mark.parametrize(
        "name, between",
        [
            ("dln", []),
            ("dln_bn", ["norm"]),
            ("dln_noisy", ["norm", "noise"]),
            ("dln_plain_noisy", ["noise"]),
        ],
    )
    @pytest.mark.parametrize("last", [True, False])
    def test_what_stands_after_each_layer(self, build, name, between, last):
        model = build(f"model={name}", f"model.normalise_last={last}", "model.layers=3")
        expected = []
        for layer in (1, 2, 3):
            after = between if layer < 3 or last else []
            expected += [f"{kind}{layer}" for kind in ["linear", *after]]
        assert [n for n, _ in model.network.named_children()] == expected
        assert model.classes is None

    def test_twenty_five_square_layers_without_bias(self, build):
        model = build("model=dln_bn")
        maps = [m for m in model.network if isinstance(m, nn.Linear)]
        assert [m.weight.shape for m in maps] == [(10, 10)] * 25
        assert all(m.bias is None for m in maps)

    def test_without_norm_or_noise_it_is_the_product_of_its_matrices(self, build):
        model, x = build("model=dln"), linear(7, 10, 0)[0]
        matrices = [m.weight for m in model.network]
        expected = torch.linalg.multi_dot([x, *(w.T for w in matrices)])
        torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-12)

    def test_one_seed_starts_all_variants_from_equal_weights(self, build):
        first, *others = (build(f"model={name}", "seed=2") for name in NAMES)
        for k in range(1, 26):
            weight = first.network.get_parameter(f"linear{k}.weight")
            for other in others:
                assert torch.equal(other.network.get_parameter(f"linear{k}.weight"), weight)

    def test_noise_layers_draw_by_their_number(self, build):
        model = build("model=dln_plain_noisy")
        assert [m.layer for m in model.network if isinstance(m, Noise)] == list(range(1, 25))


class TestLoss:
    @pytest.mark.parametrize("reduction, factor", [("half_sum", 0.5), ("sum", 1), ("mean", 0.5)])
    def test_is_the_squared_error_over_coordinates_and_batch(self, build, reduction, factor):
        model = build("model=dln", f"model.loss={reduction}")
        output = torch.tensor([[1.0, 2.0], [0.0, -1.0]], dtype=torch.float64)
        target = torch.tensor([[0.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
        assert model.loss(output, target).item() == factor * (1 + 4 + 0 + 9)

    def test_is_computed_in_float32_at_least_and_in_the_network_s_precision(self, build):
        loss = build("model=dln").loss
        target = torch.zeros(1, 1, dtype=torch.float64)
        assert loss(torch.full((1, 1), 300.0, dtype=torch.bfloat16), target).dtype == torch.float32
        assert loss(torch.ones(1, 1, dtype=torch.float64), target).dtype == torch.float64

    def test_mean_is_per_point_not_per_coordinate(self, build):
        model, zeros = build("model=dln", "model.loss=mean"), torch.zeros(4, 10)
        assert math.isclose(model.loss(zeros, zeros + 1).item(), 10)
