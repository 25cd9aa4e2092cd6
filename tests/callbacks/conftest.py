import pytest
import torch

from src.catalogue import VARIANTS
from src.data import feed
from src.runs.folder import RunFolder
from src.runs.needs import needs
from src.training import train
from tests.callbacks.trained import TINY

NETWORKS = {
    "vgg": (
        *("data=digits", "data.batch_size=16"),
        *("model.depth=11", "model.width=0.04", "model.head=linear"),
    ),
    "dln": ("data=linear", "data.points=50", "model.layers=4"),
    "mlp": ("data=digits", "data.batch_size=16", "model.units=20"),
}
FEW_IMAGES = 32


@pytest.fixture
def run(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "TRAIN_EVAL_IMAGES", FEW_IMAGES)

    def made(name, *overrides):
        model = next((o[6:] for o in overrides if o.startswith("model=")), "vgg_bn")
        chosen = settings(*TINY, *NETWORKS[VARIANTS[model].family], *overrides)
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir(exist_ok=True)
        torch.manual_seed(3)
        assert train(chosen, needs(chosen), folder, name, {}) == "completed"
        return folder

    return made
