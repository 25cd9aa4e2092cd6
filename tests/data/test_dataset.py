import torch

from src.data.dataset import channel_statistics


def test_statistics_equal_those_of_the_floats():
    images = torch.randint(256, (50, 3, 8, 8), dtype=torch.uint8)
    images[:, 1] //= 7
    floats = images.double() / 255
    mean, std = channel_statistics(images)
    torch.testing.assert_close(mean, floats.mean((0, 2, 3)), rtol=1e-13, atol=0)
    torch.testing.assert_close(std, floats.std((0, 2, 3), correction=0), rtol=1e-13, atol=0)


def test_statistics_of_a_constant():
    mean, std = channel_statistics(torch.full((5, 3, 4, 4), 51, dtype=torch.uint8))
    assert mean.tolist() == [0.2] * 3
    assert std.tolist() == [0] * 3
