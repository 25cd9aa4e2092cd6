import pytest
import torch

from src.models.clock import Clock
from src.models.dropout import Dropout

X = torch.ones(500, 400)


def test_evaluation_gives_the_input():
    assert Dropout(0.5, 1, Clock(0)).eval()(X) is X


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_entries_are_kept_with_the_stated_probability_and_expectation(probability):
    y = Dropout(probability, 1, Clock(0))(X)
    kept = 1 - probability
    error = (kept * probability / X.numel()) ** 0.5
    assert (y > 0).float().mean().item() == pytest.approx(kept, abs=4 * error)
    assert y.mean().item() == pytest.approx(1, abs=4 * error / kept)
    torch.testing.assert_close(y.unique(), torch.tensor([0, 1 / kept]))


def test_same_step_has_the_same_mask():
    clock = Clock(0)
    dropout = Dropout(0.5, 1, clock)
    first = dropout(X)
    assert torch.equal(dropout(X), first)
    clock.step = 1
    assert not torch.equal(dropout(X), first)
    clock.step = 0
    assert torch.equal(dropout(X), first)


def test_layers_and_seeds_are_uncorrelated():
    masks = [Dropout(0.5, layer, Clock(seed))(X) for layer in (1, 2) for seed in (0, 1)]
    correlation = torch.corrcoef(torch.stack(masks).flatten(1)) - torch.eye(4)
    assert correlation.abs().max() < 5 / X.numel() ** 0.5


def test_gradient_passes_where_entries_are_kept():
    x = X.clone().requires_grad_()
    y = Dropout(0.25, 1, Clock(0))(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, y)  # of ones


def test_the_global_stream_is_not_moved(global_state_untouched):
    Dropout(0.5, 1, Clock(0))(X)
