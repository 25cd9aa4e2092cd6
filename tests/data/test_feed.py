"""What a run is fed with."""

import pytest
import torch

from src.data.feed import feed
from src.settings import VARIANTS


@pytest.mark.parametrize("step", [0, 10, 30])
def test_variants_of_one_seed_see_equal_batches(settings, step):
    def batch(model, *overrides):
        chosen = settings("data=digits", f"model={model}", "data.augment=true", *overrides)
        training = feed(chosen, torch.device("cpu"), False, start=lambda: 0).training
        return training.batch(step)

    images, labels = batch("vgg")
    assert not torch.equal(images, batch("vgg", "seed=1")[0])
    for model in (name for name, variant in VARIANTS.items() if variant.family == "vgg"):
        ours = batch(model, "optim.lr=0.5", "max_steps=40")
        assert torch.equal(ours[0], images) and torch.equal(ours[1], labels)
