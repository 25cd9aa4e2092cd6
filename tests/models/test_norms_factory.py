from math import inf

import pytest
import torch
from torch import nn

from src.models.norms import BatchNorm, LpNorm, make_norm
from tests.models.norms import close, draw


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

    @pytest.mark.parametrize("kind", ["batch", "l1", "l2", "linf"])
    def test_detached_statistics_are_the_batch_s_and_constants_to_the_gradient(self, make, kind):
        whole, norm = make(kind), make(kind, "model.statistics=detached")
        x = (2 + 3 * draw((4, 8, 5, 5))).requires_grad_()
        y = norm(x)
        close(y, whole(x))
        for buffer, other in zip(norm.buffers(), whole.buffers(), strict=True):
            close(buffer, other)
        weights = draw((4, 8, 5, 5))
        (gradient,) = torch.autograd.grad((y * weights).sum(), x)
        slope = y / (x - x.mean((0, 2, 3), keepdim=True))  # one number a unit
        close(gradient, weights * slope)

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
