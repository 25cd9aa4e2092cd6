import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from src.compose import settings_of
from src.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
os.environ["BATCHNORM_ROOT"] = str(ROOT)  # as src.train sets it
torch.set_num_threads(1)


@functools.cache
def _composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", list(overrides))


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def composed() -> Callable[..., DictConfig]:
    """The configuration the command line composes from some overrides."""
    return _composed


@pytest.fixture(scope="session")
def settings() -> Callable[..., Settings]:
    """The settings the command line makes of some overrides."""
    return lambda *overrides: settings_of(_composed(*overrides))


@pytest.fixture
def global_state_untouched() -> Iterator[None]:
    """Fails the test if it moved torch's global random stream."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)
