"""When noise is drawn anew."""

import pytest
import torch
from torch import Tensor

from src.models.noise import Noise
from tests.models.noise import SEVERAL_BLOCKS, drawn, noise


def at_evaluation(layer: Noise, a: Tensor, batch: int, number: int) -> Tensor:
    layer.clock.evaluation = (batch, number)
    try:
        return layer(a).clone()
    finally:
        layer.clock.evaluation = None


class TestTheClock:
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
        a = torch.zeros(1, 4)
        sigma, mu = noise(r_mu=0.0, r_sigma=0.0).draw(a)
        assert sigma[0].tolist() == pytest.approx([1.1214277, 1.1367873, 1.0076877, 1.1410571])
        assert mu[0].tolist() == pytest.approx([-0.2392238, 0.4048296, 0.4810459, -0.4631089])
        s, _ = noise(n_mu=0.0, n_sigma=1.0, r_mu=1.0, r_sigma=1.0).draw(a)
        assert s[0].tolist() == pytest.approx([-0.3800154, 1.5700185, 0.8911914, 1.8022113])
        _, m = noise(n_mu=0.0, r_mu=1.0).draw(torch.zeros(1, 6))
        assert m.mul(2**16)[0].tolist() == [-9677, -61745, 43129, 37983, -52677, -35711]

    def test_the_global_stream_is_neither_read_nor_moved(self):
        first = drawn(self.A)
        with torch.random.fork_rng():
            torch.manual_seed(7)
            before = torch.get_rng_state()
            assert torch.equal(drawn(self.A), first)
            assert torch.equal(torch.get_rng_state(), before)


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
        seen = [noise(seed, 0, n, redrawn=False)(self.A) for seed in (0, 1) for n in (1, 2)]
        for i, one in enumerate(seen):
            assert not any(torch.equal(one, other) for other in seen[:i])

    @pytest.mark.parametrize("relative", [False, True])
    def test_expected_it_is_each_unit_s_own_mean_and_scale(self, relative):
        layer = noise(redrawn=False, relative=relative)
        layer.expected = True
        whole = noise(r_mu=0.0, r_sigma=0.0, relative=relative)(self.A)
        torch.testing.assert_close(layer(self.A), whole)
        layer.clock.step = 5
        torch.testing.assert_close(layer(self.A), whole)
