"""The data sets, held in memory, and the batches cut from them."""

from pathlib import Path

from src.data.dataset import DataError, Dataset
from src.data.loader import Batches, evaluation_batches
from src.data.transforms import Normaliser

__all__ = ["Batches", "DataError", "Dataset", "Normaliser", "evaluation_batches", "load"]


def load(
    name: str,
    root: Path,
    download: bool = True,
    cache: Path | None = None,
    binarise: bool = False,
) -> Dataset:
    """Return the images called ``name``; ``digits`` need no file.

    The other arguments are those of `src.data.cifar10.cifar10` and `src.data.mnist.mnist`.

    Raises:
        DataError: The data set is not there, or a file of it is damaged.
        ValueError: There is no data set of this name.
    """
    # Imported here, so that src.data.cifar10 and src.data.digits name the modules.
    if name == "cifar10":
        from src.data.cifar10 import cifar10

        return cifar10(root, download, cache)
    if name == "digits":
        from src.data.digits import digits

        return digits()
    if name in ("mnist", "fashion_mnist"):
        from src.data.mnist import mnist

        return mnist(name, root, download, binarise)
    raise ValueError(f"no images are called {name!r}: choose cifar10, digits, mnist, fashion_mnist")
