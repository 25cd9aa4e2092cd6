"""Where a run comes from: versions, commit, machine."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "wandb")


def provenance() -> dict[str, Any]:
    """Return ``versions``, ``machine`` and ``git``: the commit, and whether the tree was dirty.

    Both are null where git, or the repository, is not there.
    """
    return {
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in _PACKAGES},
        "git": {"commit": (commit := _git("rev-parse", "HEAD")), "dirty": _dirty(commit)},
        "machine": {"host": platform.node(), "platform": platform.platform()},
    }


def _dirty(commit: str | None) -> bool | None:
    return None if commit is None else bool(_git("status", "--porcelain"))


def _git(*arguments: str) -> str | None:
    root = Path(__file__).parent
    try:
        return subprocess.check_output(
            ["git", *arguments], cwd=root, text=True, stderr=subprocess.DEVNULL, timeout=10
        ).strip()
    except (OSError, subprocess.SubprocessError):
        return None
