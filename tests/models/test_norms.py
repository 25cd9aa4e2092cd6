import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from torch import nn

from src.models.norms import Affine, BatchNorm
from tests.models.norms import SHAPES, close

OPTIONS = [(1e-5, 0.1, True), (1e-5, 0.1, False), (0.1, 1.0, True)]


def pair(shape: tuple[int, ...], eps: float, momentum: float, affine: bool):
    """Ours and torch's, in float64, with equal random parameters."""
    torch.manual_seed(0)
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    theirs = kind(shape[1], eps, momentum, affine).double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours = BatchNorm(shape[1], eps, momentum, affine).double()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps, momentum, affine", OPTIONS)
class TestAgainstTorch:
    def test_forward_and_running_statistics(self, shape, eps, momentum, affine):
        ours, theirs = pair(shape, eps, momentum, affine)
        for batch in range(3):
            x = 10 * batch + (1 + batch) * torch.randn(shape, dtype=torch.float64)
            close(ours(x), theirs(x))
            for (name, buffer), other in zip(ours.named_buffers(), theirs.buffers(), strict=True):
                close(buffer, other)
                assert buffer.dtype == other.dtype, name
        assert ours.num_batches_tracked == 3
        x = torch.randn(shape, dtype=torch.float64)
        close(ours.eval()(x), theirs.eval()(x))
        assert ours.num_batches_tracked == 3

    @pytest.mark.parametrize("training", [True, False])
    def test_gradients(self, shape, eps, momentum, affine, training):
        ours, theirs = pair(shape, eps, momentum, affine)
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        weights = torch.randn(shape, dtype=torch.float64)
        for norm in (ours, theirs):
            norm(torch.randn(shape, dtype=torch.float64, generator=torch.Generator()))
            norm.train(training)
        first, second = (
            torch.autograd.grad((norm(x).tanh() * weights).sum(), [x, *norm.parameters()])
            for norm in (ours, theirs)
        )
        assert len(first) == (3 if affine else 1)
        for one, other in zip(first, second, strict=True):
            close(one, other)

    def test_second_derivatives(self, shape, eps, momentum, affine):
        ours, theirs = pair(shape, eps, momentum, affine)
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        v = torch.randn(shape, dtype=torch.float64)
        products = []
        for norm in (ours, theirs):
            (gradient,) = torch.autograd.grad(norm(x).pow(3).sum(), x, create_graph=True)
            products.append(torch.autograd.grad((gradient * v).sum(), [x, *norm.parameters()]))
        for one, other in zip(*products, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-8)

    def test_state_is_interchangeable(self, shape, eps, momentum, affine):
        ours, theirs = pair(shape, eps, momentum, affine)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        theirs.load_state_dict(ours.state_dict())


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_a_single_value_a_unit_has_no_variance(shape):
    with pytest.raises(ValueError, match="two values a unit"):
        BatchNorm(3)(torch.zeros(shape))
    assert BatchNorm(3).eval()(torch.zeros(shape)).shape == shape


@hypothesis(max_examples=40)
@given(
    rows=st.integers(2, 40),
    centre=st.floats(-100, 100),
    scale=st.floats(0.01, 100),
    seed=st.integers(0, 1000),
)
def test_output_is_centred_and_of_unit_variance_whatever_the_input(rows, centre, scale, seed):
    stream = torch.Generator().manual_seed(seed)
    x = centre + scale * torch.randn(rows, 4, generator=stream, dtype=torch.float64)
    y = BatchNorm(4, eps=0).double()(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(4).double(), rtol=0, atol=1e-8)
    torch.testing.assert_close(y.var(0, correction=0), torch.ones(4).double(), rtol=1e-8, atol=0)


def test_gradient_is_orthogonal_to_the_constant_and_to_the_output():
    """The projection of Santurkar et al., Fact C.1."""
    x = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    y = BatchNorm(4, eps=0, affine=False).double()(x)
    (gradient,) = torch.autograd.grad((y * torch.randn(9, 4)).sum(), x)
    close(gradient.sum(0), torch.zeros(4).double())
    close((gradient * y.detach()).sum(0), torch.zeros(4).double())


def test_derivatives_are_those_of_finite_differences():
    norm = BatchNorm(3).double()
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, x)
    assert torch.autograd.gradgradcheck(norm, x)


def test_half_precision_input_is_normalised_in_float32_as_torch_does():
    x = (3 + torch.randn(64, 3, 4, 4)).bfloat16()
    ours, theirs = BatchNorm(3), nn.BatchNorm2d(3)
    for norm in (ours, theirs):
        assert norm(x).dtype == torch.bfloat16
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_layout_of_the_input_is_kept():
    x = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    assert BatchNorm(3)(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5, 5)])
def test_affine_is_what_normalisation_leaves_out(shape):
    whole, _ = pair(shape, 1e-5, 0.1, affine=True)
    affine = Affine(3).double()
    affine.load_state_dict({name: getattr(whole, name) for name in ("weight", "bias")})
    x = torch.randn(shape, dtype=torch.float64)
    close(affine(BatchNorm(3, affine=False).double()(x)), whole(x))
