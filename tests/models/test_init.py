from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from src.models.init import DISTRIBUTIONS, initialise

LAYERS = {
    "conv1": lambda: nn.Conv2d(32, 64, 3),
    "norm1": lambda: nn.BatchNorm2d(64),
    "linear2": lambda: nn.Linear(200, 300),
}
FANS = {"conv1": (32 * 9, 64 * 9), "linear2": (200, 300)}
STD = {
    "glorot_normal": lambda fan_in, fan_out: (2 / (fan_in + fan_out)) ** 0.5,
    "glorot_uniform": lambda fan_in, fan_out: (2 / (fan_in + fan_out)) ** 0.5,
    "he_normal": lambda fan_in, fan_out: (2 / fan_in) ** 0.5,
    "he_uniform": lambda fan_in, fan_out: (2 / fan_in) ** 0.5,
}


def network(name: str, *order: str, seed: int = 0, gain: float = 1.0) -> nn.Module:
    built = nn.Sequential(OrderedDict((layer, LAYERS[layer]()) for layer in order or LAYERS))
    initialise(built, seed, name, gain)
    return built


def weight(built: nn.Module, layer: str) -> Tensor:
    return built.get_parameter(f"{layer}.weight").detach()


@pytest.mark.parametrize("layer", FANS)
@pytest.mark.parametrize("name", STD)
def test_moments_are_the_closed_form(name, layer):
    drawn, std = weight(network(name), layer).double(), STD[name](*FANS[layer])
    count = drawn.numel()
    assert abs(drawn.mean()) < 4 * std / count**0.5
    assert drawn.std().item() == pytest.approx(std, rel=4 / (2 * count) ** 0.5)
    if name.endswith("uniform"):
        bound = 3**0.5 * std
        assert 0.999 * bound < drawn.abs().max() <= bound
        assert (drawn / bound).pow(4).mean().item() == pytest.approx(1 / 5, rel=0.02)
    else:
        assert (drawn / std).pow(4).mean().item() == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("layer", FANS)
def test_orthogonal_has_singular_values_of_one(layer):
    rows = weight(network("orthogonal"), layer).flatten(1)
    singular = torch.linalg.svdvals(rows.double())
    torch.testing.assert_close(singular, torch.ones_like(singular), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
class TestEveryDistribution:
    def test_gain_multiplies(self, name):
        for layer in FANS:
            torch.testing.assert_close(
                weight(network(name, gain=2.5), layer), 2.5 * weight(network(name), layer)
            )

    def test_order_and_company_do_not_matter(self, name):
        one, other = network(name), network(name, "linear2", "norm1", "conv1")
        alone = network(name, "linear2")
        for layer in FANS:
            assert torch.equal(weight(one, layer), weight(other, layer))
        assert torch.equal(weight(one, "linear2"), weight(alone, "linear2"))

    def test_seeds_and_layers_differ(self, name):
        assert not torch.equal(
            weight(network(name), "conv1"), weight(network(name, seed=1), "conv1")
        )
        twins = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
        initialise(twins, 0, name)
        assert not torch.equal(*(linear.weight for linear in twins))

    def test_biases_are_zero_and_norms_stay(self, name):
        built = network(name)
        for layer in ("conv1", "linear2", "norm1"):
            assert not built.get_parameter(f"{layer}.bias").any()
        assert weight(built, "norm1").eq(1).all()

    def test_the_global_stream_is_not_moved(self, name):
        built = network(name)
        before = torch.get_rng_state()
        initialise(built, 0, name)
        assert torch.equal(torch.get_rng_state(), before)
