"""What every data set is: images and labels in memory, and how bright the images are."""

from dataclasses import dataclass

import torch
from torch import Tensor


class DataError(Exception):
    """A data set that cannot be had: one line that names the file and the remedy."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled set of images, split into training and test images.

    Attributes:
        train_images: uint8 [N, C, H, W], 0 to 255: RGB, or grey where C is 1.
        train_labels: int64 [N], 0 to ``classes`` - 1.
        test_images: uint8 [M, C, H, W].
        test_labels: int64 [M].
        classes: How many classes there are.
        variant: Which copy of the data this is, to be told with any number obtained on it.
        mean: float64 [C], of each channel of the training images, pixels in [0, 1].
        std: float64 [C], likewise.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int
    variant: str
    mean: Tensor
    std: Tensor


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel, of pixels in [0, 1].

    Args:
        images: uint8 [N, C, H, W].

    Returns:
        Two float64 tensors [C], exact up to rounding: they come from the 256 counts of a channel,
        so the images are never held as floats.
    """
    counts = torch.stack(
        [torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)]
    ).double()
    share = counts / counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(1)
    return mean, variance.sqrt()
