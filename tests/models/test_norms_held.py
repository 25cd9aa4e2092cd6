from math import inf

import pytest
import torch
from torch import Tensor, nn

from src.models.norms import holding_statistics, make_norm
from tests.models.norms import close, draw, lp_norm

KINDS = ["batch", "scratch", "l1", "l2", "linf"]
POWERS = {"l1": 1, "l2": 2, "linf": inf}


def hold(network: nn.Module, x: Tensor, step: int = 0) -> Tensor:
    with holding_statistics(network, step):
        return network(x)


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
            hold(network, x, batch)
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
        output = hold(network, x)
        before = {name: b.clone() for name, b in network.named_buffers()}
        halves = torch.cat([network(x[:4]), network(x[4:])])
        close(halves, network(x))
        assert torch.equal(output, network(x))  # of that very step, too
        for name, buffer in network.named_buffers():
            assert torch.equal(buffer, before[name]), name
        seen = self.inputs(network, x)[1].requires_grad_()
        (gradient,) = torch.autograd.grad(network[1](seen).sum(), seen)
        close(gradient, gradient[:1].expand_as(gradient))  # a batch's statistics would make it 0
        assert (gradient > 0).all()

    @pytest.mark.parametrize("kind", KINDS)
    def test_train_goes_back_to_the_batch_s(self, network, kind):
        held, plain, x = network(kind), network(kind), draw((9, 4))
        hold(held, 3 * x)
        assert not held[1].training and not held[4].training and held[0].training
        assert torch.equal(held.train()(x), plain(x))

    def test_a_network_without_statistics_is_left_as_it_is(self, settings):
        norm = make_norm("layer", settings().model, 5, False, True)
        network = nn.Sequential(nn.Linear(4, 5), norm)
        hold(network, torch.randn(3, 4))
        assert norm.training and not list(network.buffers())

    def test_no_hook_stays_behind_after_an_error(self, network):
        network = network("batch")
        with pytest.raises(RuntimeError):
            hold(network, torch.zeros(9, 3).double())
        assert not network[1]._forward_pre_hooks
