"""Downloads: whole or not at all, once for all processes, and never waiting forever."""

import socket
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from src.data.dataset import DataError

TIMEOUT = 10.0
"""Seconds without an answer after which a download gives up; urllib would wait forever."""


def fetch_into(root: Path, folder: str, fetch: Callable[[Path], object], remedy: str) -> None:
    """Make ``root / folder``, unless another process has done so meanwhile.

    Args:
        root: Made if need be.
        folder: Appears all at once.
        fetch: Makes ``folder`` in the folder it is given.
        remedy: What to do where that fails; the end of the error's line.

    Raises:
        DataError: The network or the server does not answer, or ``root`` is not writable.
    """
    timeout = socket.getdefaulttimeout()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{folder}.download.lock"):
            if (root / folder).is_dir():
                return
            with TemporaryDirectory(dir=root) as temporary:
                socket.setdefaulttimeout(TIMEOUT)
                fetch(Path(temporary))
                Path(temporary, folder).replace(root / folder)
    except (OSError, RuntimeError, HTTPException) as error:
        told = " ".join(str(error).split())
        raise DataError(f"{root / folder} cannot be downloaded ({told}): {remedy}") from error
    finally:
        socket.setdefaulttimeout(timeout)
