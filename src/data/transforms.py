"""What happens to the pixels of a batch: augmentation, and the way to floats."""

import torch
from torch import Tensor
from torch.nn import functional

PADDING = 4


class Normaliser:
    """Pixels as a network takes them: uint8 [B, C, H, W] to float32, of the same shape.

    Computes (x / 255 - mean) / std for each channel, as one multiplication and one addition.
    """

    def __init__(
        self,
        mean: Tensor,
        std: Tensor,
        normalise: bool = True,
        channels_last: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        """Precompute the two factors.

        Args:
            mean: [C], of pixels in [0, 1].
            std: [C], likewise.
            normalise: Without, pixels are only brought to [0, 1].
            channels_last: Return batches in the channels-last memory format.
            device: Where the batches will be.
        """
        if not normalise:
            mean, std = torch.zeros_like(mean), torch.ones_like(std)
        scale, shift = 1 / (255 * std.double()), -mean.double() / std.double()
        self._scale = scale.to(device, torch.float32).view(-1, 1, 1)
        self._shift = shift.to(device, torch.float32).view(-1, 1, 1)
        self._format = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(self, images: Tensor) -> Tensor:
        """Return the batch as float32."""
        pixels = images.to(torch.float32, memory_format=self._format)
        return pixels.mul_(self._scale).add_(self._shift)


def crop_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to 4 pixels each way and mirror it with probability 1/2.

    Args:
        images: uint8 [B, C, H, W]. What is shifted in from outside is black.
        generator: On the CPU, so that every device draws the same.

    Returns:
        A new batch of the same shape.
    """
    count, channels, height, width = images.shape
    padded = functional.pad(images, (PADDING,) * 4)
    top, left = torch.randint(2 * PADDING + 1, (2, count, 1), generator=generator)
    mirrored = torch.randint(2, (count, 1), generator=generator).bool()
    rows = top + torch.arange(height)
    columns = left + torch.arange(width)
    columns = torch.where(mirrored, columns.flip(1), columns)
    # Both crop and flip are one gather in the flattened padded image.
    source = rows[:, :, None] * padded.shape[3] + columns[:, None, :]
    source = source.to(images.device).view(count, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, source).view_as(images)
