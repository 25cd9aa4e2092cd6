from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from src.catalogue import INITS
from src.models.init import DISTRIBUTIONS, initialise, scale_to_unit_variance

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
    "gaussian": lambda fan_in, fan_out: 0.01,
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


@pytest.mark.parametrize("std", [0.001, 1.0])
def test_standard_deviation_of_gaussians_is_the_one_given(std):
    built = nn.Sequential(nn.Linear(200, 300))
    initialise(built, 0, "gaussian", gain=2.0, std=std)
    assert built[0].weight.std().item() == pytest.approx(2 * std, rel=4 / (2 * 60_000) ** 0.5)


@pytest.mark.parametrize("layer", FANS)
def test_torch_s_default_is_torch_s_with_biases(layer):
    """Uniform within 1 / sqrt(fan_in), as ``reset_parameters`` draws them."""
    built, bound = network("torch"), FANS[layer][0] ** -0.5
    for drawn in (weight(built, layer), built.get_parameter(f"{layer}.bias").detach()):
        count = drawn.numel()
        assert bound * (1 - 10 / count) < drawn.abs().max() <= bound * (1 + 1e-6)
        assert drawn.mean().abs() < 4 * bound / (3 * count) ** 0.5
        expected = bound / 3**0.5
        assert drawn.double().std().item() == pytest.approx(expected, rel=4 / count**0.5)
    theirs = LAYERS[layer]()
    assert theirs.weight.abs().max().item() == pytest.approx(bound, rel=1e-2)
    assert theirs.bias.abs().max() <= bound


def test_torch_s_biases_have_streams_of_their_own_and_no_gain():
    twins = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
    initialise(twins, 0, "torch", gain=3.0)
    biases = [linear.bias.clone() for linear in twins]
    assert not torch.equal(*biases)
    initialise(twins, 0, "torch")
    assert all(torch.equal(linear.bias, bias) for linear, bias in zip(twins, biases, strict=True))


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

    def test_biases_are_zero_unless_torch_s_and_norms_stay(self, name):
        built = network(name)
        for layer in ("conv1", "linear2", "norm1"):
            drawn = name == "torch" and layer != "norm1"
            assert built.get_parameter(f"{layer}.bias").any() == drawn
        assert weight(built, "norm1").eq(1).all()

    def test_the_global_stream_is_not_moved(self, name):
        built = network(name)
        before = torch.get_rng_state()
        initialise(built, 0, name)
        assert torch.equal(torch.get_rng_state(), before)


def test_each_distribution_is_a_setting_and_each_setting_one():
    assert tuple(DISTRIBUTIONS) == INITS


class TestUnitVariance:
    """Layer-sequential unit variance; biases are 0, so one division is exact."""

    @staticmethod
    def network(activation: type[nn.Module] = nn.ReLU, **more: nn.Module) -> nn.Sequential:
        layers = {
            "conv1": nn.Conv2d(3, 8, 3, padding=1),
            **{name: module for name, module in more.items() if name.endswith("1")},
            "activation1": activation(),
            "pool1": nn.MaxPool2d(2),
            "flatten": nn.Flatten(),
            "linear2": nn.Linear(8 * 16, 20),
            **{name: module for name, module in more.items() if name.endswith("2")},
            "activation2": activation(),
            "linear3": nn.Linear(20, 5),
        }
        built = nn.Sequential(OrderedDict(layers)).double()
        initialise(built, 0, "unit_variance")
        return built

    IMAGES = 3 + 2 * torch.randn(
        16, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )

    @pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid])
    def test_every_layer_puts_out_variance_one(self, activation):
        built, x = self.network(activation), self.IMAGES
        scale_to_unit_variance(built, x)
        for name, module in built.named_children():
            x = module(x)
            if name.startswith(("conv", "linear")):
                assert x.var(correction=0).item() == pytest.approx(1, rel=1e-12), name

    def test_weights_stay_orthogonal_up_to_their_scale(self):
        built = self.network()
        before = {name: p.detach().clone() for name, p in built.named_parameters()}
        scale_to_unit_variance(built, self.IMAGES)
        for name, after in built.named_parameters():
            if name.endswith("weight"):
                ratio = after / before[name]
                torch.testing.assert_close(ratio, ratio.flatten()[0].expand_as(ratio))
            else:
                assert not after.any()
            assert after.requires_grad and after.grad is None

    def test_gain_multiplies_every_weight_once_all_are_scaled(self):
        one, other = self.network(nn.Tanh), self.network(nn.Tanh)
        scale_to_unit_variance(one, self.IMAGES)
        scale_to_unit_variance(other, self.IMAGES, gain=0.5)
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(b, 0.5 * a)

    def test_what_was_there_before_is_forgotten_but_for_its_direction(self):
        one, other = self.network(), self.network()
        initialise(other, 0, "unit_variance", gain=7.0)
        for built in (one, other):
            scale_to_unit_variance(built, self.IMAGES)
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b)

    def test_variants_start_equal_and_keep_their_statistics(self):
        plain = self.network()
        other = self.network(norm1=nn.BatchNorm2d(8), norm2=nn.LayerNorm(20))
        buffers = [b.clone() for b in other.buffers()]
        for built in (plain, other):
            scale_to_unit_variance(built, self.IMAGES)
        for name, value in plain.named_parameters():
            assert torch.equal(other.get_parameter(name), value)
        assert all(torch.equal(*pair) for pair in zip(other.buffers(), buffers, strict=True))

    def test_inputs_take_the_precision_of_the_weights(self):
        one, other = self.network().float(), self.network().float()
        scale_to_unit_variance(one, self.IMAGES)
        scale_to_unit_variance(other, self.IMAGES.float())
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)

    def test_a_layer_without_variance_is_an_error_that_names_it(self):
        built = self.network()
        with pytest.raises(ValueError, match="init=unit_variance: the outputs of conv1 have no"):
            scale_to_unit_variance(built, torch.zeros(4, 3, 8, 8, dtype=torch.float64))
