import functools
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from src.compose import settings_of
from src.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
os.environ["BATCHNORM_ROOT"] = str(ROOT)  # as src.train sets it
torch.set_num_threads(1)
# Where a change is judged, the same examples each time; at a desk, new ones. None is timed.
hypothesis.settings.register_profile("desk", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if "CI" in os.environ else "desk")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the file that takes longest and mostly waits, so that no worker ends alone."""
    items.sort(key=lambda item: "slurm" not in item.keywords)


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
    """The settings the command line makes of some overrides.

    Hydra takes a third of a second to compose, so it does so once for each choice of groups;
    plain keys are set afterwards, as Hydra does.
    """
    groups = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()}

    def chosen(*overrides: str) -> Settings:
        choices = [o for o in overrides if o.partition("=")[0] in groups]
        values = OmegaConf.from_dotlist([o for o in overrides if o not in choices])
        return settings_of(OmegaConf.merge(_composed(*sorted(choices)), values))

    return chosen


@pytest.fixture
def global_state_untouched() -> Iterator[None]:
    """Fails the test if it moved torch's global random stream."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Take a worker more than there are cores: the tests of SLURM and W&B mostly wait."""
    return (yield) + ("PYTEST_XDIST_AUTO_NUM_WORKERS" not in os.environ)
