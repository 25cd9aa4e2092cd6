import math

import numpy as np
import pytest
import torch
from torch import nn

from src import models
from src.catalogue import IMAGE_SETS


@pytest.fixture(scope="module")
def build(settings):
    return lambda *overrides: models.build(settings("model=mlp", *overrides), 10)


@pytest.mark.parametrize("name, norm", [("mlp", []), ("mlp_bn", ["norm"])])
def test_layers_are_the_paper_s(settings, name, norm):
    model = models.build(settings(f"model={name}"), 10)
    expected = ["flatten"]
    for layer in (1, 2, 3):
        expected += [f"{kind}{layer}" for kind in ("linear", *norm, "activation")]
    assert [n for n, _ in model.network.named_children()] == [*expected, "linear4"]
    shapes = [m.weight.shape for m in model.network if isinstance(m, nn.Linear)]
    assert shapes == [(100, 784), (100, 100), (100, 100), (10, 100)]
    biases = [m.bias is not None for m in model.network if isinstance(m, nn.Linear)]
    assert biases == [not norm] * 3 + [True]
    assert all(isinstance(m, nn.Sigmoid) for n, m in model.network.named_children() if "act" in n)


@pytest.mark.parametrize("data", IMAGE_SETS)
def test_takes_the_images_of_every_set(build, data):
    shape = IMAGE_SETS[data].shape
    logits = build(f"data={data}", "model.hidden_layers=1", "model.units=7")(torch.rand(4, *shape))
    assert logits.shape == (4, 10) and logits.isfinite().all()


def test_output_and_loss_are_those_of_numpy(build):
    model = build("seed=3", "model.units=5", "model.hidden_layers=2").double()
    images = torch.rand(6, 1, 28, 28, dtype=torch.float64)
    labels = torch.arange(6)
    z = images.numpy().reshape(6, 784)
    for layer in (1, 2):
        weight = model.network.get_parameter(f"linear{layer}.weight").detach().numpy()
        z = 1 / (1 + np.exp(-(z @ weight.T)))
    logits = z @ model.network.linear3.weight.detach().numpy().T
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert model.loss(model(images), labels).item() == pytest.approx(
        -logs[np.arange(6), labels].mean(), rel=1e-12
    )


def test_both_start_from_equal_weights_near_chance(settings):
    plain, normalised = (models.build(settings(f"model={m}"), 10) for m in ("mlp", "mlp_bn"))
    for layer in (1, 2, 3, 4):
        name = f"network.linear{layer}.weight"
        assert torch.equal(plain.get_parameter(name), normalised.get_parameter(name))
    loss = plain.loss(plain(torch.rand(60, 1, 28, 28)), torch.arange(60) % 10)
    assert loss.item() == pytest.approx(math.log(10), abs=0.7)
