import pytest
import torch

from src.models.moment import Dropout, Moment

X = torch.ones(500, 400)


def test_key_names_the_step_and_in_evaluation_the_batch_and_pass():
    moment = Moment(seed=5, step=7)
    assert moment.key("noise", 2) == (5, "noise", 7, 2)
    moment.evaluation = (3, 1)
    assert moment.key("noise", 2) == (5, "noise_eval", 7, 2, 3, 1)


class TestDropout:
    def test_evaluation_gives_the_input(self):
        assert Dropout(0.5, 1, Moment(0)).eval()(X) is X

    @pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
    def test_entries_are_kept_with_the_stated_probability_and_expectation(self, probability):
        y = Dropout(probability, 1, Moment(0))(X)
        kept = 1 - probability
        error = (kept * probability / X.numel()) ** 0.5
        assert (y > 0).float().mean().item() == pytest.approx(kept, abs=4 * error)
        assert y.mean().item() == pytest.approx(1, abs=4 * error / kept)
        torch.testing.assert_close(y.unique(), torch.tensor([0, 1 / kept]))

    def test_same_step_has_the_same_mask(self):
        moment = Moment(0)
        dropout = Dropout(0.5, 1, moment)
        first = dropout(X)
        assert torch.equal(dropout(X), first)
        moment.step = 1
        assert not torch.equal(dropout(X), first)
        moment.step = 0
        assert torch.equal(dropout(X), first)

    def test_layers_and_seeds_are_uncorrelated(self):
        masks = [Dropout(0.5, layer, Moment(seed))(X) for layer in (1, 2) for seed in (0, 1)]
        correlation = torch.corrcoef(torch.stack(masks).flatten(1)) - torch.eye(4)
        assert correlation.abs().max() < 5 / X.numel() ** 0.5

    def test_gradient_passes_where_entries_are_kept(self):
        x = X.clone().requires_grad_()
        y = Dropout(0.25, 1, Moment(0))(x)
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert torch.equal(gradient, y)  # of ones

    def test_the_global_stream_is_not_moved(self, global_state_untouched):
        Dropout(0.5, 1, Moment(0))(X)
