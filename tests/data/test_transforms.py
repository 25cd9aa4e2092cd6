import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from src.data.transforms import Normaliser, crop_and_flip

MEAN = torch.tensor([0.49, 0.48, 0.02], dtype=torch.float64)
STD = torch.tensor([0.25, 0.24, 0.9], dtype=torch.float64)
LEVELS = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 1, 1)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels_last", [False, True])
def test_normalised_as_in_float64(channels_last: bool):
    batch = Normaliser(MEAN, STD, channels_last=channels_last)(LEVELS)
    expected = (LEVELS.double() / 255 - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
    assert batch.dtype == torch.float32
    torch.testing.assert_close(batch.double(), expected, rtol=0, atol=5e-7)


def test_without_normalisation_pixels_are_fractions():
    batch = Normaliser(MEAN, STD, normalise=False)(LEVELS)
    torch.testing.assert_close(batch.double(), LEVELS.double() / 255, rtol=1e-7, atol=0)
    assert (batch.min().item(), batch.max().item()) == (0, 1)


@pytest.mark.parametrize("channels_last", [False, True])
def test_memory_format_is_the_one_asked_for(channels_last: bool):
    batch = Normaliser(MEAN, STD, channels_last=channels_last)(LEVELS)
    assert batch.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert batch.is_contiguous() != channels_last


def test_images_stay_as_they_were():
    images = LEVELS.clone()
    Normaliser(MEAN, STD)(images)
    crop_and_flip(images, generator(0))
    assert torch.equal(images, LEVELS)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 20), size=st.integers(1, 33))
def test_crop_and_flip_equals_one_image_at_a_time(seed: int, count: int, size: int):
    images = torch.randint(256, (count, 3, size, size + 1), dtype=torch.uint8)
    draws = generator(seed)
    shifts = torch.randint(9, (2, count), generator=draws).T.tolist()
    mirrored = torch.randint(2, (count,), generator=draws).tolist()
    expected = []
    for image, (top, left), mirror in zip(images, shifts, mirrored, strict=True):
        crop = functional.pad(image, (4, 4, 4, 4))[:, top : top + size, left : left + size + 1]
        expected.append(crop.flip(2) if mirror else crop)
    assert torch.equal(crop_and_flip(images, generator(seed)), torch.stack(expected))


def test_every_shift_and_flip_is_drawn_equally():
    # Each pixel tells its own place, from 1; 0 is padding. Pixel (16, 16) is never padding.
    image = torch.zeros(2, 32, 32, dtype=torch.uint8)
    image[0] = torch.arange(1, 33)[:, None]
    image[1] = torch.arange(1, 33)
    count = 16_200
    batch = crop_and_flip(image.expand(count, -1, -1, -1), generator(0)).long()
    mirrored = (batch[:, 1, 16, 16] > batch[:, 1, 16, 17]).long()
    row = batch[:, 0, 16, 16] - 17
    column = batch[:, 1, 16, 16] - torch.where(mirrored.bool(), 16, 17)
    assert row.abs().max() == column.abs().max() == 4
    cells = ((row + 4) * 9 + column + 4) * 2 + mirrored
    # 162 cells of 100 expected each: five standard deviations either way.
    counts = cells.bincount(minlength=162)
    assert counts.min() > 50
    assert counts.max() < 150
