import pytest
import torch
from scipy import stats

from src.data.linear import FullBatch, linear


def test_y_is_one_matrix_times_x():
    x, y = linear(500, 10, seed=1)
    assert x.shape == y.shape == (500, 10) and x.dtype == y.dtype == torch.float64
    matrix = torch.linalg.lstsq(x, y).solution
    torch.testing.assert_close(x @ matrix, y, rtol=0, atol=1e-10)
    other, image = linear(20, 10, seed=1)  # the matrix does not depend on how many points there are
    torch.testing.assert_close(other @ matrix, image, rtol=0, atol=1e-10)


def test_points_and_matrix_are_standard_normal():
    pairs = [linear(100, 10, seed) for seed in range(50)]
    points = torch.cat([x.flatten() for x, _ in pairs])
    matrices = torch.cat([torch.linalg.lstsq(x, y).solution.flatten() for x, y in pairs])
    for drawn in (points, matrices):
        assert stats.kstest(drawn.numpy(), "norm").pvalue > 0.001


@pytest.mark.usefixtures("global_state_untouched")
def test_they_are_a_function_of_the_seed():
    first, again, other = linear(30, 5, 0), linear(30, 5, 0), linear(30, 5, 1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("start, left", [(0, 7), (3, 4), (7, 0)])
def test_the_full_batch_comes_at_every_step_left(start, left):
    batch = linear(4, 2, 0)
    batches = FullBatch(batch, steps=7, start=lambda: start)
    assert len(batches) == 7
    assert [b is batch for b in batches] == [True] * left
    batches.load_state_dict(batches.state_dict())
    assert len(list(batches)) == left
