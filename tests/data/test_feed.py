"""What a run is fed with."""

import pytest
import torch

from src.catalogue import VARIANTS
from src.data import feed as module
from src.data.digits import digits
from src.data.feed import feed
from src.data.transforms import Normaliser


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


@pytest.mark.parametrize("normalise", [True, False])
def test_evaluations_are_of_the_first_training_images_and_of_all_test_images(
    settings, monkeypatch, normalise
):
    monkeypatch.setattr(module, "TRAIN_EVAL_IMAGES", 100)
    chosen = settings("data=digits", f"data.normalise={str(normalise).lower()}")
    fed = feed(chosen, torch.device("cpu"), False, start=lambda: 0)
    dataset = digits()
    known = Normaliser(dataset.mean, dataset.std, normalise)
    for batches, images, labels in (
        (fed.fixed, dataset.train_images[:100], dataset.train_labels[:100]),
        (fed.test, dataset.test_images, dataset.test_labels),
    ):
        given = [torch.cat(parts) for parts in zip(*batches(), strict=True)]
        assert torch.equal(given[0], known(images)) and torch.equal(given[1], labels)
    batch, _ = fed.training.batch(0)
    assert (batch.min() < 0) == normalise


def test_images_are_augmented_where_asked_for(settings):
    def batch(augment):
        chosen = settings("data=digits", f"data.augment={augment}")
        return feed(chosen, torch.device("cpu"), False, start=lambda: 0).training.batch(0)

    (plain, labels), (moved, same) = batch("false"), batch("true")
    assert torch.equal(labels, same) and not torch.equal(plain, moved)
