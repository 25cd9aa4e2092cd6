from math import inf

import pytest
import torch
from torch import Tensor, nn

from src.models.norms import BatchNorm, LpNorm
from tests.models.norms import SHAPES, close, draw, lp_norm


def by_unit(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (x.dim() - 2))


@pytest.mark.parametrize("shape", SHAPES)
class TestLpNorm:
    """Against the definition: (x - mean) / N_p, N_p of what is not yet centred."""

    @pytest.mark.parametrize("p, of_samples", [(1, False), (2, False), (inf, False), (inf, True)])
    @pytest.mark.parametrize("centred", [False, True])
    def test_output_and_running_statistics(self, shape, p, of_samples, centred):
        norm = LpNorm(p, 3, 0, 0.3, centred=centred, of_samples=of_samples).double()
        for parameter in norm.parameters():
            nn.init.normal_(parameter)
        running_mean, running_norm = torch.zeros(3).double(), torch.ones(3).double()
        over = [d for d in range(len(shape)) if d != 1]
        for batch in range(3):
            x = draw(shape) - batch
            mean = x.mean(over)
            scale = lp_norm(x - by_unit(mean, x) if centred else x, p, of_samples)
            expected = (x - by_unit(mean, x)) / by_unit(scale, x)
            close(norm(x), expected * by_unit(norm.weight, x) + by_unit(norm.bias, x))
            running_mean = 0.7 * running_mean + 0.3 * mean
            running_norm = 0.7 * running_norm + 0.3 * scale
            close(norm.running_mean, running_mean)
            close(norm.running_norm, running_norm)
        assert norm.num_batches_tracked == 3
        x = draw(shape)
        expected = (x - by_unit(running_mean, x)) / by_unit(running_norm, x)
        close(norm.eval()(x), expected * by_unit(norm.weight, x) + by_unit(norm.bias, x))
        assert norm.num_batches_tracked == 3

    def test_centred_p_2_is_batch_norm(self, shape):
        x = draw(shape)
        close(LpNorm(2, 3, 0.1, centred=True).double()(x), expected_batch_norm(x))

    def test_p_2_is_batch_norm_times_the_spread_over_the_root_mean_square(self, shape):
        x = draw(shape)
        over = [d for d in range(x.dim()) if d != 1]
        ratio = x.std(over, correction=0) / x.square().mean(over).sqrt()
        close(LpNorm(2, 3, 0).double()(x), BatchNorm(3, 0).double()(x) * by_unit(ratio, x))

    def test_p_2_is_batch_norm_where_the_mean_is_zero(self, shape):
        x = draw(shape)
        x = x - x.mean([d for d in range(x.dim()) if d != 1], keepdim=True)
        close(LpNorm(2, 3, 0.1).double()(x), expected_batch_norm(x))

    @pytest.mark.parametrize("p", [1, 2, inf])
    def test_scale_of_the_input_does_not_matter(self, shape, p):
        x, norm = draw(shape), LpNorm(p, 3, eps=0).double()
        close(norm(7.5 * x), norm(x))

    @pytest.mark.parametrize("p", [1, 2, inf])
    def test_a_shift_of_the_input_shrinks_the_output_unless_centred(self, shape, p):
        """What a bias before the norm would do: with BatchNorm nothing."""
        x, shift = draw(shape).abs(), 50.0
        norm = LpNorm(p, 3, eps=0).double()
        ratio = lp_norm(x, p) / lp_norm(x + shift, p)
        close(norm(x + shift), norm(x) * by_unit(ratio, x))
        assert (ratio < 0.5).all()
        centred = LpNorm(p, 3, eps=0, centred=True).double()
        torch.testing.assert_close(centred(x + shift), centred(x), rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize(
        "p, of_samples, training",
        [
            (1, False, True),
            (2, False, True),
            (inf, False, True),
            (inf, True, True),
            (1, False, False),
        ],
    )
    def test_derivatives_are_those_of_finite_differences(self, shape, p, of_samples, training):
        norm = LpNorm(p, 3, of_samples=of_samples).double().train(training)
        x = draw(shape).requires_grad_()
        assert torch.autograd.gradcheck(norm, x)
        assert torch.autograd.gradgradcheck(norm, x)

    @pytest.mark.parametrize("p", [1, 2, inf])
    def test_a_unit_of_zeros_stays_zero_with_a_finite_gradient(self, shape, p):
        x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        y = LpNorm(p, 3).double()(x)
        (gradient,) = torch.autograd.grad(y[0, 0].sum(), x)
        assert not y.any() and gradient.isfinite().all()


def expected_batch_norm(x: Tensor) -> Tensor:
    return BatchNorm(x.shape[1], 0.1).double()(x)


def test_eps_is_added_to_the_square_of_the_norm():
    x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    for p in (1, 2, inf):
        close(LpNorm(p, 1, eps=3.0).double()(x), x / 2)


def test_a_single_value_a_unit_has_an_lp_norm():
    assert torch.equal(LpNorm(1, 3, eps=0)(torch.full((1, 3), 5.0)), torch.zeros(1, 3))


def test_running_statistics_of_an_lp_norm_are_saved_and_taken_up():
    trained, fresh = LpNorm(1, 3), LpNorm(1, 3)
    trained(torch.randn(6, 3))
    names = ["weight", "bias", "running_mean", "running_norm", "num_batches_tracked"]
    assert list(trained.state_dict()) == names
    fresh.load_state_dict(trained.state_dict())
    x = torch.randn(6, 3)
    assert torch.equal(fresh.eval()(x), trained.eval()(x))


def test_an_lp_norm_of_bfloat16_is_taken_in_float32():
    x = (3 + torch.randn(64, 3, 4, 4)).bfloat16()
    y = LpNorm(1, 3)(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, LpNorm(1, 3)(x.float()).bfloat16())
