from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from torch import nn

from src.probes.activations import BINS, activations, joined
from src.probes.activations import distribution as distributions

NAMES = ("mean", "variance", "edges", "counts", "quantiles")


def distribution(values):
    """Return the distribution of all values, looked at as one row beside two others."""
    others = torch.stack([torch.zeros(values.numel()), torch.arange(values.numel())]).to(values)
    rows = torch.cat([others[:1], values.reshape(1, -1), others[1:]])
    alone, among = distributions(values.reshape(1, -1)), distributions(rows)
    again = joined([distributions(row[None]) for row in rows])
    for name in NAMES:
        found = getattr(alone, name)
        assert len(found) == 1 and len(getattr(among, name)) == 3
        for other in (among, again):
            torch.testing.assert_close(found[0], getattr(other, name)[1], equal_nan=True)
    return SimpleNamespace(**{name: getattr(alone, name)[0] for name in NAMES})


class TestDistribution:
    @hypothesis(max_examples=60)
    @given(
        # squares of smaller ones underflow in float32
        values=st.lists(
            st.floats(-1e6, 1e6, width=32).filter(lambda v: v == 0 or abs(v) > 1e-15),
            min_size=1,
            max_size=300,
        ),
        dtype=st.sampled_from([torch.float32, torch.float64]),
    )
    def test_against_numpy(self, values, dtype):
        tensor = torch.tensor(values, dtype=dtype)
        array = np.array(values)
        found = distribution(tensor)
        width = float(found.edges[1:].sub(found.edges[:-1]).max())
        size = np.abs(array).max()
        rounding = float(size * torch.finfo(dtype).eps)
        assert found.mean.item() == pytest.approx(array.mean(), rel=1e-5, abs=10 * rounding)
        assert found.variance.item() == pytest.approx(
            array.var(), rel=1e-4, abs=10 * rounding * (size + rounding)
        )
        assert found.counts.sum() == len(values) and len(found.counts) == BINS
        assert found.edges[0] == tensor.min()
        assert found.edges[-1].item() == pytest.approx(array.max(), abs=4 * rounding)
        exact = np.quantile(array, [0.15, 0.5, 0.85], method="inverted_cdf")
        if len(values) % 20:  # else a share is met exactly, and rounding decides
            np.testing.assert_allclose(
                found.quantiles.numpy(), exact, rtol=0, atol=width + 4 * rounding
            )

    def test_quantiles_and_counts_of_a_smooth_one(self):
        values = torch.randn(4, 5000, generator=torch.Generator().manual_seed(0)).exp()
        found = distribution(values)
        width = (found.edges[1] - found.edges[0]).item()
        exact = np.quantile(values.numpy(), [0.15, 0.5, 0.85])
        np.testing.assert_allclose(found.quantiles.numpy(), exact, rtol=0, atol=width)
        counts, _ = np.histogram(values.double().numpy(), found.edges.double().numpy())
        assert np.abs(counts - found.counts.numpy()).max() <= 2  # a value on an edge, rounded

    def test_quantiles_beside_outliers(self):
        """Of rows with one they are values; the other rows' are as they are alone."""
        plain = torch.randn(1000, generator=torch.Generator().manual_seed(0))
        high, low, odd = plain.clone(), plain.clone(), plain.clone()
        high[3], low[5], odd[7] = 400.0, -1e6, torch.nan
        rows = torch.stack([high, plain, odd, torch.ones(1000), low])
        found = distributions(rows).quantiles
        for row in (0, 4):
            exact = np.quantile(rows[row].numpy(), [0.15, 0.5, 0.85], method="inverted_cdf")
            np.testing.assert_array_equal(found[row].numpy(), exact)
        for row in (1, 2, 3):
            alone = distributions(rows[row : row + 1]).quantiles[0]
            torch.testing.assert_close(found[row], alone, rtol=0, atol=0, equal_nan=True)

    @pytest.mark.parametrize("rows", [1, 2])
    def test_moments_of_a_long_row(self, rows):
        values = torch.randn(rows, 2**22, generator=torch.Generator().manual_seed(0)) + 1
        found, exact = distributions(values), values.double()
        torch.testing.assert_close(found.mean.double(), exact.mean(1), rtol=1e-6, atol=0)
        variance = exact.var(1, correction=0)
        torch.testing.assert_close(found.variance.double(), variance, rtol=1e-6, atol=0)

    def test_by_hand(self):
        found = distribution(torch.tensor([[0.0, 1.0], [3.0, 4.0]]))
        assert (found.mean, found.variance) == (2, 2.5)
        assert found.counts.nonzero().flatten().tolist() == [0, 32, 96, 127]
        assert found.edges.tolist() == [i / 32 for i in range(129)]

    @pytest.mark.parametrize("value", [0.0, -3.5, 1e30])
    def test_constant(self, value):
        found = distribution(torch.full((7, 3), value, dtype=torch.float64))
        assert found.mean.item() == pytest.approx(value) and found.variance.item() >= 0
        assert found.quantiles.tolist() == pytest.approx([value] * 3)
        assert found.counts[0] == 21 and found.counts.sum() == 21

    @pytest.mark.parametrize("spread", [1e-40, 1e-44, 1e38])
    def test_a_spread_at_the_ends_of_float32(self, spread):
        found = distribution(torch.tensor([0.0, 1.0, 2.0]) * spread)
        assert found.counts.sum() == 3 and torch.isfinite(found.quantiles).all()
        assert found.counts[0] >= 1 and found.counts[-1] == 1

    @pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
    @pytest.mark.parametrize("others", [(1.0, 2.0), ()])
    def test_a_value_that_is_not_finite(self, odd, others):
        found = distribution(torch.tensor([odd, *others]))
        assert not torch.isfinite(found.mean) and not torch.isfinite(found.variance)
        assert torch.isnan(found.quantiles).all() and torch.isnan(found.edges).all()
        assert found.quantiles.shape == (3,) and found.edges.shape == (BINS + 1,)
        assert found.counts.tolist() == [0] * BINS


NAMES_HEARD = ["conv2", "norm2", "noise2", "norm8"]


def hear(model, batch, params, names):
    heard = {}
    activations(model, batch, params, names, lambda name, x: heard.update({name: x.clone()}))
    return heard


class TestActivations:
    def test_are_those_of_a_training_pass(self, vgg, images, values):
        model = vgg("model=vgg_noisy")
        found = hear(model, images, values(model), NAMES_HEARD)
        heard = {}
        for name in NAMES_HEARD:
            model.get_submodule(name).register_forward_hook(
                lambda *io, name=name: heard.update({name: io[2].detach().clone()})
            )
        model(images[0])
        assert list(found) == NAMES_HEARD
        for name, value in found.items():
            assert torch.equal(value, heard[name]), name
        means = found["norm8"].mean((0, 2, 3))
        torch.testing.assert_close(means, model.get_submodule("norm8").bias.detach())

    def test_what_follows_in_place_does_not_reach_them(self, images):
        model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(inplace=True)).double()
        params = {name: p.detach() for name, p in model.named_parameters()}
        found = hear(model, images, params, ["0"])
        torch.testing.assert_close(found["0"], model[0](images[0]))

    def test_carry_no_graph(self, vgg, images):
        model = vgg("model=vgg_bn")
        found = hear(model, images, dict(model.named_parameters()), ["conv1"])
        assert not found["conv1"].requires_grad

    @pytest.mark.parametrize("place", ["before", "after"])
    def test_hooks_are_gone_when_the_pass_raises(self, place, vgg, images, values):
        model = vgg("model=vgg_bn")
        where = "conv1" if place == "before" else "linear9"
        own = model.get_submodule(where).register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            hear(model, images, values(model), ["conv2", "norm2"])
        own.remove()
        assert not any(module._forward_hooks for module in model.modules())
        model(images[0])

    def test_a_module_that_is_not_there(self, vgg, images, values):
        with pytest.raises(AttributeError, match="norm2"):
            model = vgg("model=vgg")
            hear(model, images, values(model), ["conv2", "norm2"])
