"""Scikit-learn's handwritten digits, shipped in its wheel: a data set that needs no file."""

import numpy as np
import torch

from src.data.dataset import Dataset, channel_statistics

TRAIN_SIZE = 1_437


def digits() -> Dataset:
    """Return the 1,797 digits, 8x8 and grey, in the form of CIFAR-10.

    Each pixel becomes a block of 4x4 (nearest neighbour: no rounding to differ between machines),
    its 17 levels 0 to 255, its grey three equal channels. 1,437 of them train and 360 test.
    """
    from sklearn.datasets import load_digits

    data, target = load_digits(return_X_y=True)
    levels = torch.from_numpy(np.rint(np.asarray(data) * (255 / 16)).astype(np.uint8))
    small = levels.view(-1, 1, 8, 8).expand(-1, 3, -1, -1)
    images = small.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    labels = torch.from_numpy(np.asarray(target, dtype=np.int64))
    # NumPy froze this generator, torch promises nothing: the split is the same on every version.
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(labels)))
    train, test = order[:TRAIN_SIZE], order[TRAIN_SIZE:]
    mean, std = channel_statistics(images[train])
    return Dataset(
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        classes=10,
        variant="digits",
        mean=mean,
        std=std,
    )
