"""Where a run comes from: versions, commit, machine."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "wandb")


def versions() -> dict[str, str]:
    """Return those of Python and of the packages that a training depends on."""
    packages = {package: version(package) for package in _PACKAGES}
    return {"python": platform.python_version()} | packages


def provenance() -> dict[str, Any]:
    """Return ``machine`` and ``git``: the commit, and whether the tree was dirty.

    Each of the two is null where git cannot tell: it, or the repository, may not be there.
    """
    return {
        "git": {"commit": _git("rev-parse", "HEAD"), "dirty": _dirty()},
        "machine": {"host": platform.node(), "platform": platform.platform()},
    }


def _dirty() -> bool | None:
    changes = _git("status", "--porcelain")
    return None if changes is None else bool(changes)


def _git(*arguments: str) -> str | None:
    root = Path(__file__).parent
    try:
        return subprocess.check_output(
            ["git", *arguments], cwd=root, text=True, stderr=subprocess.DEVNULL, timeout=10
        ).strip()
    except (OSError, subprocess.SubprocessError):
        return None
