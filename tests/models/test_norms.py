from math import inf

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from torch import Tensor, nn

from src.models.norms import Affine, BatchNorm, LpNorm, hold_statistics, make_norm

SHAPES = [(6, 3), (2, 3), (4, 3, 5, 5), (1, 3, 2, 2)]
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


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


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


def lp_norm(x: Tensor, p: float, of_samples: bool = False) -> Tensor:
    """N_p of each unit, value by value."""
    norms = []
    for unit in x.unbind(1):
        values = [abs(v) for v in unit.flatten().tolist()]
        samples = [max(abs(v) for v in sample.flatten().tolist()) for sample in unit]
        largest = sum(samples) / len(samples) if of_samples else max(values)
        mean = sum(v ** min(p, 2) for v in values) / len(values)
        norms.append(largest if p == inf else mean ** (1 / p))
    return torch.tensor(norms, dtype=torch.float64)


def by_unit(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (x.dim() - 2))


def draw(shape: tuple[int, ...]) -> Tensor:
    stream = torch.Generator().manual_seed(3)
    return 2 + 3 * torch.randn(shape, generator=stream, dtype=torch.float64)


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

    @pytest.mark.parametrize("p, of_samples", [(1, False), (2, False), (inf, False), (inf, True)])
    @pytest.mark.parametrize("training", [True, False])
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


class TestFactory:
    @pytest.fixture
    def make(self, settings):
        def made(kind: str, *overrides: str, units: int = 8, spatial: bool = True, affine=True):
            model = settings(*overrides).model
            return make_norm(kind, model, units, spatial, affine).double()

        return made

    @pytest.mark.parametrize(
        "kind, overrides, spatial, expected",
        [
            ("batch", (), True, nn.BatchNorm2d),
            ("batch", (), False, nn.BatchNorm1d),
            ("batch", ("model.batch_norm=scratch",), True, BatchNorm),
            *((kind, (), spatial, LpNorm) for kind in ("l1", "l2", "linf") for spatial in (0, 1)),
            *(
                (kind, (), spatial, nn.GroupNorm)
                for kind in ("layer", "group")
                for spatial in (0, 1)
            ),
            ("instance", (), True, nn.InstanceNorm2d),
            ("instance", (), False, nn.GroupNorm),
        ],
    )
    @pytest.mark.parametrize("affine", [True, False])
    def test_kinds(self, make, kind, overrides, spatial, expected, affine):
        options = ("model.eps=0.2", "model.momentum=0.3")
        norm = make(kind, *overrides, *options, spatial=spatial, affine=affine)
        assert type(norm) is expected
        assert norm.eps == 0.2
        assert kind == "instance" or getattr(norm, "momentum", 0.3) == 0.3
        assert {name: len(p) for name, p in norm.named_parameters()} == (
            {"weight": 8, "bias": 8} if affine else {}
        )

    @pytest.mark.parametrize("kind, p", [("l1", 1), ("l2", 2), ("linf", inf)])
    def test_readings_of_the_lp_norms(self, make, kind, p):
        default = make(kind, "model.momentum=0.3")
        assert (default.p, default.momentum) == (p, 0.3)
        assert (default.centred, default.of_samples) == (False, False)
        other = make(kind, "model.lp_centred=true", "model.linf_of=sample")
        assert (other.centred, other.of_samples) == (True, True)

    @pytest.mark.parametrize(
        "units, groups, expected",
        [(64, 32, 32), (512, 32, 32), (16, 32, 8), (4, 32, 2), (1, 32, 1), (7, 32, 1), (9, 8, 3)],
    )
    def test_groups_are_the_largest_divisor_with_two_units_in_each(
        self, make, units, groups, expected
    ):
        assert make("group", f"model.groups={groups}", units=units).num_groups == expected

    @pytest.mark.parametrize(
        "kind, over", [("layer", (1, 2, 3)), ("group", (2, 3, 4)), ("instance", (2, 3))]
    )
    def test_what_the_controls_normalise_over(self, make, kind, over):
        x = draw((4, 8, 5, 5))
        y = make(kind, "model.groups=2", "model.eps=0")(x)
        shaped = x.view(4, 2, 4, 5, 5) if kind == "group" else x
        variance, mean = torch.var_mean(shaped, over, correction=0, keepdim=True)
        close(y, ((shaped - mean) / variance.sqrt()).view_as(x))

    @pytest.mark.parametrize("kind", ["layer", "instance"])
    def test_a_linear_map_s_units_are_normalised_together(self, make, kind):
        x = draw((4, 8))
        variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
        close(make(kind, "model.eps=0", spatial=False)(x), (x - mean) / variance.sqrt())

    @pytest.mark.parametrize("kind", ["layer", "group", "instance"])
    def test_the_controls_look_at_no_other_sample(self, make, kind):
        x, norm = draw((4, 8, 5, 5)), make(kind)
        close(norm(x)[:1], norm(x[:1]))
        close(norm.eval()(x), norm.train()(x))


KINDS = ["batch", "scratch", "l1", "l2", "linf"]


class TestHeldStatistics:
    """Training with the running statistics as constants."""

    @pytest.fixture
    def network(self, settings):
        def built(kind: str) -> nn.Sequential:
            torch.manual_seed(0)
            overrides = ("model.batch_norm=scratch",) if kind == "scratch" else ()
            model = settings(*overrides).model
            norms = [
                make_norm("batch" if kind == "scratch" else kind, model, 5, False, True)
                for _ in range(2)
            ]
            maps = [nn.Linear(4, 5, bias=False), nn.Linear(5, 5, bias=False)]
            return nn.Sequential(maps[0], norms[0], nn.Tanh(), maps[1], norms[1]).double()

        return built

    @staticmethod
    def inputs(network: nn.Sequential, x: Tensor) -> dict[int, Tensor]:
        """What a step gives each norm."""
        found = {}
        with torch.no_grad():
            for number, module in enumerate(network):
                found[number] = x
                x = module(x)
        return {number: found[number] for number in (1, 4)}

    @pytest.mark.parametrize("kind", KINDS)
    def test_each_norm_tracks_what_the_step_gives_it(self, network, kind):
        """The average over the first ten batches, then the moving average of momentum 0.1."""
        network, expected = network(kind), {}
        for batch in range(13):
            x = draw((9, 4)) * (1 + batch) - batch
            hold_statistics(network, x)
            share = max(0.1, 1 / (batch + 1))
            for number, seen in self.inputs(network, x).items():
                scale = seen.var(0) if kind in ("batch", "scratch") else lp_norm(seen, POWERS[kind])
                now = torch.stack([seen.mean(0), scale])
                before = expected.setdefault(number, now)
                expected[number] = before + share * (now - before)
                buffers = [b for b in network[number].buffers() if b.dim()]
                close(torch.stack(buffers), expected[number])
                assert network[number].num_batches_tracked == batch + 1
                assert network[number].momentum == 0.1

    @pytest.mark.parametrize("kind", KINDS)
    def test_statistics_are_constants_of_the_step(self, network, kind):
        network = network(kind)
        x = draw((9, 4))
        hold_statistics(network, x)
        before = {name: b.clone() for name, b in network.named_buffers()}
        halves = torch.cat([network(x[:4]), network(x[4:])])
        close(halves, network(x))
        for name, buffer in network.named_buffers():
            assert torch.equal(buffer, before[name]), name
        seen = self.inputs(network, x)[1].requires_grad_()
        (gradient,) = torch.autograd.grad(network[1](seen).sum(), seen)
        close(gradient, gradient[:1].expand_as(gradient))  # a batch's statistics would make it 0
        assert (gradient > 0).all()

    @pytest.mark.parametrize("kind", KINDS)
    def test_train_goes_back_to_the_batch_s(self, network, kind):
        held, plain, x = network(kind), network(kind), draw((9, 4))
        hold_statistics(held, 3 * x)
        assert not held[1].training and not held[4].training and held[0].training
        assert torch.equal(held.train()(x), plain(x))

    def test_a_network_without_statistics_is_left_as_it_is(self, settings):
        norm = make_norm("layer", settings().model, 5, False, True)
        network = nn.Sequential(nn.Linear(4, 5), norm)
        hold_statistics(network, torch.randn(3, 4))
        assert norm.training and not list(network.buffers())

    def test_no_hook_stays_behind_after_an_error(self, network):
        network = network("batch")
        with pytest.raises(RuntimeError):
            hold_statistics(network, torch.zeros(9, 3).double())
        assert not network[1]._forward_pre_hooks


POWERS = {"l1": 1, "l2": 2, "linf": inf}
