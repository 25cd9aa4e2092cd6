"""The data sets, held in memory, and the batches cut from them."""

from pathlib import Path

from src.data.dataset import DataError, Dataset
from src.data.loader import Batches, evaluation_batches
from src.data.transforms import Normaliser

__all__ = ["Batches", "DataError", "Dataset", "Normaliser", "evaluation_batches", "load"]


def load(name: str, root: Path, download: bool = True, cache: Path | None = None) -> Dataset:
    """Return the data set called ``name``: ``cifar10``, or ``digits``, which needs no file.

    The other arguments are those of `src.data.cifar10.cifar10`.

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
    raise ValueError(f"no data set is called {name!r}: choose cifar10 or digits")
