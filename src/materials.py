"""What a run trains with, but for its network: the device, the data and the batches."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from src import data
from src.models.evaluation import Batches
from src.settings import Settings

TRAIN_EVAL_IMAGES = 10_000


@dataclass(frozen=True)
class Materials:
    """What a run trains with, but for its network.

    Attributes:
        device: Where.
        channels_last: Whether images and weights are laid out so.
        dataset: What it is trained on.
        batches: The training batches.
        fixed: Gives the fixed training images, in batches.
        test: Gives the test images, in batches.
    """

    device: torch.device
    channels_last: bool
    dataset: data.Dataset
    batches: data.Batches
    fixed: Batches
    test: Batches


def prepare(settings: Settings, steps: int, start: Callable[[], int]) -> Materials:
    """Make what a run trains with for its first ``steps`` steps, from that of ``start()`` on."""
    torch.set_num_threads(settings.threads or torch.get_num_threads())
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = _device(settings.accelerator)
    # Measured faster on the CPU (by a fifth); on CUDA it is the layout of the bf16 kernels.
    channels_last = device.type == "cpu" or settings.precision == "bf16-mixed"

    source = settings.data
    cache = None if source.cache is None else Path(source.cache)
    dataset = data.load(source.name, Path(source.root), source.download, cache)
    normaliser = data.Normaliser(dataset.mean, dataset.std, source.normalise, channels_last, device)
    images, labels = dataset.train_images.to(device), dataset.train_labels.to(device)
    batches = data.Batches(
        images,
        labels,
        source.batch_size,
        steps=steps,
        seed=settings.seed,
        normaliser=normaliser,
        augment=source.augment,
        start=start,
    )

    def whole(images: Tensor, labels: Tensor) -> Batches:
        return lambda: data.evaluation_batches(images, labels, source.batch_size, normaliser)

    fixed = whole(images[:TRAIN_EVAL_IMAGES], labels[:TRAIN_EVAL_IMAGES])
    test = whole(dataset.test_images.to(device), dataset.test_labels.to(device))
    return Materials(device, channels_last, dataset, batches, fixed, test)


def _device(accelerator: str) -> torch.device:
    """Return the device to train on; ``auto`` takes a CUDA device where there is one."""
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise RuntimeError("accelerator=gpu, but torch sees no CUDA device: allowed is cpu or auto")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
