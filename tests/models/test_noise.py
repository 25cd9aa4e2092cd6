import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from torch import Tensor

from src.models import noise as module
from src.models.clock import Clock
from src.models.noise import Noise, NoiseShape, make_noise

SEVERAL_BLOCKS = (5, 64, 32, 33)  # three, the last of them partial


def noise(seed: int = 0, step: int = 0, layer: int = 1, **shape: float) -> Noise:
    return Noise(NoiseShape(**shape), layer, Clock(seed, step))


def drawn(a: Tensor, seed: int = 0, step: int = 0, layer: int = 1, **shape: float) -> Tensor:
    """The pair (s, m), as one tensor."""
    return torch.stack(noise(seed, step, layer, **shape).draw(a))


def at_evaluation(layer: Noise, a: Tensor, batch: int, number: int) -> Tensor:
    layer.clock.evaluation = (batch, number)
    try:
        return layer(a).clone()
    finally:
        layer.clock.evaluation = None


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


class TestTheMoment:
    A = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))

    def test_same_step_draws_the_same(self):
        layer = noise(step=3)
        first = layer(self.A)
        layer.clock.step = 4
        assert not torch.equal(layer(self.A), first)
        layer.clock.step = 3
        assert torch.equal(layer(self.A), first)
        assert torch.equal(noise(step=3)(self.A), first)

    def test_an_evaluation_in_between_changes_nothing(self):
        layer = noise(step=3)
        first = layer(self.A)
        at_evaluation(layer, self.A, 0, 0)
        at_evaluation(layer, self.A[:3], 1, 0)
        assert torch.equal(layer(self.A), first)

    def test_a_repeated_forward_draws_nothing_anew(self):
        layer = noise()
        buffers = layer.draw(self.A)
        version = buffers[0]._version
        assert layer.draw(self.A)[0] is buffers[0]
        assert buffers[0]._version == version

    @pytest.mark.parametrize("other", [{"seed": 1}, {"step": 1}, {"layer": 2}])
    def test_seeds_steps_and_layers_are_uncorrelated(self, other):
        a = torch.zeros(200, 10, 4, 4)
        for pair in zip(drawn(a), drawn(a, **other), strict=True):
            assert not torch.equal(*pair)
            within = torch.stack([(p - p.mean((0, 2, 3), keepdim=True)).flatten() for p in pair])
            assert abs(torch.corrcoef(within)[0, 1]) < 5 / a.numel() ** 0.5

    def test_batches_passes_and_training_differ(self):
        layer = noise()
        outputs = [layer(self.A).clone()]
        outputs += [at_evaluation(layer, self.A, b, p) for b in range(3) for p in range(3)]
        for i, one in enumerate(outputs):
            assert not any(torch.equal(one, other) for other in outputs[:i])

    def test_blocks_of_a_large_draw_differ(self):
        for values in drawn(torch.empty(3 * 2**17, 1), n_mu=0.0, n_sigma=1.0):
            blocks = values.view(3, -1)
            off_diagonal = torch.corrcoef(blocks) - torch.eye(3)
            assert off_diagonal.abs().max() < 5 / 2**8.5

    def test_number_of_threads_does_not_matter(self):
        a, threads = torch.zeros(SEVERAL_BLOCKS), torch.get_num_threads()
        one = drawn(a)
        try:
            torch.set_num_threads(3)
            assert torch.equal(drawn(a), one)
        finally:
            torch.set_num_threads(threads)

    def test_training_s_draw_stays_what_it_was(self):
        """A change here makes every run of before irreproducible."""
        _, m = noise(n_mu=0.0, r_mu=1.0).draw(torch.zeros(1, 6))
        assert m.mul(2**16).squeeze().tolist() == [-9677, -61745, 43129, 37983, -52677, -35711]

    def test_the_global_stream_is_neither_read_nor_moved(self, global_state_untouched):
        state = torch.get_rng_state()
        first = drawn(self.A)
        torch.manual_seed(7)
        assert torch.equal(drawn(self.A), first)
        torch.set_rng_state(state)


class TestShapesAndKinds:
    @hypothesis(max_examples=60)
    @given(
        st.lists(st.integers(1, 9), min_size=2, max_size=2)
        | st.lists(st.integers(1, 9), min_size=4, max_size=4)
    )
    def test_any_size_is_filled(self, shape):
        """Also one that is no multiple of 4 or 16, and smaller than a block."""
        a = torch.zeros(shape)
        s, m = drawn(a)
        assert s.shape == m.shape == a.shape
        assert ((s - 1.125).abs() < 0.125 + 0.1 * 6).all()
        assert (m.abs() < 0.6).all()
        distinct = 1 if a.numel() < 20 else 0.9 * a.numel()
        assert len(m.unique()) >= distinct

    @pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
    def test_layout_of_the_input_is_kept(self, format):
        a = torch.ones(8, 6, 4, 4).to(memory_format=format)
        y = noise()(a)
        assert y.is_contiguous(memory_format=format)
        assert torch.equal(y, noise()(a.clone()))
        for values, own in zip(drawn(a), drawn(a, r_mu=0.0, r_sigma=0.0), strict=True):
            assert (values - own).abs().max() < 0.6  # each unit about its own mean and scale

    def test_inputs_with_gaps_and_repeats_are_disturbed_too(self):
        a = torch.randn(6, 8, 5, 5)
        for strange in (a[:, ::2], a[..., 1:4], a.transpose(2, 3), a[:1].expand(6, -1, -1, -1)):
            s, m = noise().draw(strange)
            torch.testing.assert_close(noise()(strange), s * strange + m)
            assert len(m.unique()) > 0.9 * m.numel()

    @pytest.mark.parametrize("shape", [(7, 3), (7, 3, 4, 4)])
    def test_per_sample_noise_is_the_same_at_every_position(self, shape):
        s, m = noise(per_position=False).draw(torch.zeros(shape))
        assert s.shape == m.shape == (7, 3, *[1] * (len(shape) - 2))
        assert len(s.unique()) == len(m.unique()) == 21
        a = torch.randn(shape)
        torch.testing.assert_close(noise(per_position=False)(a), s * a + m)

    def test_gradient(self):
        layer = noise(step=2)
        a = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(layer, a)
        assert torch.autograd.gradgradcheck(layer, a)
        (gradient,) = torch.autograd.grad(layer(a).sum(), a)
        assert torch.equal(gradient, layer.draw(a)[0])

    def test_backward_after_the_next_draw_is_an_error_not_a_wrong_gradient(self):
        layer, a = noise(), torch.randn(3, 2, requires_grad=True)
        y = layer(a)
        layer.clock.step = 1
        layer(a)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()

    def test_float64_is_disturbed_in_float64_by_the_draws_of_float32(self):
        a = torch.randn(5, 3, 4, 4, dtype=torch.float64)
        y = noise()(a)
        assert y.dtype == torch.float64
        scale, shift = noise().draw(a.float())
        assert torch.equal(y, torch.addcmul(shift.double(), a, scale.double()))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_disturbed_in_float32(self, dtype):
        a = torch.randn(5, 3, 4, 4).to(dtype)
        y = noise()(a)
        assert y.dtype == torch.float32
        assert torch.equal(y, noise()(a.float()))

    def test_a_layer_that_saw_another_precision_forgets_it(self):
        layer, a = noise(), torch.randn(4, 3)
        layer(a)
        assert torch.equal(layer(a.double()), noise()(a.double()))
        assert torch.equal(layer(a), noise()(a))

    def test_an_evaluation_under_inference_mode_leaves_training_able(self):
        layer, a = noise(), torch.randn(4, 3)
        with torch.inference_mode():
            evaluated = layer(a).clone()
        assert torch.equal(layer(a.requires_grad_()), evaluated)
        layer.clock.step = 1
        layer(a).sum().backward()

    def test_an_interrupted_draw_is_drawn_again(self, monkeypatch):
        layer, a = noise(), torch.ones(SEVERAL_BLOCKS)
        layer(a)
        layer.clock.step = 1
        real, streams = module.generator, []

        def failing(*key: object, **options: object) -> torch.Generator:
            streams.append(key)
            if len(streams) == 3:
                raise KeyboardInterrupt
            return real(*key, **options)

        with monkeypatch.context() as patch:
            patch.setattr(module, "generator", failing)
            with pytest.raises(KeyboardInterrupt):
                layer(a)
        for step in (0, 1):  # the draw before is gone too: its buffers are half overwritten
            layer.clock.step = step
            assert torch.equal(layer(a), noise(step=step)(a))


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


class TestGroup:
    """The choices of ``noise=``, as they arrive in the layer."""

    @pytest.fixture
    def make(self, settings):
        def made(*overrides: str, layer: int = 1, step: int = 0) -> Noise:
            return make_noise(settings(*overrides).noise, layer, Clock(0, step))

        return made

    @pytest.mark.parametrize(
        "choice, expected",
        [
            ("paper", NoiseShape()),
            ("none", NoiseShape(n_mu=0, n_sigma=1, r_mu=0, r_sigma=0)),
            ("mean_only", NoiseShape(n_sigma=1, r_sigma=0)),
            ("scale_only", NoiseShape(n_mu=0, r_mu=0)),
            ("fixed", NoiseShape(redrawn=False)),
            ("per_unit", NoiseShape(r_mu=0, r_sigma=0)),
            ("per_sample", NoiseShape(n_mu=0, n_sigma=1)),
        ],
    )
    def test_shapes(self, make, choice, expected):
        assert make(f"noise={choice}").shape == expected

    def test_the_other_keys(self, make):
        options = ("noise.per=sample", "noise.relative=true", "noise.redraw=never")
        shape = make(*options, layer=7).shape
        assert shape == NoiseShape(per_position=False, relative=True, redrawn=False)
        assert make(layer=7).layer == 7

    @pytest.mark.parametrize("strength", [0, 0.25, 1, 4])
    def test_strength_multiplies_what_differs_from_no_noise(self, make, strength):
        shape = make(f"noise.strength={strength}").shape
        assert shape == NoiseShape(0.5 * strength, 1 + 0.25 * strength, *[0.1 * strength] * 2)
        variance = make(f"noise.strength={strength}", "noise.r_sigma_is=variance").shape
        assert variance.r_sigma == pytest.approx(strength * 0.1**0.5)

    @pytest.mark.parametrize("strength", [0.25, 4])
    def test_disturbance_is_proportional_to_the_strength(self, make, strength):
        a = torch.randn(64, 9, 4, 4)
        torch.testing.assert_close(
            make(f"noise.strength={strength}")(a) - a, strength * (make()(a) - a)
        )

    @pytest.mark.parametrize("shape", [(40, 9), (40, 9, 5, 5)])
    def test_mean_only_shifts_and_scale_only_scales(self, make, shape):
        s, m = make("noise=mean_only").draw(torch.zeros(shape))
        assert s.eq(1).all() and torch.equal(m, make().draw(torch.zeros(shape))[1])
        s, m = make("noise=scale_only").draw(torch.zeros(shape))
        assert not m.any() and torch.equal(s, make().draw(torch.zeros(shape))[0])

    def test_per_unit_is_alike_for_all_samples_and_per_sample_alike_for_all_units(self, make):
        a = torch.zeros(4_000, 6)
        for values in make("noise=per_unit").draw(a):
            assert values.eq(values[0]).all() and len(values[0].unique()) == 6
        s, m = make("noise=per_sample").draw(a)
        error = 1 / 4_000**0.5
        assert (s.mean(0) - 1).abs().max() < 4 * 0.1 * error
        assert m.mean(0).abs().max() < 4 * 0.1 / 3**0.5 * error
        torch.testing.assert_close(s.std(0), torch.full((6,), 0.1), rtol=4 * error, atol=0)
        torch.testing.assert_close(m.std(0), torch.full((6,), 0.1 / 3**0.5), rtol=3 * error, atol=0)

    @pytest.mark.parametrize(
        "choice", ["paper", "mean_only", "scale_only", "fixed", "per_unit", "per_sample"]
    )
    @pytest.mark.parametrize("relative", [False, True])
    def test_expected_noise_is_the_mean_over_all_that_is_drawn(self, make, choice, relative):
        """Over steps and samples, or, where it is drawn once, over samples alone."""
        steps = 1 if choice == "fixed" else 300
        options = (f"noise={choice}", f"noise.relative={str(relative).lower()}")
        a = (
            torch.tensor([1.0, 3.0])
            .repeat(5_000 if choice == "fixed" else 50)[:, None]
            .expand(-1, 8)
        )
        layer, outputs = make(*options), []
        for step in range(steps):
            layer.clock.step = step
            outputs.append(layer(a).clone())
        means = torch.stack(outputs).mean((0, 1))
        layer.expected = True
        spread = torch.stack(outputs).mean(1).std(0) if steps > 1 else torch.full((8,), 0.3)
        error = spread / (steps if steps > 1 else len(a)) ** 0.5
        assert ((layer(a).mean(0) - means).abs() <= 5 * error + 1e-6).all()


class TestDrawnOnce:
    A = torch.randn(6, 5, 4, 4, generator=torch.Generator().manual_seed(0))

    def test_steps_and_evaluations_see_the_draw_of_the_first_step(self):
        layer, first = noise(redrawn=False), noise()(self.A)
        for step in (0, 1, 1000):
            layer.clock.step = step
            assert torch.equal(layer(self.A), first)
            for batch in range(2):
                assert torch.equal(at_evaluation(layer, self.A, batch, 1), first)

    def test_it_is_drawn_but_once(self):
        layer = noise(redrawn=False)
        buffers = layer.draw(self.A)
        version = buffers[0]._version
        layer.clock.step = 9
        assert layer.draw(self.A)[0] is buffers[0] and buffers[0]._version == version

    def test_a_smaller_batch_meets_the_same_units(self):
        units = {"r_mu": 0.0, "r_sigma": 0.0, "redrawn": False}
        whole, part = noise(**units)(self.A), noise(step=3, **units)(self.A[:2])
        torch.testing.assert_close(part, whole[:2])

    def test_layers_and_seeds_differ(self):
        drawn = [
            noise(seed, 0, layer, redrawn=False)(self.A) for seed in (0, 1) for layer in (1, 2)
        ]
        for i, one in enumerate(drawn):
            assert not any(torch.equal(one, other) for other in drawn[:i])

    @pytest.mark.parametrize("relative", [False, True])
    def test_expected_it_is_each_unit_s_own_mean_and_scale(self, relative):
        layer = noise(redrawn=False, relative=relative)
        layer.expected = True
        whole = noise(r_mu=0.0, r_sigma=0.0, relative=relative)(self.A)
        torch.testing.assert_close(layer(self.A), whole)
        layer.clock.step = 5
        torch.testing.assert_close(layer(self.A), whole)


class TestRelative:
    A = (3 + 5 * torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))).double()

    @pytest.mark.parametrize("shape", [(72, 4), (8, 4, 3, 3)])
    def test_shifts_are_in_units_of_the_standard_deviation(self, shape):
        a = self.A.reshape(shape) * torch.tensor([0.1, 1, 10, 100]).view(4, *[1] * (len(shape) - 2))
        layer = noise(relative=True)
        s, m = layer.draw(a)
        assert torch.equal(m, noise().draw(a)[1])
        over = [d for d in range(len(shape)) if d != 1]
        spread = (a - a.mean(over, keepdim=True)).square().mean(over, keepdim=True).sqrt()
        torch.testing.assert_close(layer(a), s * a + m * spread)

    def test_scale_of_the_activations_does_not_matter(self):
        torch.testing.assert_close(
            noise(relative=True)(20 * self.A), 20 * noise(relative=True)(self.A)
        )

    def test_the_spread_is_a_constant_to_the_gradient(self):
        layer, a = noise(relative=True), self.A.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(layer(a).sum(), a)
        assert torch.equal(gradient, layer.draw(a)[0].double())

    def test_a_unit_that_is_the_same_everywhere_is_not_shifted(self):
        a = torch.ones(5, 3)
        assert torch.equal(noise(relative=True)(a), noise().draw(a)[0])

    def test_expected_it_is_the_mean_scale(self):
        layer = noise(relative=True)
        layer.expected = True
        torch.testing.assert_close(layer(self.A), 1.125 * self.A)
