"""What a run is fed with, whatever its data."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from src.catalogue import TRAIN_EVAL_IMAGES
from src.data.cifar10 import cifar10
from src.data.dataset import Dataset
from src.data.digits import digits
from src.data.linear import FullBatch, linear
from src.data.loader import Batches, evaluation_batches
from src.data.mnist import mnist
from src.data.steps import Steps
from src.data.transforms import Normaliser
from src.models.evaluation import BatchSource
from src.settings import (
    ColourSettings,
    GreySettings,
    ImageSettings,
    LinearSettings,
    PointsSettings,
    Settings,
)


@dataclass(frozen=True)
class Feed:
    """Batches of inputs and targets, on the device.

    Attributes:
        training: One for each step from the one where the training is.
        fixed: The training data that are evaluated, anew at each call.
        test: The test set, likewise; None where there is none.
        classes: How many classes there are; None where there are none.
        variant: Which copy of the data this is, to be told with any number obtained on it.
    """

    training: Steps
    fixed: BatchSource
    test: BatchSource | None
    classes: int | None
    variant: str


def feed(
    settings: Settings, device: torch.device, channels_last: bool, start: Callable[[], int]
) -> Feed:
    """Load or draw a run's data.

    Args:
        settings: The run's.
        device: Where the batches will be.
        channels_last: Return images in the channels-last memory format.
        start: Tells, when the training begins, the step to begin at.

    Raises:
        DataError: They cannot be had.
    """
    if isinstance(settings.data, ImageSettings):
        return _images(settings, settings.data, device, channels_last, start)
    model, data = settings.model, settings.data
    assert isinstance(model, LinearSettings) and isinstance(data, PointsSettings)
    x, y = (t.to(device) for t in linear(data.points, model.dimension, settings.seed))
    training = FullBatch((x, y), settings.max_steps, start)
    return Feed(training, lambda: [(x, y)], test=None, classes=None, variant="linear")


def _images(
    settings: Settings,
    source: ImageSettings,
    device: torch.device,
    channels_last: bool,
    start: Callable[[], int],
) -> Feed:
    dataset = _dataset(source)
    normaliser = Normaliser(dataset.mean, dataset.std, source.normalise, channels_last, device)
    images, labels = dataset.train_images.to(device), dataset.train_labels.to(device)

    def all_of(images: Tensor, labels: Tensor) -> BatchSource:
        return lambda: evaluation_batches(images, labels, source.batch_size, normaliser)

    return Feed(
        training=Batches(
            images,
            labels,
            source.batch_size,
            steps=settings.max_steps,
            seed=settings.seed,
            normaliser=normaliser,
            augment=isinstance(source, ColourSettings) and source.augment,
            start=start,
        ),
        fixed=all_of(images[:TRAIN_EVAL_IMAGES], labels[:TRAIN_EVAL_IMAGES]),
        test=all_of(dataset.test_images.to(device), dataset.test_labels.to(device)),
        classes=dataset.classes,
        variant=dataset.variant,
    )


def _dataset(source: ImageSettings) -> Dataset:
    root = Path(source.root)
    if isinstance(source, GreySettings):
        return mnist(source.name, root, source.download, source.binarise)
    assert isinstance(source, ColourSettings)
    if source.name == "digits":
        return digits()
    return cifar10(root, source.download, Path(source.cache) if source.cache else None)
