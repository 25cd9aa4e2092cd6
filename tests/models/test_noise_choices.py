import pytest
import torch

from src.models.clock import Clock
from src.models.noise import Noise, NoiseShape, make_noise


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
