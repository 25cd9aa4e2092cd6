import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, jvp

from src.models.norms import BatchNorm
from src.probes.curvature import along_gradient, largest_eigenvalue

cross_entropy = nn.functional.cross_entropy


def flat(tensors) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def network(*norms: nn.Module) -> nn.Sequential:
    """Two small hidden layers, the norms before the non-linearities."""
    torch.manual_seed(0)
    first, second = norms or (nn.Identity(), nn.Identity())
    return nn.Sequential(
        nn.Conv2d(3, 3, 3, stride=16, bias=False),
        first,
        nn.Softplus(),
        nn.Flatten(),
        nn.Linear(12, 4),
        second,
        nn.Tanh(),
        nn.Linear(4, 10),
    ).double()


NETWORKS = {
    "plain": lambda: network(),
    "torch BatchNorm": lambda: network(nn.BatchNorm2d(3), nn.BatchNorm1d(4)),
    "scratch BatchNorm": lambda: network(BatchNorm(3), BatchNorm(4)),
}


@pytest.fixture
def batches() -> list[tuple[Tensor, Tensor]]:
    stream = torch.Generator().manual_seed(0)
    return [
        (
            (k + 1) * torch.randn(6, 3, 32, 32, generator=stream, dtype=torch.float64),
            torch.randint(10, (6,), generator=stream),
        )
        for k in range(3)
    ]


@pytest.fixture(params=NETWORKS)
def model(request) -> nn.Sequential:
    return NETWORKS[request.param]()


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TestAlongGradient:
    def test_against_the_dense_hessian(self, model, batches, values, backward, dense_hessian):
        params = values(model)
        H = dense_hessian(model, cross_entropy, batches[0], params)
        torch.testing.assert_close(H, H.T)
        g = flat(backward(model, cross_entropy, batches[0], params)[1].values())
        found = along_gradient(model, cross_entropy, batches[0], params)
        torch.testing.assert_close(found.curvature, g @ H @ g / (g @ g), rtol=1e-9, atol=0)
        torch.testing.assert_close(found.smoothness, (H @ g).norm() / g.norm(), rtol=1e-9, atol=0)

    def test_a_zero_gradient_has_no_direction(self):
        params = {"weight": torch.zeros(1, 2)}
        batch = (torch.ones(3, 2), torch.zeros(3, 1))
        found = along_gradient(nn.Linear(2, 1, bias=False), nn.functional.mse_loss, batch, params)
        assert torch.isnan(found.curvature) and torch.isnan(found.smoothness)

    def test_a_loss_without_curvature(self):
        batch = (torch.ones(3, 2), torch.zeros(3, 1))
        params = {"weight": torch.ones(1, 2)}
        model = nn.Linear(2, 1, bias=False)
        assert along_gradient(model, lambda o, _: o.sum(), batch, params).curvature == 0

    def test_a_network_that_reads_the_global_generator(self, batches):
        """The gradient and the product with it see the same draw."""
        model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(3072, 2)).double()
        params = {name: p.detach() for name, p in model.named_parameters()}
        target = torch.zeros(6, dtype=torch.long)
        found = along_gradient(model, cross_entropy, (batches[0][0], target), params)
        mask = nn.functional.dropout(torch.ones_like(batches[0][0]), 0.5)
        still = nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)).double()
        params = {name.replace("2", "1"): value for name, value in params.items()}
        expected = along_gradient(still, cross_entropy, (batches[0][0] * mask, target), params)
        torch.testing.assert_close(found.curvature, expected.curvature)


class TestLargestEigenvalue:
    @pytest.mark.parametrize("several", [1, 3])
    def test_against_the_dense_hessian(self, several, model, batches, values, dense_hessian):
        """Of the mean of the batches' losses, each batch with its own statistics."""
        params, batches = values(model), batches[:several]
        H = torch.stack([dense_hessian(model, cross_entropy, b, params) for b in batches]).mean(0)
        expected = torch.linalg.eigvalsh(H)[-1]
        for tolerance in (0.1, 1e-3, 1e-8):
            found = largest_eigenvalue(
                model, cross_entropy, batches, params, stream(), 200, tolerance
            )
            assert found.error <= tolerance * found.value
            assert (found.value - expected).abs() <= found.error + 1e-12
            assert found.value <= expected + 1e-12  # a Ritz value, from below

    def test_cut_short_it_says_so(self, model, batches, values, dense_hessian):
        """The error bounds the distance to the nearest eigenvalue, however few the products."""
        params = values(model)
        spectrum = torch.linalg.eigvalsh(dense_hessian(model, cross_entropy, batches[0], params))
        for iterations in range(1, 12):
            found = largest_eigenvalue(
                model, cross_entropy, batches[:1], params, stream(), iterations, 0
            )
            assert (spectrum - found.value).abs().min() <= found.error + 1e-12

    @pytest.mark.parametrize("dtype, rounding", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
    def test_long_after_it_has_converged(self, dtype, rounding, model, batches, values):
        """Orthogonality lost would show as a value above the largest, or as NaN."""
        params = {name: value.to(dtype) for name, value in values(model).items()}
        usual = largest_eigenvalue(model, cross_entropy, batches[:1], params, stream())
        long = largest_eigenvalue(model, cross_entropy, batches[:1], params, stream(), 10_000, 0)
        assert long.value.item() == pytest.approx(usual.value.item(), rel=1e-3)
        assert long.error <= rounding * long.value

    def test_float32_is_float64_to_its_precision(self, model, batches, values):
        wide = largest_eigenvalue(model, cross_entropy, batches, values(model), stream(), 100, 1e-6)
        params = {name: value.float() for name, value in values(model).items()}
        narrow = largest_eigenvalue(model, cross_entropy, batches, params, stream(), 100, 1e-6)
        assert narrow.value.item() == pytest.approx(wide.value.item(), rel=1e-5)

    def test_an_eigenvalue_that_comes_twice(self):
        """½‖w‖²-like: H = 2/n X'X with X orthogonal is a multiple of one; one product suffices."""
        model = nn.Linear(4, 1, bias=False).double()
        batch = (torch.eye(4).double(), torch.zeros(4, 1).double())
        params = {"weight": torch.ones(1, 4).double()}
        found = largest_eigenvalue(model, nn.functional.mse_loss, [batch], params, stream())
        assert found.value.item() == pytest.approx(0.5) and found.error < 1e-12

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("tolerance", [0, 1e-3])
    @pytest.mark.parametrize("rank", [1, 2, 5])
    def test_rank_deficient(self, rank, tolerance, dtype):
        """The Krylov space is exhausted after rank + 1 products: what follows is rounding."""
        draw = torch.randn(rank, 30, generator=stream(1), dtype=dtype)
        batch = (draw, torch.zeros(rank, 1, dtype=dtype))
        model, params = nn.Linear(30, 1, bias=False), {"weight": torch.ones(1, 30, dtype=dtype)}
        found = largest_eigenvalue(
            model, nn.functional.mse_loss, [batch], params, stream(), 50, tolerance
        )
        expected = torch.linalg.eigvalsh(2 / rank * draw.T @ draw)[-1]
        assert found.value.item() == pytest.approx(expected.item(), rel=1e-5)
        assert found.error <= 1e-3 * found.value

    def test_never_positive(self):
        """Largest 0, the others below it."""
        model = nn.Linear(5, 1, bias=False).double()
        batch = (torch.randn(2, 5, generator=stream(1)).double(), torch.zeros(2, 1).double())
        params = {"weight": torch.ones(1, 5).double()}
        found = largest_eigenvalue(model, lambda o, _: -(o**2).mean(), [batch], params, stream())
        assert abs(found.value) < 1e-12 and found.error < 1e-12

    def test_no_curvature_at_all(self):
        model, params = nn.Linear(3, 1, bias=False), {"weight": torch.ones(1, 3)}
        batch = (torch.ones(2, 3), torch.zeros(2, 1))
        found = largest_eigenvalue(model, lambda o, _: o.sum(), [batch], params, stream())
        assert found.value == found.error == 0

    def test_a_single_parameter(self):
        model, params = nn.Linear(1, 1, bias=False), {"weight": torch.ones(1, 1)}
        batch = (torch.full((2, 1), 3.0), torch.zeros(2, 1))
        found = largest_eigenvalue(model, nn.functional.mse_loss, [batch], params, stream())
        assert found.value.item() == pytest.approx(18) and found.error < 1e-4

    def test_a_loss_that_overflows_has_none(self, model, batches, values):
        params = {name: torch.full_like(value, 1e300) for name, value in values(model).items()}
        found = largest_eigenvalue(model, cross_entropy, batches, params, stream())
        assert torch.isnan(found.value) and torch.isnan(found.error)

    def test_the_start_vector_is_the_generator_s(self, model, batches, values):
        def run(seed: int) -> Tensor:
            return largest_eigenvalue(
                model, cross_entropy, batches[:1], values(model), stream(seed), 3, 0
            ).value

        assert run(1) == run(1) != run(2)

    def test_a_network_that_reads_the_global_generator_has_one_hessian(self, batches):
        """Every product sees the same draws: those of a network with its mask multiplied in."""
        batch, size = batches[0], 12
        model = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Dropout(), nn.Linear(size, 10))
        params = {n: p.detach().double() for n, p in model.named_parameters()}
        found = largest_eigenvalue(model, cross_entropy, [batch], params, stream(), 130, 1e-10)
        pooled = model[:2](batch[0])
        mask = nn.functional.dropout(torch.ones_like(pooled), 0.5)
        params = {name.removeprefix("3."): value for name, value in params.items()}
        still = (pooled * mask, batch[1])
        expected = largest_eigenvalue(
            nn.Linear(size, 10), cross_entropy, [still], params, stream(), 130, 1e-10
        )
        torch.testing.assert_close(found.value, expected.value)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own use
def test_guard_forward_over_reverse_through_fused_batch_norm():
    """Why the probe differentiates twice in reverse.

    ``jvp(jacrev(loss))`` through the fused norm in training mode is silently wrong in torch 2.14,
    while ``jvp(grad(loss))`` is not. Once this fails, torch has mended it.
    """
    x = torch.randn(6, 3, 8, 8, generator=stream(), dtype=torch.float64)
    model = nn.Sequential(
        nn.Conv2d(3, 3, 3, bias=False),
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.Softplus(),
        nn.Conv2d(3, 1, 6, bias=False),
    ).double()
    params = {name: 0.5 * p.detach().cos() for name, p in model.named_parameters()}
    ones = {name: torch.ones_like(p) for name, p in params.items()}

    def loss(params) -> Tensor:
        return functional_call(model, params, (x,)).pow(2).mean()

    def gradient(step: float) -> Tensor:
        return flat(grad(loss)({name: p + step for name, p in params.items()}).values())

    expected = (gradient(1e-5) - gradient(-1e-5)) / 2e-5
    one, other = (
        flat(jvp(derivative(loss), (params,), (ones,))[1].values()) for derivative in (grad, jacrev)
    )
    torch.testing.assert_close(one, expected, rtol=1e-6, atol=1e-8)
    assert (other - expected).norm() > 1e-4 * expected.norm(), "torch has mended it"
