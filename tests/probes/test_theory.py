from copy import deepcopy

import pytest
import torch
from hypothesis import assume, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from torch import Tensor, nn

from src.probes.theory import at_layer, gradient_parts, minimax_gradients, optimum_distances

cross_entropy = nn.functional.cross_entropy


def close(one: Tensor, other: Tensor, rtol: float = 1e-9) -> None:
    scale = other.abs().max().clamp(min=1e-300)
    torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=rtol)


class Normalise(nn.Module):
    """BatchNorm of [m, units] with epsilon 0."""

    eps = 0.0

    def __init__(self, gamma: Tensor, beta: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(gamma), nn.Parameter(beta)

    def forward(self, y: Tensor) -> Tensor:
        centred = y - y.mean(0)
        return centred / centred.pow(2).mean(0).sqrt() * self.weight + self.bias


def instance(seed: int, m: int, units: int, spread: float):
    """A layer and what follows it, drawn at random."""
    stream = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=stream, dtype=torch.float64)

    model = nn.Sequential(
        nn.Linear(units, units), Normalise(normal(units), normal(units)), nn.Tanh(),
        nn.Linear(units, 3),
    ).double()  # fmt: skip
    params = {name: normal(*p.shape) for name, p in model.named_parameters()}
    params["0.weight"] *= spread
    batch = (normal(m, units), torch.randint(3, (m,), generator=stream))
    return model, params, batch


instances = given(
    seed=st.integers(0, 10_000),
    m=st.integers(3, 20),
    units=st.integers(1, 5),
    spread=st.floats(0.05, 20),
)


class TestIdentities:
    @hypothesis(max_examples=50)
    @instances
    def test_theorem_4_1_is_one(self, seed, m, units, spread):
        model, params, batch = instance(seed, m, units, spread)
        first, _ = at_layer(model, cross_entropy, batch, params, "1", [0])
        shares = first.mean + first.correlation
        whole = first.factor * first.plain  # what the projection takes from
        torch.testing.assert_close(first.left / whole, first.right / whole, rtol=0, atol=1e-12)
        assert ((first.mean >= 0) & (first.correlation >= 0) & (shares <= 1 + 1e-9)).all()

    @hypothesis(max_examples=50)
    @instances
    def test_theorem_4_2_is_one(self, seed, m, units, spread):
        model, params, batch = instance(seed, m, units, spread)
        _, second = at_layer(model, cross_entropy, batch, params, "1", range(units))
        scale = second.left.abs() + second.correction.abs() + (second.factor * second.form).abs()
        assume((scale > 1e-20).all())
        torch.testing.assert_close(
            second.left / scale, second.right / scale, rtol=0, atol=1e-9, equal_nan=True
        )

    @hypothesis(max_examples=50)
    @instances
    def test_the_published_directions(self, seed, m, units, spread):
        """Both theorems as printed, and what they are printed for: where gamma <= sigma the
        gradient is no longer, and where the preconditions hold the curvature no larger."""
        model, params, batch = instance(seed, m, units, spread)
        first, second = at_layer(model, cross_entropy, batch, params, "1", range(units))
        whole = first.factor * first.plain  # both sides may be a tiny rest of it
        assert (first.left <= first.right + 1e-12 * whole).all()
        assert (first.left <= whole * (1 + 1e-12)).all()
        terms = (second.factor * second.form).abs() + second.correction.abs()
        assert (second.left <= second.right + 1e-9 * terms).all()
        improved = second.left <= second.factor * second.form + 1e-9 * terms
        positive = torch.as_tensor(params["1.weight"] > 0)
        assert improved[second.holds & positive].all()

    def test_gradient_parts_by_hand(self):
        """Two units of three values; g of the first is all mean, of the second half correlation."""
        yhat = torch.tensor([[-1.0, 0.0, 1.0]] * 2) * 1.5**0.5
        g = torch.tensor([[2.0, 2.0, 2.0], [-1.0, 0.0, 1.0]])
        gamma, sigma = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 1.0])
        parts = gradient_parts(torch.zeros(2, 3), g, yhat, gamma, sigma)
        torch.testing.assert_close(parts.mean, torch.tensor([1.0, 0.0]))
        torch.testing.assert_close(parts.correlation, torch.tensor([0.0, 1.0]))
        torch.testing.assert_close(parts.factor, torch.tensor([0.25, 9.0]))
        torch.testing.assert_close(parts.right, torch.zeros(2), rtol=0, atol=1e-5)
        assert parts.left.tolist() == [0, 0]


class TestTheorem44:
    @hypothesis(max_examples=30)
    @given(seed=st.integers(0, 10_000), m=st.integers(2, 8), bound=st.floats(0.1, 10))
    def test_no_input_within_the_bound_does_worse_and_one_does_as_badly(self, seed, m, bound):
        """The gradient of a unit's weights is X' g; ‖X‖ is the spectral norm."""
        stream = torch.Generator().manual_seed(seed)
        g, y = torch.randn(2, 1, m, generator=stream, dtype=torch.float64)
        gamma, sigma = torch.rand(2, 1, generator=stream, dtype=torch.float64) + 0.5
        yhat = (y - y.mean()) / y.std(correction=0)
        P = torch.eye(m).double() - 1 / m - yhat.T @ yhat / m
        with_norm, without = minimax_gradients(g, yhat, gamma, sigma, bound)
        for worst, vector in ((with_norm, gamma / sigma * (P @ g[0])), (without, g[0])):
            X = torch.randn(200, m, 3, generator=stream, dtype=torch.float64)
            X *= bound / torch.linalg.matrix_norm(X, ord=2)[:, None, None]
            reached = (X.mT @ vector).pow(2).sum(1)
            assert (reached <= worst * (1 + 1e-9) + 1e-12).all()
            aligned = torch.zeros(m, 3).double()
            aligned[:, 0] = bound * vector / vector.norm().clamp(min=1e-300)
            torch.testing.assert_close(
                (aligned.T @ vector).pow(2).sum(), worst[0], rtol=1e-8, atol=1e-10
            )


class TestLemma45:
    @hypothesis(max_examples=50)
    @given(seed=st.integers(0, 10_000), size=st.integers(1, 6))
    def test_against_a_search_over_k(self, seed, size):
        stream = torch.Generator().manual_seed(seed)
        start, optimum = torch.randn(2, size, generator=stream, dtype=torch.float64)
        if start @ optimum < 0:
            start = -start
        assume(optimum.norm() > 0.1 and start @ optimum > 1e-3)
        with_norm, without = optimum_distances(start, optimum)
        torch.testing.assert_close(without, (start - optimum).pow(2).sum())
        low, high = 0.0, 100.0
        for _ in range(60):  # trisection: the distance is convex in k
            k = torch.linspace(low, high, 4, dtype=torch.float64)[1:3]
            near, far = (start - k[:, None] * optimum).pow(2).sum(1)
            low, high = (low, k[1].item()) if near < far else (k[0].item(), high)
        nearest = (start - low * optimum).pow(2).sum()
        torch.testing.assert_close(with_norm, nearest, rtol=1e-6, atol=1e-9)
        assert with_norm <= without * (1 + 1e-12)

    def test_matrices(self):
        start, optimum = torch.eye(2), torch.tensor([[2.0, 0.0], [0.0, 0.0]])
        assert [d.item() for d in optimum_distances(start, optimum)] == [1, 2]

    @pytest.mark.parametrize("start", [[-1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [torch.nan, 1.0]])
    def test_its_precondition(self, start):
        with pytest.raises(ValueError, match=r"Lemma 4\.5"):
            optimum_distances(torch.tensor(start), torch.tensor([1.0, 0.0]))


LAYERS = {
    "torch": ["model=vgg_bn"],
    "scratch": ["model=vgg_bn", "model.batch_norm=scratch"],
    "not affine": ["model=vgg_bn", "model.affine=false"],
    "noisy": ["model=vgg_noisy"],
    "affine after the noise": ["model=vgg_noisy", "noise.placement=before_affine"],
}


@pytest.mark.parametrize("variant", LAYERS)
@pytest.mark.parametrize("norm", ["norm3", "norm8"])
def test_at_a_layer_of_a_real_network(variant, norm, vgg, images, values):
    """Against the gradients an ordinary backward pass leaves at the norm's two sides."""
    model = vgg(*LAYERS[variant], "model.eps=1e-14", "model.activation=tanh")
    units = [1, 4]
    first, second = at_layer(model, cross_entropy, images, values(model), norm, units)

    copy, seen = deepcopy(model), {}
    layer = copy.get_submodule(norm)

    layer.register_forward_hook(lambda _, inputs, output: seen.update(y=inputs[0], z=output))
    loss = cross_entropy(copy(images[0]), images[1])
    y, z = seen["y"], seen["z"]
    at_y, at_z = torch.autograd.grad(loss, [y, z], create_graph=True)
    by_unit = lambda x: x.detach().movedim(1, 0).reshape(x.shape[1], -1)  # noqa: E731
    flat_y, g, G = by_unit(y), by_unit(at_z), by_unit(at_y)
    m = flat_y.shape[1]
    sigma = (flat_y.var(1, correction=0) + layer.eps).sqrt()
    yhat = (flat_y - flat_y.mean(1, keepdim=True)) / sigma[:, None]
    gamma = layer.weight.detach() if layer.weight is not None else torch.ones_like(sigma)

    close(first.left, G.pow(2).sum(1))
    close(first.plain, g.pow(2).sum(1))
    close(first.factor, gamma**2 / sigma**2)
    close(first.mean, g.sum(1) ** 2 / m / g.pow(2).sum(1))
    close(first.correlation, (g * yhat).sum(1) ** 2 / m / g.pow(2).sum(1))
    close(first.left, first.right, 1e-7)  # up to epsilon

    for k, unit in enumerate(units):
        v = torch.zeros_like(y)
        v[:, unit] = at_y[:, unit].detach()
        for name, at, gradient in (("left", y, at_y), ("form", z, at_z)):
            (product,) = torch.autograd.grad((gradient * v).sum(), at, retain_graph=True)
            close(getattr(second, name)[k], (product * v).sum(), 1e-8)
        alignment = (g[unit] * yhat[unit]).sum()
        assert second.holds[k] == ((second.form[k] >= 0) & (alignment >= 0))
    terms = (second.factor * second.form).abs() + second.correction.abs()
    torch.testing.assert_close(second.left / terms, second.right / terms, rtol=0, atol=1e-6)


def test_epsilon_is_part_of_the_spread(vgg, images, values):
    model = vgg("model=vgg_bn", "model.eps=0.5")
    parts, _ = at_layer(model, cross_entropy, images, values(model), "norm3", [0])
    seen = {}
    layer = model.get_submodule("norm3")
    handle = layer.register_forward_hook(lambda _, inputs, output: seen.update(y=inputs[0]))
    model(images[0])
    handle.remove()
    variance = seen["y"].detach().var((0, 2, 3), correction=0)
    close(parts.factor, layer.weight.detach() ** 2 / (variance + 0.5))


def test_a_norm_at_the_very_front_leaves_the_batch_alone():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).double()
    params = {name: p.detach() for name, p in model.named_parameters()}
    batch = (torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double(), torch.ones(5))
    first, _ = at_layer(model, lambda o, _: (o**3).mean(), batch, params, "0", [0])
    assert not batch[0].requires_grad and batch[0].grad is None
    close(first.left, first.right, 1e-3)


def test_one_activation_module_in_two_places():
    act = nn.Tanh()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 4), act, nn.Linear(4, 4), nn.BatchNorm1d(4), act, nn.Linear(4, 2)
    ).double()
    params = {name: p.detach() for name, p in model.named_parameters()}
    batch = (torch.randn(9, 3).double(), torch.tensor([0, 1, 1] * 3))
    first, _ = at_layer(model, cross_entropy, batch, params, "3", [0])
    inner = model[2](act(model[0](batch[0])))
    (G,) = torch.autograd.grad(cross_entropy(model[5](act(model[3](inner))), batch[1]), inner)
    close(first.left, G.pow(2).sum(0))


def test_a_norm_in_evaluation_mode_is_refused():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double().eval()
    params = {name: p.detach() for name, p in model.named_parameters()}
    batch = (torch.randn(9, 3).double(), torch.tensor([0, 1, 1] * 3))
    with pytest.raises(ValueError, match="1 is in evaluation mode"):
        at_layer(model, cross_entropy, batch, params, "1", [0])
