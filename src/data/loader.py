"""Batches cut from images in memory: no worker processes, no state but the step."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from src.data.steps import Batch, Steps
from src.data.transforms import Normaliser, crop_and_flip
from src.randomness import generator


class Batches(Steps):
    """Training batches by step: batch t is a function of (seed, t) alone.

    An epoch is a random order of the images without its last partial batch. Batches are on the
    device of the images.

    Attributes:
        steps_per_epoch: How many batches make an epoch.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        steps: int,
        seed: int,
        normaliser: Normaliser,
        augment: bool = False,
        start: Callable[[], int] = lambda: 0,
    ) -> None:
        """Cut nothing yet.

        Args:
            images: uint8 [N, C, H, W].
            labels: int64 [N], on the same device.
            batch_size: Images a batch.
            steps: How many batches a whole training takes.
            seed: Names the random streams ``order`` and ``augment``.
            normaliser: Makes floats of the pixels; on the same device.
            augment: Whether to crop and flip at random.
            start: Tells, when iteration begins, the step to begin at.

        Raises:
            ValueError: A batch is larger than the data.
        """
        if batch_size > len(images):
            raise ValueError(f"a batch of {batch_size} is larger than the data, {len(images)}")
        super().__init__(steps, start)
        self.steps_per_epoch = len(images) // batch_size
        self._images, self._labels = images, labels
        self._batch_size, self._seed = batch_size, seed
        self._normaliser, self._augment = normaliser, augment
        self._epoch, self._order = -1, torch.empty(0)

    def batch(self, step: int) -> Batch:
        """Return images, float32 [B, C, H, W], and labels, int64 [B], of one step from 0."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            order = torch.randperm(
                len(self._images), generator=generator(self._seed, "order", epoch)
            )
            self._epoch, self._order = epoch, order.to(self._images.device)
        rows = self._order.narrow(0, position * self._batch_size, self._batch_size)
        images = self._images.index_select(0, rows)
        if self._augment:
            images = crop_and_flip(images, generator(self._seed, "augment", step))
        return self._normaliser(images), self._labels.index_select(0, rows)


def evaluation_batches(
    images: Tensor, labels: Tensor, batch_size: int, normaliser: Normaliser
) -> Iterator[Batch]:
    """Yield all images, float32 [B, C, H, W], and labels, int64 [B], in order.

    The last batch may be smaller.
    """
    for rows, targets in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        yield normaliser(rows), targets
