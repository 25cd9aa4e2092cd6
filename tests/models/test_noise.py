import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.noise import drawn, noise

C = 1.7  # an activation that is the same everywhere


@pytest.fixture(scope="module")
def y() -> Tensor:
    """Noise after noise on it, [step, sample, unit, height, width]."""
    layer, a = noise(), torch.full((16, 40, 5, 5), C)
    outputs = []
    for step in range(120):
        layer.clock.step = step
        outputs.append(layer(a))
    return torch.stack(outputs).double()


class TestAlgorithm1:
    """Against the closed forms of s C + m with n_mu 0.5, n_sigma 1.25, r_mu = r_sigma = 0.1."""

    def test_mean(self, y):
        error = (0.25 / 3 + C**2 * 0.25**2 / 12) ** 0.5 / (120 * 40) ** 0.5
        assert y.mean().item() == pytest.approx(C * 1.125, abs=4 * error)

    def test_variance_of_a_unit_within_a_step(self, y):
        expected = C**2 * 0.1**2 + 0.1**2 / 3
        assert y.var((1, 3, 4)).mean().item() == pytest.approx(expected, rel=0.01)

    def test_variance_of_a_unit_across_steps(self, y):
        expected = 0.5**2 / 3 + C**2 * 0.25**2 / 12
        assert y.mean((1, 3, 4)).var().item() == pytest.approx(expected, rel=0.05)

    def test_total_variance(self, y):
        expected = (0.5**2 + 0.1**2) / 3 + C**2 * (0.25**2 / 12 + 0.1**2)
        assert y.var().item() == pytest.approx(expected, rel=0.05)

    def test_a_unit_s_distribution_is_shared_by_the_batch(self, y):
        """Means of two halves of the batch differ by the spread within a step alone."""
        difference = y[:, :8].mean((1, 3, 4)) - y[:, 8:].mean((1, 3, 4))
        within = C**2 * 0.1**2 + 0.1**2 / 3
        assert difference.var().item() == pytest.approx(2 * within / (8 * 25), rel=0.06)

    def test_positions_and_samples_are_independent(self, y):
        centred = y - y.mean((1, 3, 4), keepdim=True)
        within = centred.square().mean()
        for shifted in (centred.roll(1, 4), centred.roll(1, 3), centred.roll(1, 1)):
            assert abs((centred * shifted).mean() / within) < 0.005

    def test_units_are_independent(self, y):
        means = y.mean((1, 3, 4))
        assert (torch.corrcoef(means.T) - torch.eye(40)).abs().max() < 5 / 120**0.5


def unit_parameters(units: int, steps: int) -> tuple[Tensor, Tensor]:
    """The mu_j and sigma_j of each step, [steps, units], laid bare by radii of 0."""
    a = torch.zeros(2, units)
    pairs = [drawn(a, step=step, r_mu=0.0, r_sigma=0.0)[:, 0] for step in range(steps)]
    sigma, mu = torch.stack(pairs).double().unbind(1)
    return mu, sigma


def test_unit_means_and_scales_are_uniform():
    mu, sigma = unit_parameters(units=20_000, steps=5)
    for values, low, high in ((mu, -0.5, 0.5), (sigma, 1, 1.25)):
        assert low <= values.min() and values.max() <= high
        assert kolmogorov_smirnov((values.flatten() - low) / (high - low)) < 1.63 / 100_000**0.5
    assert abs(torch.corrcoef(torch.stack([mu.flatten(), sigma.flatten()]))[0, 1]) < 0.01


def test_mean_change_of_a_unit_s_mean_from_step_to_step_is_a_third():
    """What Fig. 8 of the paper shows: 0.33, 0.31, 0.36; E|x - y| of two U(-n, n) is 2n/3."""
    mu, _ = unit_parameters(units=20_000, steps=5)
    change = mu.diff(dim=0).abs()
    assert change.mean().item() == pytest.approx(1 / 3, rel=0.01)
    assert 0.9 < change.max() <= 1


def kolmogorov_smirnov(probabilities: Tensor) -> float:
    """The greatest distance of an empirical distribution from the one whose CDF was applied."""
    ordered = np.sort(probabilities.numpy())
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return max(np.abs(ordered - steps[:-1]).max(), np.abs(ordered - steps[1:]).max())


def test_ten_million_draws_have_the_stated_distributions():
    count = 10_000_000
    critical = 1.63 / count**0.5  # at 1 %
    s, m = noise(n_mu=0.0, n_sigma=1.0).draw(torch.zeros(1, 1).expand(count, 1))
    for values, distribution in (((s - 1) / 0.1, "normal"), (m / 0.1, "uniform")):
        values = values.flatten()
        cdf = torch.special.ndtr(values) if distribution == "normal" else (values + 1) / 2
        assert kolmogorov_smirnov(cdf) < critical
        moments = {"normal": (0, 1, 0, 3, 15), "uniform": (0, 1 / 3, 0, 1 / 5, 1 / 7)}[distribution]
        for order, expected in zip((1, 2, 3, 4, 6), moments, strict=True):
            power = values**order
            error = power.std().item() / count**0.5
            assert power.mean(dtype=torch.float64).item() == pytest.approx(expected, abs=4 * error)
    assert m.abs().max() < 0.1
    assert 5 < ((s - 1) / 0.1).abs().max() < 6.5  # tails as long as ten million draws have them
    assert abs(torch.corrcoef(torch.stack([s.flatten(), m.flatten()]))[0, 1]) < 5 / count**0.5


def test_draws_lie_about_the_unit_s_own_mean_and_scale():
    a = torch.zeros(4_000, 6)
    s, m = drawn(a)
    sigma, mu = drawn(a, r_mu=0.0, r_sigma=0.0)[:, 0]
    assert (m - mu).abs().max() <= 0.1 + 1e-6
    torch.testing.assert_close(m.mean(0), mu, rtol=0, atol=5 * 0.1 / 3**0.5 / 4_000**0.5)
    torch.testing.assert_close(s.mean(0), sigma, rtol=0, atol=5 * 0.1 / 4_000**0.5)


def test_expected_noise_scales_by_its_mean_and_shifts_by_none():
    layer, a = noise(n_sigma=1.5), torch.randn(4, 3, 2, 2)
    layer.expected = True
    assert torch.equal(layer(a), a * 1.25)
    steps = torch.stack([noise(step=step, n_sigma=1.5)(torch.ones(99, 9)) for step in range(400)])
    means = steps.mean(1).flatten()  # of independent units
    error = means.std().item() / len(means) ** 0.5
    assert means.mean().item() == pytest.approx(1.25, abs=4 * error)


def test_noise_switched_off_gives_its_input():
    layer, a = noise(), torch.randn(4, 3)
    layer.off = True
    assert layer(a) is a


def test_noise_of_no_size_changes_nothing():
    a = torch.randn(4, 3, 2, 2)
    assert torch.equal(noise(n_mu=0.0, n_sigma=1.0, r_mu=0.0, r_sigma=0.0)(a), a)


def test_noise_acts_in_evaluation_mode_too():
    a = torch.randn(4, 3)
    assert torch.equal(noise().eval()(a), noise().train()(a))


def test_a_noise_layer_has_no_state_to_save():
    layer = noise()
    layer(torch.randn(4, 3))
    assert layer.state_dict() == {}


class TestRelative:
    A = (3 + 5 * torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))).double()

    @pytest.mark.parametrize("shape", [(72, 4), (8, 4, 3, 3)])
    def test_it_disturbs_each_unit_as_if_standardised(self, shape):
        a = self.A.reshape(shape) * torch.tensor([0.1, 1, 10, 100]).view(4, *[1] * (len(shape) - 2))
        layer = noise(relative=True)
        s, m = layer.draw(a)
        assert torch.equal(m, noise().draw(a)[1])
        over = [d for d in range(len(shape)) if d != 1]
        mean = a.mean(over, keepdim=True)
        spread = (a - mean).square().mean(over, keepdim=True).sqrt()
        standard = (a - mean) / spread
        torch.testing.assert_close(layer(a), mean + spread * (s * standard + m))

    def test_scale_and_mean_of_the_activations_do_not_matter(self):
        torch.testing.assert_close(
            noise(relative=True)(20 * self.A + 70), 20 * noise(relative=True)(self.A) + 70
        )

    def test_mean_and_spread_are_constants_to_the_gradient(self):
        layer, a = noise(relative=True), self.A.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(layer(a).sum(), a)
        assert torch.equal(gradient, layer.draw(a)[0].double())

    def test_a_unit_that_is_the_same_everywhere_is_left_as_it_is(self):
        a = torch.ones(5, 3)
        assert torch.equal(noise(relative=True)(a), a)

    def test_expected_it_is_the_mean_scale(self):
        layer = noise(relative=True)
        layer.expected = True
        mean = self.A.mean((0, 2, 3), keepdim=True)
        torch.testing.assert_close(layer(self.A), mean + 1.125 * (self.A - mean))
