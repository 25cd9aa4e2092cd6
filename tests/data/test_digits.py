import hashlib

import pytest
import torch
from sklearn.datasets import load_digits

from src.data.dataset import Dataset
from src.data.digits import digits


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return digits()


def test_form_is_that_of_cifar10(dataset: Dataset):
    assert dataset.train_images.shape == (1_437, 3, 32, 32)
    assert dataset.test_images.shape == (360, 3, 32, 32)
    assert (dataset.train_images.dtype, dataset.train_labels.dtype) == (torch.uint8, torch.int64)
    assert (dataset.classes, dataset.variant) == (10, "digits")


def test_every_digit_is_there_once_and_with_its_label(dataset: Dataset):
    images = torch.cat([dataset.train_images, dataset.test_images])
    labels = torch.cat([dataset.train_labels, dataset.test_labels])
    small = images[:, 0, ::4, ::4].flatten(1)
    assert torch.equal(images[:, 1].double(), images[:, 0].double())
    assert torch.equal(
        images[:, 2], small.view(-1, 8, 8).repeat_interleave(4, 1).repeat_interleave(4, 2)
    )
    data, target = load_digits(return_X_y=True)
    levels = (small.double() * 16 / 255).round().int().tolist()
    ours = sorted((*row, label) for row, label in zip(levels, labels.tolist(), strict=True))
    theirs = sorted(
        (*row, label) for row, label in zip(data.tolist(), target.tolist(), strict=True)
    )
    assert ours == theirs


def test_values_span_the_bytes(dataset: Dataset):
    values = dataset.train_images.unique()
    assert values.tolist() == [round(level * 255 / 16) for level in range(17)]


def test_both_splits_are_balanced(dataset: Dataset):
    assert dataset.train_labels.bincount().min() > 130
    assert dataset.test_labels.bincount().min() > 25


def test_split_is_fixed(dataset: Dataset):
    again = digits()
    assert torch.equal(again.train_images, dataset.train_images)
    labels = bytes(dataset.train_labels.tolist())
    assert hashlib.md5(labels).hexdigest() == "7cbc1ca132d6a7d67bb31f5307b259e1"


def test_statistics_are_of_the_training_images(dataset: Dataset):
    floats = dataset.train_images.double() / 255
    torch.testing.assert_close(dataset.mean, floats.mean((0, 2, 3)))
    torch.testing.assert_close(dataset.std, floats.std((0, 2, 3), correction=0))
